"""Outcomes of the arms, contrasts with exact paired tests, and which prediction won."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from _transfer_arms import CORE, Arm, frozen_body, scratch

from mechgrok.maths.statistics import MIN_RUNS, bootstrap_mean
from mechgrok.maths.survival import Time, longest_horizon, paired_p, restricted_mean
from mechgrok.runs.run import Run

if TYPE_CHECKING:
    from _transfer_donors import Donors

Runs = Mapping[tuple[Arm, int], Run]
"""Finished runs, by arm and seed."""

CONTROLS = CORE[1:]
COMMUTATIVE = ("T0", "T1")
NO_TWIN = "test_acc_no_twin"
"""Test accuracy on the pairs (a, b) whose (b, a) is not trained on, of commutative targets."""


def outcome(run: Run) -> dict[str, Any]:
    """Accuracies at the last evaluation, and when train and test held 99 %."""
    last = run.evaluations()[-1]
    found = {name: last[name] for name in ("step", "train_acc", "test_acc", "test_loss")}
    for name, metric in (("memorised", "train_acc"), ("generalised", "test_acc")):
        crossing = run.crossing(metric, 0.99)
        found[name] = None if crossing is None else crossing.by
    return found


def table(runs: Runs, horizon: int) -> list[dict[str, Any]]:
    """One row per arm: every seed's test accuracy at the horizon, and times."""
    rows = []
    for arm in dict.fromkeys(arm for arm, _ in runs):
        seeds = sorted(seed for other, seed in runs if other == arm)
        each = [outcome(runs[arm, seed]) for seed in seeds]
        accuracies = [one["test_acc"] for one in each]
        row: dict[str, Any] = {"target": arm.target, "fraction": arm.fraction}
        row |= {"taken": "+".join(arm.taken) or "nothing", "trained": "+".join(arm.trained)}
        row |= {"donor": arm.donor, "donor_step": arm.step, "n": len(seeds)}
        row |= {"test_acc": float(np.mean(accuracies)), "interval": interval(accuracies)}
        row |= {"train_acc": float(np.mean([one["train_acc"] for one in each]))}
        row[NO_TWIN] = _without_twins([runs[arm, seed] for seed in seeds])
        row |= {"generalised": sum(one["generalised"] is not None for one in each)}
        for moment, metric in (("generalised", "test_acc"), ("memorised", "train_acc")):
            times = [_time(runs[arm, seed], metric) for seed in seeds]
            known = min(horizon, longest_horizon(times))
            row[f"mean_steps_{moment}"] = restricted_mean(times, known) if known else None
        row["seeds"] = dict(zip(map(str, seeds), accuracies, strict=True))
        rows.append(row)
    return rows


def _without_twins(runs: Sequence[Run]) -> float | None:
    last = [run.evaluations()[-1] for run in runs]
    return float(np.mean([x[NO_TWIN] for x in last])) if NO_TWIN in last[0] else None


def _time(run: Run, metric: str) -> Time:
    crossing = run.crossing(metric, 0.99)
    if crossing is None:
        return Time(run.evaluations()[-1]["step"], None)
    return Time(crossing.after, crossing.by)


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % bootstrap interval of the mean over seeds; None below 5 of them."""
    if len(values) < MIN_RUNS:
        return None
    return bootstrap_mean(values, np.random.default_rng(0))


def contrast(
    runs: Runs,
    mine: Arm,
    theirs: Sequence[Arm],
    value: Callable[[Run], float] | None = None,
    only: Sequence[int] | None = None,
) -> dict[str, Any] | None:
    """Mine minus theirs over the seeds that have all of them; of several the best at each seed.

    By default of test accuracy at the last evaluation; None without a seed.
    """
    read = value or (lambda run: float(run.evaluations()[-1]["test_acc"]))
    if not theirs:
        return None
    seeds = [s for a, s in runs if a == mine and all((b, s) in runs for b in theirs)]
    seeds = sorted(s for s in seeds if only is None or s in only)
    if not seeds:
        return None
    each = {s: read(runs[mine, s]) - max(read(runs[b, s]) for b in theirs) for s in seeds}
    return summary(each)


def summary(each: Mapping[int, float]) -> dict[str, Any]:
    """Mean, interval from 5 seeds on, exact two-sided p, and every seed's difference."""
    values = list(each.values())
    found: dict[str, Any] = {"n": len(values), "difference": float(np.mean(values))}
    found |= {"interval": interval(values), "p": paired_p(values)}
    return found | {"seeds": {str(seed): value for seed, value in each.items()}}


