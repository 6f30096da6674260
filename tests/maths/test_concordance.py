"""Concordance by hand, against another definition, and where there is nothing to compare."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from mechgrok.maths.concordance import (
    apart,
    before,
    bootstrap_concordance,
    concordance,
    interval,
)
from mechgrok.maths.survival import Time

# Events at 2, 4 and 4, censored at 3 and at 4. Comparable: the event at 2 with all four others,
# each event at 4 with the run censored at 4. Not: the two events at 4 with each other, nor the run
# censored at 3 with the events at 4.
HAND = [Time(1, 2), Time(3, 4), Time(2, 4), Time(3, None), Time(4, None)]
SCORES = np.array([0.9, 0.9, 0.2, 0.1, 0.5])


def test_the_pairs_worked_out_by_hand() -> None:
    pairs = {(int(i), int(j)) for i, j in zip(*np.nonzero(before(HAND)), strict=True)}
    assert pairs == {(0, 1), (0, 2), (0, 3), (0, 4), (1, 4), (2, 4)}


def test_concordance_worked_out_by_hand() -> None:
    """A tie (0, 1), right (0, 2), (0, 3), (0, 4), (1, 4), wrong (2, 4): 4.5 of 6."""
    assert concordance(SCORES, before(HAND)) == 4.5 / 6
    assert concordance(-SCORES, before(HAND)) == 1.5 / 6


def test_without_censoring_it_is_kendalls_tau() -> None:
    """C = (tau + 1) / 2 without ties, scipy's tau being the oracle."""
    random = np.random.default_rng(0)
    steps = random.permutation(30) + 1
    scores = random.normal(size=30)
    oracle: Any = stats.kendalltau(scores, -steps)
    found = concordance(scores, before([Time(0, int(step)) for step in steps]))
    assert found == pytest.approx((oracle.statistic + 1) / 2, abs=1e-12)


def test_the_area_under_the_curve_is_mann_whitneys_u() -> None:
    random = np.random.default_rng(1)
    positive = random.random(40) < 0.4
    scores = random.integers(6, size=40).astype(float)  # with ties
    u = stats.mannwhitneyu(scores[positive], scores[~positive]).statistic
    area = concordance(scores, apart(positive))
    assert area == pytest.approx(u / (positive.sum() * (~positive).sum()), abs=1e-12)


def test_a_constant_says_nothing_and_time_itself_says_all() -> None:
    assert concordance(np.full(5, 3.0), before(HAND)) == 0.5
    assert concordance(-np.array([2.0, 4.0, 4.0, 4.5, 5.0]), before(HAND)) == 1


def test_the_bootstrap_is_that_of_drawing_runs() -> None:
    """Against drawing indices one by one, with the counts of one generator."""
    scores, pairs = np.stack([SCORES, -SCORES]), before(HAND)
    draws = bootstrap_concordance(scores, pairs, np.random.default_rng(3), 50)
    counts = np.random.default_rng(3).multinomial(5, np.full(5, 0.2), 50)
    for k, count in enumerate(counts):
        index = np.repeat(np.arange(5), count)
        some = pairs[np.ix_(index, index)]
        if some.any():
            assert draws[0, k] == pytest.approx(concordance(SCORES[index], some), abs=1e-12)
        else:
            assert np.isnan(draws[:, k]).all()
    known = np.isfinite(draws[0])
    assert 25 < known.sum() <= 50
    assert draws[0, known] == pytest.approx(1 - draws[1, known], abs=1e-12), "the same draws"


def test_intervals_of_a_known_area_cover_it() -> None:
    """Normal scores a distance d apart have area Phi(d / sqrt 2)."""
    random = np.random.default_rng(5)
    true = float(stats.norm.cdf(1 / np.sqrt(2)))
    positive = np.arange(40) < 20
    covered = 0
    for _ in range(200):
        scores = random.normal(size=40) + positive
        draws = bootstrap_concordance(scores[None], apart(positive), random, 400)
        low, high = interval(draws[0])
        covered += low <= true <= high
    assert 0.9 < covered / 200 < 0.99  # percentile intervals of 40 runs are a little short


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: concordance(SCORES[:4], before(HAND)), "got 4 scores of 5 runs"),
        (lambda: concordance(SCORES * np.nan, before(HAND)), "not finite"),
        (lambda: concordance(SCORES, before([Time(4, None)] * 5)), "no pair to compare"),
        (
            lambda: bootstrap_concordance(
                SCORES[None, :4], before(HAND)[:4, :4], np.random.default_rng(0)
            ),
            "got 4 runs, expected at least 5",
        ),
        (lambda: interval(np.full(3, np.nan)), "too few runs"),
    ],
)
def test_what_cannot_be_ranked_is_said(call, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call()
