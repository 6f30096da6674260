"""Exponents: least squares where nothing is censored, the planted law where much is."""

import numpy as np
import pytest

from mechgrok.maths.power_law import bootstrap_exponent, power_law
from mechgrok.maths.survival import Time

X = [x for x in (0.5, 1.0, 2.0, 3.0, 5.0) for _ in range(40)]
STEPS = 5_000 / np.asarray(X) * np.exp(0.3 * np.random.default_rng(0).standard_normal(len(X)))


def seen(steps: float, last: float) -> Time:
    """A time looked for every 25 steps until `last`."""
    looked = 25 * np.floor(steps / 25)
    return Time(float(looked), float(looked + 25)) if steps < last else Time(last, None)


def test_without_censoring_it_is_least_squares() -> None:
    found = power_law(X, [Time(t * (1 - 1e-6), t) for t in STEPS])
    slope, height = np.polyfit(np.log(X), np.log(STEPS), 1)
    residual = np.log(STEPS) - slope * np.log(X) - height
    assert found.exponent == pytest.approx(slope, abs=1e-4)
    assert found.scale == pytest.approx(np.exp(height), rel=1e-4)
    assert found.spread == pytest.approx(residual.std(), rel=1e-3)


def test_censored_runs_neither_dropped_nor_taken_as_seen() -> None:
    times = [seen(t, 6_000) for t in STEPS]
    assert sum(t.censored for t in times) > 40
    found = power_law(X, times).exponent
    as_seen = np.polyfit(np.log(X), np.log([t.seen for t in times]), 1)[0]
    assert abs(as_seen + 1) > 0.15, "the cap bends the line"
    assert found == pytest.approx(-1, abs=0.06)


def test_the_interval_covers_the_planted_exponent() -> None:
    groups = {
        seed: [(X[i], seen(STEPS[i], 6_000)) for i in range(seed, len(X), 40)] for seed in range(8)
    }
    low, high = bootstrap_exponent(groups, np.random.default_rng(1), resamples=40)
    assert low < -1 < high
    assert 0.02 < high - low < 0.6
    with pytest.raises(ValueError, match="at least 5"):
        bootstrap_exponent({0: groups[0]}, np.random.default_rng(1))


def test_what_has_no_exponent() -> None:
    with pytest.raises(ValueError, match="positive"):
        power_law([0, 1], [Time(0, 5), Time(0, 5)])
    with pytest.raises(ValueError, match="at 1 values of x"):
        power_law([1, 2], [Time(0, 5), Time(9, None)])
