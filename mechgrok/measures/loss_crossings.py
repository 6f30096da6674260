"""Peak of the test loss, and when it then falls below fixed values, as intervals.

Nanda et al. 2023 (arXiv 2301.05217), figure 2, and published logs give such steps; accuracy says
less, since it saturates while the loss still falls by orders of magnitude.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mechgrok.maths.statistics import Crossing, Number, check_series, first_sustained
from mechgrok.measures.times import Series
from mechgrok.runs.result import NotApplicable, Result, Value

SUBJECT: Final = "run"
THRESHOLDS: Final = (1.0, 1e-2, 1e-5)
"""Nats."""
CONSECUTIVE: Final = 3


@dataclass(frozen=True)
class LossCrossings:
    """What the test loss did."""

    peak: float
    """Largest value, nats."""
    peak_step: int
    """Its step."""
    below: Mapping[float, Crossing | None]
    """First of 3 evaluations below each threshold after the peak; None if not reached."""


def loss_crossings(
    steps: Sequence[int],
    test_loss: Sequence[Number],
    thresholds: Sequence[float] = THRESHOLDS,
) -> LossCrossings:
    """Peak and crossings of a test loss in nats.

    Raises ValueError for an empty series, or values that are not finite.
    """
    check_series(steps, test_loss)
    if not steps:
        raise ValueError("got a run without evaluations; train it for at least one")
    peak = max(range(len(steps)), key=lambda i: test_loss[i])
    after = steps[peak:], test_loss[peak:]
    below = {x: first_sustained(*after, x, CONSECUTIVE, above=False) for x in thresholds}
    return LossCrossings(float(test_loss[peak]), steps[peak], below)


def measure(run: Series, thresholds: Sequence[float] = THRESHOLDS) -> Result:
    """Step of the last threshold's crossing (headline), of the others, and the peak.

    Options: thresholds (nats, at least one).
    """
    if not thresholds:
        raise ValueError("got no thresholds, expected at least one test loss in nats")
    frame = run.metrics()
    found = loss_crossings(frame["step"].tolist(), frame["test_loss"].tolist(), thresholds)
    values: dict[str, Value] = {}
    censored = NotApplicable(f"not reached by step {int(frame['step'].iloc[-1])}")
    if len(frame) == 1:
        censored = NotApplicable("one evaluation, so nothing over training")
    for x, crossing in reversed(list(found.below.items())):
        values[f"below_{x:g}"] = censored if crossing is None else crossing.by
        values[f"below_{x:g}_interval"] = censored if crossing is None else crossing.interval
    values |= {"peak": found.peak, "peak_step": found.peak_step}
    return Result("loss_crossings", values, DEFINITION, run=run.name, seed=run.seed)


DEFINITION: Final[Mapping[str, str]] = {
    "operator": f"first of {CONSECUTIVE} evaluations at or below the threshold after the peak; "
    "interval (previous, crossing]",
    "split": "test loss as recorded in metrics.jsonl",
}
