"""Kaplan-Meier, restricted means and exact tests against published and hand-counted answers."""

import math

import numpy as np
import pytest

from mechgrok.maths.survival import (
    Time,
    kaplan_meier,
    longest_horizon,
    paired_p,
    restricted,
    restricted_mean,
)

SEEN = (6, 6, 6, 7, 10, 13, 16, 22, 23)
CENSORED = (6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35)
SIX_MP = [Time(None, t) for t in SEEN] + [Time(t, None) for t in CENSORED]
"""Weeks in remission under 6-mercaptopurine: Freireich et al. 1963, Blood 21:699."""


def test_kaplan_meier_of_the_published_example() -> None:
    """The product-limit table printed in every textbook: at 6, 18/21; at 7, times 16/17; ..."""
    curve = kaplan_meier(SIX_MP)
    factors = [18 / 21, 16 / 17, 14 / 15, 11 / 12, 10 / 11, 6 / 7, 5 / 6]
    assert curve.steps.tolist() == [0, 6, 7, 10, 13, 16, 22, 23]
    assert curve.share == pytest.approx([1, *np.cumprod(factors)], abs=1e-14)
    assert curve.share[-1] == pytest.approx(0.4482, abs=5e-5)
    assert curve.end == longest_horizon(SIX_MP) == 35


def test_restricted_mean_of_the_published_example() -> None:
    by_hand = 6 + 1 * 0.857142857 + 3 * 0.806722689  # to 10
    assert restricted_mean(SIX_MP, 10) == pytest.approx(by_hand, abs=1e-8)
    assert restricted_mean(SIX_MP, 35) == pytest.approx(23.287, abs=5e-4)


def test_without_early_censoring_it_is_the_plain_mean() -> None:
    times = [Time(0, 10), Time(30, 40), Time(100, None), Time(80, None)]
    assert restricted_mean(times, 80) == (10 + 40 + 80 + 80) / 4
    assert [restricted(t, 80) for t in times] == [10, 40, 80, 80]
    assert restricted(times[3], 90) is None
    assert restricted_mean(times[:2], 1_000) == 25
    assert longest_horizon(times[:2]) == math.inf


def test_a_censored_run_says_less_than_one_that_is_left_out() -> None:
    """Dropping what did not generalise would make it look faster."""
    times = [Time(0, 10), Time(10, 20), Time(40, None)]
    assert restricted_mean(times, 40) > restricted_mean(times[:2], 40)


def test_beyond_the_last_look_nothing_is_known() -> None:
    with pytest.raises(ValueError, match="at most 35"):
        restricted_mean(SIX_MP, 36)
    with pytest.raises(ValueError, match="positive"):
        restricted_mean(SIX_MP, 0)
    with pytest.raises(ValueError, match="at least one run"):
        kaplan_meier([])


@pytest.mark.parametrize(
    ("after", "by", "said"),
    [(None, None, "last look"), (5, 5, "after < by"), (math.nan, None, "finite"), (-1, 3, "least")],
)
def test_a_time_that_cannot_be(after: float | None, by: float | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Time(after, by)


def test_sign_flips_counted_by_hand() -> None:
    """Of the 8 sign patterns of (1, 2, 3) only +++ and --- are as far from 0 as 6."""
    assert paired_p([1, 2, 3]) == 2 / 8
    # sums of +-1 +-2 +-3: 6 4 2 0 0 -2 -4 -6; at least 2 away from 0: 6 of 8
    assert paired_p([1, -2, 3]) == 6 / 8
    assert paired_p([-1, -2, -3]) == 2 / 8
    assert paired_p([5, 5, 5, 5, 5, 5, 5, 5]) == 2 / 256
    assert paired_p([0, 0, 0]) == 1
    assert paired_p([7]) == 1


def test_what_has_no_exact_p() -> None:
    for wrong in ([], [1] * 21):
        with pytest.raises(ValueError, match="1 to 20"):
            paired_p(wrong)
    with pytest.raises(ValueError, match="finite"):
        paired_p([1, math.inf])


def test_the_exact_test_draws_no_random_number() -> None:
    np.random.seed(3)
    before = np.random.get_state()[1]
    paired_p([1, 2, -3, 4])
    assert (np.random.get_state()[1] == before).all()
