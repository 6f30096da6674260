"""Crossings, intervals and Gini on cases with a known answer."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechgrok.maths.statistics import (
    Crossing,
    bootstrap_by_group,
    bootstrap_mean,
    first_sustained,
    gini,
)


def test_first_of_three_consecutive() -> None:
    steps = [0, 100, 200, 300, 400, 500]
    found = first_sustained(steps, [0, 0.99, 0.5, 0.99, 1.0, 1.0], 0.99)
    assert found == Crossing(after=200, by=300)
    assert found.interval == (200, 300)


def test_a_spike_or_a_short_end_is_censored() -> None:
    assert first_sustained([0, 1, 2, 3], [0.0, 1.0, 1.0, 0.0], 0.99) is None
    assert first_sustained([0, 1, 2, 3], [0.0, 0.0, 1.0, 1.0], 0.99) is None
    assert first_sustained([0, 1], [1.0, 1.0], 0.99) is None


def test_falling_back_is_recorded() -> None:
    found = first_sustained(list(range(6)), [0, 1, 1, 1, 0.2, 1], 0.99)
    assert found == Crossing(after=0, by=1, fell_back_at=4)


def test_crossed_from_the_start_has_no_previous() -> None:
    assert first_sustained([5, 6, 7], [1.0, 1.0, 1.0], 0.99) == Crossing(after=None, by=5)


def test_below_mirrors_above() -> None:
    values = [3.0, 0.5, 2.0, 0.1, 0.1, 0.1]
    below = first_sustained(list(range(6)), values, 1.0, above=False)
    assert below == first_sustained(list(range(6)), [-v for v in values], -1.0)
    assert below == Crossing(after=2, by=3)


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=3, max_size=30))
def test_crossing_is_the_earliest_run_of_three(values: list[float]) -> None:
    found = first_sustained(list(range(len(values))), values, 0.5)
    at = "".join(str(int(v)) for v in values).find("111")
    assert (found.by if found else -1) == at


def test_bad_series_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        first_sustained([0, 1, 2], [0.0, float("nan"), 1.0], 0.5)
    with pytest.raises(ValueError, match="do not increase"):
        first_sustained([0, 2, 1], [0.0, 0.0, 1.0], 0.5)
    with pytest.raises(ValueError, match="as many"):
        first_sustained([0, 1], [0.0], 0.5)
    with pytest.raises(ValueError, match="n=0"):
        first_sustained([0], [0.0], 0.5, n=0)


def test_bootstrap_holds_the_mean_and_is_seeded() -> None:
    values = list(np.random.default_rng(0).normal(3, 1, size=40))
    low, high = bootstrap_mean(values, np.random.default_rng(1))
    assert low < np.mean(values) < high
    # The normal interval of the mean has half-width 1.96 s / sqrt(n); 15 % covers resampling noise.
    assert high - low == pytest.approx(2 * 1.96 * np.std(values) / np.sqrt(40), rel=0.15)
    assert (low, high) == bootstrap_mean(values, np.random.default_rng(1))


def test_bootstrap_refuses_few_runs() -> None:
    with pytest.raises(ValueError, match="got 4 runs"):
        bootstrap_mean([1.0, 2.0, 3.0, 4.0], np.random.default_rng(0))
    with pytest.raises(ValueError, match="not finite"):
        bootstrap_mean([1.0, 2.0, 3.0, 4.0, float("inf")], np.random.default_rng(0))
    with pytest.raises(ValueError, match="level"):
        bootstrap_mean([1.0] * 5, np.random.default_rng(0), level=95.0)


@pytest.mark.parametrize("n", [1, 2, 56, 113])
def test_gini_of_one_hot_and_uniform(n: int) -> None:
    one_hot = torch.zeros(n)
    one_hot[n // 2] = -7.0
    assert gini(one_hot) == pytest.approx(1 - 1 / n, abs=1e-12)
    assert gini(torch.full((n,), 0.3)) == pytest.approx(0, abs=1e-12)


def test_gini_ignores_scale_and_order_and_refuses_zeros() -> None:
    x = torch.rand(20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert gini(x) == pytest.approx(gini(-5 * x.flip(0)), abs=1e-12)
    with pytest.raises(ValueError, match="zeros"):
        gini(torch.zeros(4))


def test_groups_are_drawn_whole() -> None:
    values = np.random.default_rng(0).normal(size=40)
    chance = [np.random.default_rng(1) for _ in range(3)]
    alone = bootstrap_by_group(values.tolist(), list(range(40)), chance[0], resamples=4000)
    assert alone == pytest.approx(bootstrap_mean(values.tolist(), chance[1]), abs=0.03)
    # nine copies of a value are one observation
    copied = bootstrap_by_group(
        np.repeat(values, 9).tolist(), np.repeat(range(40), 9).tolist(), chance[2], resamples=4000
    )
    assert copied == pytest.approx(alone, abs=0.03)
    spread = bootstrap_mean(np.repeat(values, 9).tolist(), np.random.default_rng(1))
    assert copied[1] - copied[0] > 2.5 * (spread[1] - spread[0])
    with pytest.raises(ValueError, match="got 4 groups"):
        bootstrap_by_group([0, 1, 0, 1, 1], [7, 7, 2, 3, 4], chance[0])
    with pytest.raises(ValueError, match="finite pairs"):
        bootstrap_by_group([0, 1], [7], chance[0])