def contrasts(runs: Runs, donors: "Donors") -> dict[str, Any]:
    """Frozen grokked against every control and the best of them, per target, and across targets."""
    found: dict[str, Any] = {}
    for target in ("T0", "T1", "T2", "T3", "T4"):
        grokked = frozen_body(target, "grokked")
        arms = {name: frozen_body(target, name) for name in CONTROLS}
        rows = {name: contrast(runs, grokked, [arm]) for name, arm in arms.items()}
        strict = [s for s in donors.seeds if not donors.relaxed(s)]
        rows["memorised, strict rule"] = contrast(runs, grokked, [arms["memorised"]], only=strict)
        rows["best control"] = contrast(runs, grokked, list(arms.values()))
        rows["scratch"] = contrast(runs, grokked, [scratch(target)])
        if target in COMMUTATIVE:
            untwinned = contrast(runs, grokked, list(arms.values()), value=_no_twin)
            rows["best control, without swapped twins"] = untwinned
        rows = {name: row for name, row in rows.items() if row is not None}
        if rows:
            found[target] = rows
    for target in ("T0", "T1"):
        found |= _between(found, target)
    return found


def _no_twin(run: Run) -> float:
    return float(run.evaluations()[-1][NO_TWIN])


def _between(found: Mapping[str, Any], target: str) -> dict[str, Any]:
    """How much larger the lead over the best control is than on D_n, seed by seed."""
    both = [found.get(t, {}).get("best control") for t in (target, "T3")]
    if None in both:
        return {}
    mine, theirs = (one["seeds"] for one in both)
    return {f"{target} - T3": summary({int(s): mine[s] - theirs[s] for s in mine if s in theirs})}


