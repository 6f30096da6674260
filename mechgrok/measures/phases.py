"""Boundaries of memorisation, circuit formation and cleanup, found from the curves of one run.

Nanda et al. 2023 (arXiv 2301.05217), section 5.2, read them off the figures of one run (1.4k, 9.4k,
14k); here each has a rule, so that any run gets them, as intervals (previous evaluation, boundary].
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from mechgrok.maths.statistics import Crossing, Number, check_series, first_sustained
from mechgrok.measures.times import Series
from mechgrok.runs.result import NotApplicable, Result, Value
from mechgrok.runs.storage import RunError

SUBJECT: Final = "run"
READS: Final = ("restricted_loss",)
"""Whose saved results it reads."""
FITTED: Final = 1e-2
"""Memorisation is under way once train loss is below this share of ln p."""
GENERALISED: Final = 0.1
"""A run generalises when its final test loss is below this share of ln p."""
CLEAN: Final = 10.0
"""Cleanup ends when test loss is below this many times its final value."""
LAST: Final = 3
"""Evaluations whose median is the final value, and which must stay across a threshold."""


@dataclass(frozen=True)
class Phases:
    """Ends of the three phases."""

    memorisation: Crossing
    """Peak of the test loss after the train loss fell below 1e-2 ln p."""
    circuit_formation: Crossing | NotApplicable
    """Peak of test loss / restricted loss, or the knee of log test loss without that series."""
    cleanup: Crossing
    """First of 3 evaluations with test loss below 10 times its final value."""
    circuit_rule: str
    """Which of the two rules gave the end of circuit formation."""


def phases(
    steps: Sequence[int],
    train_loss: Sequence[Number],
    test_loss: Sequence[Number],
    p: int,
    restricted: Mapping[int, float] | None = None,
) -> Phases | NotApplicable:
    """Phase boundaries of a run over Z_p; NotApplicable when it does not fit or generalise.

    `restricted` maps steps to restricted losses, at any of the evaluated steps. Raises ValueError
    for losses that are not finite, or a restricted loss that is not positive.
    """
    check_series(steps, train_loss)
    check_series(steps, test_loss)
    fitted = next((i for i, x in enumerate(train_loss) if x < FITTED * math.log(p)), None)
    if fitted is None:
        return NotApplicable(f"train loss never fell below {FITTED:g} ln {p}")
    final = median(test_loss[-LAST:])
    if final >= GENERALISED * math.log(p):
        return NotApplicable(f"the run does not generalise: final test loss {final:.3g}")
    peak = max(range(fitted, len(steps)), key=lambda i: test_loss[i])
    clean = first_sustained(steps[peak:], test_loss[peak:], CLEAN * final, LAST, above=False)
    if clean is None:
        return NotApplicable(
            f"no {LAST} evaluations in a row below {CLEAN:g} x the final test loss"
        )
    end = steps.index(int(clean.by))
    circuit, rule = _circuit(steps[peak : end + 1], test_loss[peak : end + 1], restricted)
    return Phases(_at(steps, peak), circuit, clean, rule)


def _at(steps: Sequence[int], i: int) -> Crossing:
    return Crossing(steps[i - 1] if i else None, steps[i])


def _circuit(
    steps: Sequence[int], test_loss: Sequence[Number], restricted: Mapping[int, float] | None
) -> tuple[Crossing | NotApplicable, str]:
    """End of circuit formation between the peak of the test loss and the end of cleanup."""
    if restricted is None:
        return _knee(steps, test_loss), "knee of log test loss"
    shared = {s: x / restricted[s] for s, x in _positive(steps, test_loss, restricted)}
    rule = "peak of test loss / restricted loss"
    if len(shared) < LAST:
        reason = f"{len(shared)} restricted losses between memorisation and cleanup; need {LAST}"
        return NotApplicable(reason), rule
    at = list(shared)
    return _at(at, max(range(len(at)), key=lambda i: shared[at[i]])), rule


def _positive(
    steps: Sequence[int], test_loss: Sequence[Number], restricted: Mapping[int, float]
) -> list[tuple[int, float]]:
    bad = [s for s in steps if s in restricted and not 0 < restricted[s] < math.inf]
    if bad:
        raise ValueError(f"got restricted losses that are not positive at steps {bad[:5]}")
    return [(s, x) for s, x in zip(steps, test_loss, strict=True) if s in restricted]


def _knee(steps: Sequence[int], test_loss: Sequence[Number]) -> Crossing | NotApplicable:
    """Greatest height of log test loss above its chord: where the slow decline turns into the fall.

    A stand-in for the point of greatest curvature, whose second differences drown in noise.
    """
    log_loss = [math.log(x) for x in test_loss]
    slope = (log_loss[-1] - log_loss[0]) / max(steps[-1] - steps[0], 1)
    height = [
        y - log_loss[0] - slope * (s - steps[0]) for s, y in zip(steps, log_loss, strict=True)
    ]
    top = max(range(len(steps)), key=lambda i: height[i])
    if top == 0:
        return NotApplicable("log test loss falls fastest at its peak, so there is no knee")
    return _at(steps, top)


def measure(
    run: Series, p: int | None = None, restricted: Mapping[int, float] | None = None
) -> Result:
    """Ends of cleanup (headline), circuit formation and memorisation, as steps and intervals.

    Options: p (modulus; the task's by default), restricted (step -> restricted loss, of some
    checkpoints; by default what is saved of the run, with the keys of its last checkpoint).
    """
    if restricted is None:
        restricted = _saved_restricted(run)
    frame = run.metrics()
    steps, train, test = (frame[name].tolist() for name in ("step", "train_loss", "test_loss"))
    modulus = vars(run.config.task).get("n") if p is None else p
    if modulus is None:
        found = NotApplicable("the task has no modulus n, so no ln p to compare losses with")
    else:
        found = phases(steps, train, test, modulus, restricted)
    rule = "none" if isinstance(found, NotApplicable) else found.circuit_rule
    definition = {**DEFINITION, "selection": f"circuit formation: {rule}"}
    return Result("phases", _values(found), definition, run=run.name, seed=run.seed)


def _saved_restricted(run: Any) -> Mapping[int, float] | None:
    """Step -> saved restricted loss; None where there is none, or the run is no directory."""
    if not hasattr(run, "results"):
        return None
    try:
        results = run.results("restricted_loss", keys="final")
    except RunError:
        return None
    found = {result.step: result.headline for result in results}
    return {s: x for s, x in found.items() if isinstance(x, float) and x > 0} or None


def _values(found: Phases | NotApplicable) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for name in ("cleanup", "circuit_formation", "memorisation"):
        end = found if isinstance(found, NotApplicable) else vars(found)[name]
        absent = isinstance(end, NotApplicable)
        values[f"{name}_end"] = end if absent else end.by
        values[f"{name}_interval"] = end if absent else end.interval
    return values


DEFINITION: Final[Mapping[str, str]] = {
    "operator": f"memorisation: argmax of test loss after train loss < {FITTED:g} ln p; cleanup: "
    f"first of {LAST} evaluations with test loss < {CLEAN:g} x final (median of the last {LAST})",
    "split": "train and test losses as recorded in metrics.jsonl",
}
