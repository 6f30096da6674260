"""Grokking delay over a set of runs: generalised minus memorised step, every run kept.

The run is the unit: below 5 runs there is no interval, and with a censored run there is no mean
either, since the delay of that run is only known to be longer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from mechgrok.maths.statistics import MIN_RUNS, bootstrap_mean
from mechgrok.runs.result import NotApplicable, Result, Value

SUBJECT: Final = "runs"


@dataclass(frozen=True)
class Delay:
    """Delays of a set of runs, in steps."""

    each: tuple[int | None, ...]
    """One per run; None where it did not memorise or generalise."""
    mean: float | NotApplicable
    """Over all runs."""
    interval: tuple[float, float] | NotApplicable
    """95 % percentile bootstrap of the mean, over runs."""


def delay(
    memorised: Sequence[int | None], generalised: Sequence[int | None], seed: int = 0
) -> Delay:
    """Delay of every run; None stands for censored. `seed` is the bootstrap's.

    Raises ValueError without runs, or when the two do not pair up.
    """
    if not memorised or len(memorised) != len(generalised):
        raise ValueError(
            f"got {len(memorised)} and {len(generalised)} times, expected one each per run"
        )
    each = tuple(map(_between, memorised, generalised))
    known = [steps for steps in each if steps is not None]
    if len(known) < len(each):
        absent = NotApplicable(f"{len(each) - len(known)} of {len(each)} runs are censored")
        return Delay(each, absent, absent)
    mean = float(np.mean(known))
    if len(known) < MIN_RUNS:
        return Delay(each, mean, NotApplicable(f"{len(known)} runs, fewer than {MIN_RUNS}"))
    return Delay(each, mean, bootstrap_mean(known, np.random.default_rng(seed)))


def _between(memorised: int | None, generalised: int | None) -> int | None:
    return None if memorised is None or generalised is None else generalised - memorised


def measure(runs: Any, seed: int = 0) -> Result:
    """Delay over a set of runs, headline the mean. Options: seed (of the bootstrap)."""
    times = [runs.values("times", name) for name in ("memorised", "generalised")]
    found = delay(times[0], times[1], seed)
    values: dict[str, Value] = {"mean": found.mean, "n": len(found.each)}
    ends = found.interval
    values["low"], values["high"] = (ends, ends) if isinstance(ends, NotApplicable) else ends
    for run, steps in zip(runs, found.each, strict=True):
        values[run.name] = NotApplicable("censored") if steps is None else steps
    return Result("delay", values, DEFINITION)


DEFINITION: Final = {
    "operator": "generalised minus memorised step, each the first of 3 evaluations at >= .99",
    "interval": f"95 % percentile bootstrap of the mean over runs, from {MIN_RUNS} runs on",
    "split": "memorised: train; generalised: test",
}
