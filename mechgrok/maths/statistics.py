"""Statistics of series and of sets of runs: crossings, intervals, concentration."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Number: TypeAlias = float | int

MIN_RUNS = 5
"""Fewest runs over which an interval is given; below, draw the points."""


@dataclass(frozen=True)
class Crossing:
    """When a series crossed a threshold: in the interval (after, by], never an exact step."""

    after: Number | None
    """Last evaluation before the crossing; None when the first evaluation is already across."""
    by: Number
    """First of the consecutive evaluations across the threshold."""
    fell_back_at: Number | None = None
    """First later evaluation back on the other side, or None when the series stayed."""

    @property
    def interval(self) -> tuple[Number | None, Number]:
        """(after, by]."""
        return (self.after, self.by)


def check_series(steps: Sequence[Number], values: Sequence[Number]) -> None:
    """Raise ValueError unless there is one finite value per step and the steps increase."""
    if len(steps) != len(values):
        raise ValueError(f"got {len(steps)} steps and {len(values)} values, expected as many")
    bad = [step for step, value in zip(steps, values, strict=True) if not math.isfinite(value)]
    if bad:
        raise ValueError(f"got values that are not finite at steps {bad[:5]}; drop these rows")
    if any(later <= earlier for earlier, later in pairwise(steps)):
        raise ValueError("got steps that do not increase; sort the rows and drop repeats")


def first_sustained(
    steps: Sequence[Number],
    values: Sequence[Number],
    threshold: Number,
    n: int = 3,
    above: bool = True,
) -> Crossing | None:
    """First of n consecutive evaluations at or across the threshold, or None (censored).

    With `above`, across means value >= threshold, otherwise value <= threshold. A series that ends
    before its n-th evaluation across is censored.
    """
    check_series(steps, values)
    if n < 1:
        raise ValueError(f"got n={n}, expected at least 1 consecutive evaluation")
    across = [value >= threshold if above else value <= threshold for value in values]
    for i in range(len(across) - n + 1):
        if all(across[i : i + n]):
            later = (steps[j] for j in range(i + n, len(across)) if not across[j])
            return Crossing(steps[i - 1] if i else None, steps[i], next(later, None))
    return None


def bootstrap_mean(
    values: Sequence[Number],
    generator: np.random.Generator,
    level: float = 0.95,
    resamples: int = 10_000,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean over runs.

    Raises ValueError below 5 runs, where such an interval says nothing: draw the points.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size < MIN_RUNS:
        raise ValueError(
            f"got {data.size} runs, expected at least {MIN_RUNS} for an interval; draw each run"
        )
    if not np.isfinite(data).all():
        raise ValueError("got values that are not finite; drop these runs and say which")
    if not 0 < level < 1:
        raise ValueError(f"got level={level}, expected a number between 0 and 1, such as 0.95")
    draws = generator.integers(data.size, size=(resamples, data.size))
    low, high = np.quantile(data[draws].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_by_group(
    values: Sequence[Number],
    groups: Sequence[int],
    generator: np.random.Generator,
    level: float = 0.95,
    resamples: int = 2_000,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean over items, whole groups drawn with replacement.

    For items of one run that share something (a fact), so that they are not independent; an
    interval within the run, not over runs. Raises ValueError below 5 groups, and unless each value
    has a group and is finite.
    """
    data = np.asarray(values, dtype=np.float64)
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    if data.shape != group.shape or not np.isfinite(data).all():
        raise ValueError(f"got {data.size} values in {group.size} groups; expected finite pairs")
    n = int(group.max()) + 1 if group.size else 0
    if n < MIN_RUNS:
        raise ValueError(f"got {n} groups, expected at least {MIN_RUNS} for an interval")
    drawn = generator.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)
    means = (drawn @ np.bincount(group, weights=data)) / (drawn @ np.bincount(group))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def gini(x: Float[Tensor, " n"]) -> float:
    """Gini coefficient of |x|: 0 for equal entries, 1 - 1/n for a single non-zero entry.

    Hurley & Rickard 2009, equation for the Gini index in table 1, on sorted magnitudes.
    """
    magnitude = x.abs().double().sort().values
    total = magnitude.sum()
    if total == 0:
        raise ValueError("got zeros only, whose Gini coefficient is undefined; pass non-zero x")
    n = magnitude.numel()
    rank = torch.arange(1, n + 1, dtype=torch.float64, device=x.device)
    return float(((2 * rank - n - 1) * magnitude).sum() / (n * total))
