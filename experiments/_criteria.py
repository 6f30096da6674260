"""Success criteria C1 to C4 of a run: numbers against thresholds, each with its control.

A criterion holds when all of its lines hold. A line whose number or control does not exist fails
and says why; nothing passes for want of evidence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mechgrok.maths.statistics import Crossing, first_sustained
from mechgrok.runs.result import NotApplicable, Value
from mechgrok.runs.run import Run

TRAINED = 0.99
"""Train accuracy at t1."""
CHANCE_LIKE = 0.5
"""Test accuracy stays below it from t1 to t1 + 5 t1."""
STRICTER = 0.1
"""The stricter bound, reported beside it."""
DELAYED_BY = 5
GENERALISED = 0.95
GAP = 10
"""Least ratio of the step with test accuracy >= .95 to t1."""
TOP5_SHARE = 0.6
GINI_RISE = 0.1
"""Least rise of the Gini coefficient; untrained models of one size differ by less than .01."""
KEYS_LOSE, CONTROLS_LOSE = 90.0, 5.0
"""Points of accuracy; the thresholds of the measure `frequency_ablation`."""
PROGRESS = (
    "spectra.top5_share_W_E",
    "spectra.top5_share_W_U",
    "restricted_loss.all",
    "restricted_loss.test_loss_over_restricted",
    "excluded_loss.train",
    "gini.W_E",
    "gini.W_L",
    "weight_norm.total",
)
"""Progress measures of C4, needed at every checkpoint."""


@dataclass(frozen=True)
class Line:
    """One number against one threshold."""

    what: str
    """What was measured."""
    number: Value
    """The number; NotApplicable with the reason where it does not exist."""
    threshold: str
    """What it must be."""
    holds: bool
    """Whether it is."""
    control: str
    """The same number where it should not hold, or what else it was compared with."""

    def __str__(self) -> str:
        mark = "pass" if self.holds else "FAIL"
        return (
            f"  {mark}  {self.what}: {shown(self.number)} ({self.threshold}); "
            f"control: {self.control}"
        )


Criteria = Mapping[str, Sequence[Line]]
"""Lines by criterion."""


def shown(value: Value) -> str:
    """A value in few digits, or why there is none."""
    if isinstance(value, NotApplicable):
        return f"does not apply, {value.reason}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def judge(run: Run) -> dict[str, list[Line]]:
    """C1 to C4 of a run whose measures are saved, or can be taken."""
    return {
        "C1 grokking curve": grokking_curve(run.evaluations()),
        "C2 spectrum": spectrum(run),
        "C3 ablation": ablation(run),
        "C4 progress measures": progress(run),
    }


def grokking_curve(rows: Sequence[Mapping[str, Any]]) -> list[Line]:
    """C1: memorised, far from solved for 5 t1 longer, solved in the end, 10 times later."""
    if not rows or not {"train_acc", "test_acc"} <= rows[0].keys():
        absent = NotApplicable("accuracies over training are not recorded")
        return [Line("grokking curve", absent, "recorded", False, "none")]
    steps = [row["step"] for row in rows]
    test = [row["test_acc"] for row in rows]
    first = first_sustained(steps, [row["train_acc"] for row in rows], TRAINED, n=1)
    solved = first_sustained(steps, test, GENERALISED, n=1)
    start = f"test accuracy {test[0]:.4g} at step {steps[0]}"
    return [
        _reached(f"t1, first step with train accuracy >= {TRAINED}", first, steps),
        _delay(first, steps, test),
        Line("final test accuracy", test[-1], f">= {GENERALISED}", test[-1] >= GENERALISED, start),
        _gap(first, solved, steps),
    ]


def _reached(what: str, crossing: Crossing | None, steps: Sequence[int]) -> Line:
    if crossing is None:
        absent = NotApplicable(f"not reached by step {steps[-1]}")
        return Line(what, absent, "reached", False, f"evaluated from step {steps[0]}")
    before = "no evaluation before" if crossing.after is None else f"not at step {crossing.after}"
    return Line(what, crossing.by, "reached", True, before)


def _delay(first: Crossing | None, steps: Sequence[int], test: Sequence[float]) -> Line:
    what = f"highest test accuracy from t1 to {1 + DELAYED_BY} t1"
    threshold = f"< {CHANCE_LIKE}"
    if first is None:
        return Line(what, NotApplicable("t1 is not reached"), threshold, False, "none")
    end = (1 + DELAYED_BY) * first.by
    if steps[-1] < end:
        absent = NotApplicable(f"evaluations end at step {steps[-1]}, before {end}")
        return Line(what, absent, threshold, False, "none")
    highest = max(x for step, x in zip(steps, test, strict=True) if first.by <= step <= end)
    stricter = "holds" if highest < STRICTER else "does not hold"
    return Line(
        what, highest, threshold, highest < CHANCE_LIKE, f"stricter, < {STRICTER}, {stricter}"
    )


def _gap(first: Crossing | None, solved: Crossing | None, steps: Sequence[int]) -> Line:
    what = f"first step with test accuracy >= {GENERALISED}, over t1"
    threshold = f">= {GAP}"
    if first is None or solved is None or first.by == 0:
        absent = NotApplicable(f"one of the two is not reached by step {steps[-1]}")
        return Line(what, absent, threshold, False, "none")
    ratio = solved.by / first.by
    return Line(what, ratio, threshold, ratio >= GAP, f"steps ({solved.after}, {solved.by}]")


def spectrum(run: Run) -> list[Line]:
    """C2: a few frequencies hold W_E and W_L, which they did not at initialisation.

    Where the untrained model passes as well (few frequencies to choose from), nothing is shown.
    """
    start, end = run.steps[0], run.steps[-1]
    if start != 0:
        absent = NotApplicable(f"no checkpoint at step 0 to compare with; the first is {start}")
        return [Line("spectrum", absent, "compared with step 0", False, "none")]
    measured = run.measure_steps(["spectra", "gini"], [start, end])
    lines = []
    for name in ("W_E", "W_L"):
        before, after = (found[f"top5_share_{name}"] for found in measured["spectra"])
        lines.append(_share(f"top-5 share of the power of {name}", before, after))
        before, after = (found[name] for found in measured["gini"])
        lines.append(_rise(f"rise of the Gini coefficient of {name}", before, after))
    return lines


def _share(what: str, before: Value, after: Value) -> Line:
    threshold = f">= {TOP5_SHARE}, and untrained below it"
    if not isinstance(before, float) or not isinstance(after, float):
        return Line(what, after, threshold, False, "none")
    holds = after >= TOP5_SHARE > before
    return Line(what, after, threshold, holds, f"untrained {before:.4g}")


def _rise(what: str, before: Value, after: Value) -> Line:
    threshold = f">= {GINI_RISE}"
    if not isinstance(before, float) or not isinstance(after, float):
        return Line(what, after, threshold, False, "none")
    rise = after - before
    return Line(what, rise, threshold, rise >= GINI_RISE, f"untrained {before:.4g}")


def ablation(run: Run) -> list[Line]:
    """C3: removing the keys costs the split that the model solves; the controls cost little."""
    found = run.measure("frequency_ablation")
    if isinstance(found.headline, NotApplicable):
        return [Line("points lost without the keys", found.headline, "measured", False, "none")]
    keys = ", ".join(map(str, _listed(found["keys"])))
    power = found["keys_power_removed"], found["controls_power_removed"]
    split = found.definition["split"].partition(" ")[0]
    intact = f"intact {shown(found['original_accuracy'])} on {split}"
    size = f"power removed {shown(power[1])}, by the keys {shown(power[0])}"
    which = "stand-ins" if found.definition["selection"].startswith("no key") else "keys"
    rest = f"power removed {shown(found['non_keys_power_removed'])}"
    return [
        _lost(f"points lost without the {which} {keys}", found["keys_points_lost"], True, intact),
        _lost("by size-matched sets, on average", found["controls_points_lost"], False, size),
        _lost("by all non-keys at once", found["non_keys_points_lost"], False, rest),
    ]


def _lost(what: str, points: Value, many: bool, control: str) -> Line:
    lost = float(str(points))
    holds = lost >= KEYS_LOSE if many else lost <= CONTROLS_LOSE
    threshold = f">= {KEYS_LOSE:g}" if many else f"<= {CONTROLS_LOSE:g}"
    return Line(what, lost, threshold, holds, control)


def _listed(value: Value) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def progress(run: Run) -> list[Line]:
    """C4: every progress measure has a number at every checkpoint."""
    measured = run.measure_steps(sorted({name.partition(".")[0] for name in PROGRESS}), run.steps)
    return [_complete(name, _values(measured, name)) for name in PROGRESS]


def _values(measured: Mapping[str, Sequence[Any]], name: str) -> list[Value]:
    measure, _, value = name.partition(".")
    return [found[value] for found in measured[measure]]


def _complete(name: str, values: Sequence[Value]) -> Line:
    present = [x for x in values if isinstance(x, int | float)]
    reasons = [x.reason for x in values if isinstance(x, NotApplicable)]
    what = f"checkpoints with {name}"
    if not present:
        return Line(what, NotApplicable(reasons[0]), f"all {len(values)}", False, "none")
    ends = f"{present[0]:.4g} at the first of them, {present[-1]:.4g} at the last"
    return Line(what, len(present), f"all {len(values)}", len(present) == len(values), ends)
