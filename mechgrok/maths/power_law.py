"""Power laws of times that may be censored, by maximum likelihood, with intervals over seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import optimize, special

from mechgrok.maths.statistics import MIN_RUNS, Number
from mechgrok.maths.survival import Time

SMALL = 1e-300
"""Keeps the logarithm of a likelihood finite."""


@dataclass(frozen=True)
class PowerLaw:
    """time = scale * x^exponent, with log-normal spread."""

    exponent: float
    """Slope of log time over log x."""
    scale: float
    """Median time in steps at x = 1."""
    spread: float
    """Standard deviation of the natural logarithm of the time."""


def power_law(x: Sequence[Number], times: Sequence[Time]) -> PowerLaw:
    """Maximum likelihood of log time = log scale + exponent * log x + normal noise.

    A seen time counts by its interval, a censored one by the chance of being later (Tobin 1958).
    Raises ValueError unless x and times pair up, x is positive with two different values, and at
    least two different values of x have a time that was seen.
    """
    if len(x) != len(times) or min(x, default=0) <= 0:
        raise ValueError(f"got {len(x)} x and {len(times)} times; expected as many, x positive")
    events = {a for a, time in zip(x, times, strict=True) if not time.censored}
    if len(events) < 2:
        raise ValueError(f"got times seen at {len(events)} values of x, expected at least 2")
    log_x = np.log(np.asarray(x, dtype=np.float64))
    low = np.log([max(float(t.after or 0), 1e-9) for t in times])
    high = np.array([np.inf if t.by is None else math.log(t.by) for t in times])
    middle = np.log([t.seen - t.width / 2 for t in times])
    slope, height = np.polyfit(log_x, middle, 1)
    spread = max(float(np.std(middle - slope * log_x - height)), 0.05)

    def loss(at: Float[np.ndarray, " 3"]) -> float:
        mean, sd = at[0] * log_x + at[1], math.exp(at[2])
        return -float(_log_mass((low - mean) / sd, (high - mean) / sd).sum())

    found = optimize.minimize(
        loss, [slope, height, math.log(spread)], method="Nelder-Mead",
        options={"xatol": 1e-7, "fatol": 1e-9, "maxiter": 4000, "maxfev": 4000},
    )  # fmt: skip
    return PowerLaw(float(found.x[0]), math.exp(found.x[1]), math.exp(found.x[2]))


def _log_mass(
    low: Float[np.ndarray, " n"], high: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Log of the normal mass between, taken in the tail where both ends lie."""
    flip = low > 0
    left, right = np.where(flip, -high, low), np.where(flip, -low, high)
    mass = special.ndtr(right) - special.ndtr(left)
    return np.log(mass.clip(min=SMALL))


def bootstrap_exponent(
    groups: Mapping[int, Sequence[tuple[Number, Time]]],
    generator: np.random.Generator,
    resamples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the exponent, resampling seeds with all their runs.

    `groups` holds (x, time) of every run by seed. A resample in which fewer than two values of x
    have a seen time is drawn again. Raises ValueError below 5 seeds.
    """
    if len(groups) < MIN_RUNS:
        raise ValueError(f"got {len(groups)} seeds, expected at least {MIN_RUNS} for an interval")
    seeds, found = sorted(groups), []
    while len(found) < resamples:
        chosen = generator.choice(seeds, size=len(seeds))
        drawn = [pair for seed in chosen for pair in groups[seed]]
        if len({x for x, time in drawn if not time.censored}) > 1:
            found.append(power_law(*zip(*drawn, strict=True)).exponent)
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