def verdict(found: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Every prediction: whether it holds, on which numbers, and what would have refuted it.

    `holds` is None where its arms are not there, or fewer than 5 seeds are.
    """
    lower = {t: _lower(found, t, "best control") for t in ("T0", "T1")}
    smaller = {t: _lower(found, f"{t} - T3") for t in ("T0", "T1")}
    portable = _all([_above(x) for x in (*lower.values(), *smaller.values())])
    portable = _all([portable, _not_better(found, "T2"), _not_better(found, "T4")], optional=1)
    return {
        "portable circuit": {
            "holds": portable,
            "because": f"lower bounds of grokked - best control {_said(lower)}; of that minus the "
            f"same on T3 {_said(smaller)}; T2 {_words(_not_better(found, 'T2'))}, "
            f"T4 {_words(_not_better(found, 'T4'))} no lead",
            "refuted by": "a lower bound at or below 0 on T0 or T1, a lead on T3 as large, or a "
            "lead on T2 or T4",
        },
        "weight scale": _tie(found, "spectrum_matched"),
        "generic pretraining": _tie(found, "memorised"),
        "embedding carries it": _embedding(rows),
        "easy optimisation": _easy(rows),
    }


def paragraph(said: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """What won, in which numbers, and what would have refuted it."""
    won = [name for name, one in said.items() if one["holds"]]
    lost = [name for name, one in said.items() if one["holds"] is False]
    undecided = [name for name, one in said.items() if one["holds"] is None]
    lines = ["Of the rival predictions " + (f"{', '.join(won)} won." if won else "none won.")]
    for target in ("T0", "T1", "T3"):
        row = found.get(target, {}).get("best control")
        if row:
            between = (
                ""
                if row["interval"] is None
                else (f", 95 % interval {row['interval'][0]:.3f} to {row['interval'][1]:.3f}")
            )
            lines.append(
                f"{target}: frozen grokked body minus the best control at each seed "
                f"{row['difference']:+.3f} of test accuracy (n={row['n']}{between}, exact "
                f"p={row['p']:.4f})."
            )
    for target in COMMUTATIVE:
        row = found.get(target, {}).get("best control, without swapped twins")
        if row:
            lines.append(
                f"{target} on pairs whose swapped twin is not trained on: {row['difference']:+.3f}."
            )
    for name in won:
        lines.append(f"{name.capitalize()} would have been refuted by {said[name]['refuted by']}.")
    open_ones = [t for t in ("T2", "T4") if _not_better(found, t) is None]
    if "portable circuit" in won and open_ones:
        lines.append(f"Its clause on {', '.join(open_ones)} is open: fewer than 5 seeds.")
    if lost:
        lines.append(f"Refuted: {', '.join(lost)}.")
    if undecided:
        why = "their arms missing, under 5 seeds or p at least .05"
        lines.append(f"Undecided, {why}: {', '.join(undecided)}.")
    return " ".join(lines)


def _tie(found: Mapping[str, Any], control: str) -> dict[str, Any]:
    row = found.get("T0", {}).get(control)
    between = None if row is None else row["interval"]
    holds = None if between is None else bool(between[0] <= 0 <= between[1])
    return {
        "holds": holds,
        "because": f"T0, grokked - {control}: {shown(row)}",
        "refuted by": "an interval of grokked - control on T0 that leaves out 0",
    }


def _embedding(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Donor embedding with a fresh body against the frozen grokked body, on T0 with old names."""

    def seeds(taken: str, trained: str, donor: str) -> Mapping[str, float]:
        fits = [
            row["seeds"]
            for row in rows
            if row["target"] == "T0 same names"
            and (row["taken"], row["trained"], row["donor"]) == (taken, trained, donor)
        ]
        return fits[0] if fits else {}

    mine, theirs = seeds("embedding", "body", "grokked"), seeds("body", "embedding", "grokked")
    each = {int(s): mine[s] - theirs[s] for s in mine if s in theirs}
    row = summary(each) if each else None
    between = None if row is None else row["interval"]
    better = between is not None and between[0] > 0
    unsure = row is None or between is None or (better and row["p"] >= 0.05)
    return {
        "holds": None if unsure else better,  # an interval over five seeds may be too short
        "because": f"T0 with the donor's names, frozen embedding - frozen body: {shown(row)}",
        "refuted by": "the frozen embedding doing no better than the frozen body",
    }


def _easy(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Steps to memorise random labels: frozen grokked body against the fastest frozen control."""
    steps = {
        row["donor"]: row["mean_steps_memorised"]
        for row in rows
        if (row["target"], row["taken"], row["trained"]) == ("T4", "body", "embedding")
        and row["n"] >= MIN_RUNS
    }
    others = [value for name, value in steps.items() if name != "grokked" and value is not None]
    mine = steps.get("grokked")
    holds = None if mine is None or not others else bool(mine < min(others))
    return {
        "holds": holds,
        "because": f"mean steps to memorise random labels, by donor: {steps or 'not run'}",
        "refuted by": "a control that memorises random labels as fast",
    }


def _lower(found: Mapping[str, Any], key: str, inner: str | None = None) -> float | None:
    row = found.get(key)
    row = row.get(inner) if row and inner else row
    return None if not row or row["interval"] is None else float(row["interval"][0])


def _above(lower: float | None) -> bool | None:
    return None if lower is None else lower > 0


def _not_better(found: Mapping[str, Any], target: str) -> bool | None:
    lower = _lower(found, target, "best control")
    return None if lower is None else lower <= 0


def _all(parts: Sequence[bool | None], optional: int | None = None) -> bool | None:
    """Whether all hold; None when one is unknown, unless it comes from `optional` on."""
    needed = parts if optional is None else parts[:optional]
    if False in parts:
        return False
    return None if None in needed else True


def _said(values: Mapping[str, float | None]) -> str:
    return ", ".join(f"{k} {'unknown' if v is None else f'{v:.3f}'}" for k, v in values.items())


def _words(holds: bool | None) -> str:
    return {True: "has", False: "does not have", None: "not run: unknown whether it has"}[holds]


def shown(row: Mapping[str, Any] | None) -> str:
    """A contrast in a line."""
    if row is None:
        return "not run"
    between = (
        "no interval"
        if row["interval"] is None
        else (f"{row['interval'][0]:.3f} to {row['interval'][1]:.3f}")
    )
    return f"{row['difference']:+.3f} ({between}, n={row['n']}, p={row['p']:.4f})"
