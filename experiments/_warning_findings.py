"""The numbers of early_warning.py, and what they say in words."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from _warning_alarms import TARGET, alarms
from _warning_ranking import OUTCOMES, RESAMPLES, Choice, Followed, at_risk, choose, ranking
from _warning_signals import OBSERVABLES, Settings, residual_name

from mechgrok.maths.concordance import apart, bootstrap_concordance, concordance, interval
from mechgrok.maths.statistics import MIN_RUNS

CLAIMED: Final = 0.93
"""AUROC of the residual at run level on held-out runs (arXiv 2605.08237, abstract)."""


def analysis(
    calibration: Sequence[Followed], held_out: Sequence[Followed], of: Settings
) -> dict[str, Any]:
    """Everything that is reported; calibration runs choose, held-out runs are counted."""
    choice = choose(calibration, of)
    sets = {"calibration": calibration, "held_out": held_out}
    rows = {
        name: [row for outcome in OUTCOMES for row in ranking(runs, of, choice, outcome)]
        for name, runs in sets.items()
    }
    return {
        "landmarks": list(of.landmarks),
        "end": max(run.moments.last for run in (*calibration, *held_out)),
        "at_risk": {name: at_risk(runs, of) for name, runs in sets.items()},
        "choice": {
            "residuals": dict(choice.residuals),
            "signs": dict(choice.signs),
            "best_baseline": choice.best_baseline,
        },
        "ranking": rows,
        "alarms": alarms(calibration, held_out, of, choice),
        "whole_run": whole_run(held_out, of),
        "runs": [
            run.moments.plain() | {"set": name} for name, runs in sets.items() for run in runs
        ],
    }


def within(
    groups: Mapping[str, Sequence[Followed]], of: Settings, choice: Choice
) -> dict[str, Any]:
    """The same ranking of other runs, group by group, with everything chosen elsewhere."""
    return {
        name: {
            "at_risk": at_risk(runs, of),
            "ranking": [row for o in OUTCOMES for row in ranking(runs, of, choice, o)],
            "runs": [run.moments.plain() for run in runs],
        }
        for name, runs in groups.items()
    }


def whole_run(runs: Sequence[Followed], of: Settings) -> list[dict[str, Any]]:
    """AUROC of the published residual over each whole run from memorising on: no warning.

    It looks past onset, which is how a diagnostic at run level differs from an alarm; runs that
    generalised also stop earlier.
    """
    known = [run for run in runs if run.moments.memorised is not None]
    pairs = apart(np.array([run.moments.generalised is not None for run in known], dtype=bool))
    rows = []
    for name in OBSERVABLES.values():
        signal = residual_name(name, *of.choices[0])
        late = [r.signals[signal] for r in known]
        parts = [
            s.values[s.steps >= (run.moments.memorised or 0)]
            for s, run in zip(late, known, strict=True)
        ]
        if not pairs.any() or not all(len(part) for part in parts):
            rows.append({"signal": f"residual of {name}", "note": "no pair, or runs too short"})
            continue
        for statistic in (np.mean, np.max):
            scores = np.array([statistic(part) for part in parts])
            row: dict[str, Any] = {
                "signal": f"residual of {name}, {statistic.__name__} over the run"
            }
            row |= {"runs": len(known), "AUROC": concordance(scores, pairs), "interval": None}
            if len(known) >= MIN_RUNS:
                draws = bootstrap_concordance(
                    scores[None], pairs, np.random.default_rng(0), RESAMPLES
                )
                row["interval"] = interval(draws[0])
            rows.append(row)
    return rows


def sentences(found: Mapping[str, Any]) -> list[str]:
    """What was found, in order: the paper's claim, the observables, plain signals, alarms."""
    held = [run for run in found["runs"] if run["set"] == "held_out"]
    rows = {(row["signal"], row["outcome"]): row for row in found["ranking"]["held_out"]}
    best = found["choice"]["best_baseline"]
    told = [_counts(held, found["end"])]
    if "reached" in found:
        told.append(_reached(found["reached"]))
    if rows:
        told.insert(0, _verdict(rows))
        told += [_area(rows, name) for name in OBSERVABLES.values()]
        told += [_order(rows, name, found["landmarks"]) for name in OBSERVABLES.values()]
        told.append(_baseline(rows, best))
    else:
        told.append("No landmark has two runs to compare, so nothing can be ranked.")
    told += [_alarm(row) for row in found["alarms"] if row["signal"] in _alarmed(best)]
    told += [_at_size(name, group, best) for name, group in found.get("replication", {}).items()]
    return [one for one in told if one]


def by_half(found: Mapping[str, Any]) -> list[str]:
    """The same ranking where about half of the runs have reached onset."""
    held = [run for run in found["runs"] if run["set"] == "held_out"]
    onset = sum(run["onset"] is not None for run in held)
    said = f"By step {found['end']:,}, {onset} of {len(held)} held-out runs had reached onset"
    rows = {(row["signal"], row["outcome"]): row for row in found["ranking"]["held_out"]}
    if not rows:
        return [f"{said}; no landmark has two runs to compare."]
    best = found["choice"]["best_baseline"]
    labels = [f"residual of {of}, published" for of in OBSERVABLES.values()] + [best]
    ranked = ", ".join(f"{one} {_number(rows[one, 'C'])}" for one in labels)
    told = [f"{said}; concordance of {ranked}."]
    areas = [one for one in labels if (one, "AUROC onset") in rows]
    if areas:
        each = ", ".join(f"{one} {_number(rows[one, 'AUROC onset'])}" for one in areas)
        told.append(f"AUROC for onset by then or not: {each}.")
    return told + [_alarm(row) for row in found["alarms"] if row["signal"] in _alarmed(best)]


def _verdict(rows: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    """Whether the published signal tells the order of onsets, and more than a plain one does."""
    published = [rows[f"residual of {name}, published", "C"] for name in OBSERVABLES.values()]
    lead = published[0]["over_best"]
    if lead is None or any(row["interval"] is None for row in published):
        return "Too few runs for a verdict on the published signal."
    told = [
        f"{'ranks' if row['interval'][0] > 0.5 else 'does not rank'} runs by time to onset when "
        f"the {name} is observed"
        for name, row in zip(OBSERVABLES.values(), published, strict=True)
    ]
    beats = "beats" if lead[0] > 0 else "does not beat"
    return (
        f"The published signal {told[0]}, {told[1]}, and with the answer it {beats} the best plain "
        "alarm."
    )


def _at_size(name: str, group: Mapping[str, Any], best: str) -> str:
    """The replication within one weight decay."""
    rows = {row["signal"]: row for row in group["ranking"] if row["outcome"] == "C"}
    onset = sum(run["onset"] is not None for run in group["runs"])
    said = f"At the published size, {name}, {onset} of {len(group['runs'])} runs reached onset"
    if not rows:
        return f"{said}; no landmark has two to compare."
    labels = [f"residual of {of}, published" for of in OBSERVABLES.values()]
    labels += [best] if best in rows else []
    return f"{said}; concordance: {', '.join(f'{one} {_number(rows[one])}' for one in labels)}."


def _counts(runs: Sequence[Mapping[str, Any]], end: int) -> str:
    onset = sum(run["onset"] is not None for run in runs)
    generalised = sum(run["generalised"] is not None for run in runs)
    return (
        f"Of {len(runs)} held-out runs {onset} reached onset and {generalised} generalised by step "
        f"{end:,}; rank, window, signs and thresholds come from other runs."
    )


def _reached(of: Mapping[str, int]) -> str:
    """How far all runs came, by three criteria."""
    return (
        f"Of all {of['runs']} runs {of['onset']} reached onset, {of['once_right']} had a test "
        f"accuracy of 90 % at some evaluation, and {of['generalised']} held 99 % for three in a "
        "row."
    )


def _area(rows: Mapping[tuple[str, str], Mapping[str, Any]], name: str) -> str:
    row, other = (
        rows.get((f"residual of {name}, published", f"AUROC {what}"))
        for what in ("onset", "generalised")
    )
    if row is None:
        return ""
    said = f"Before onset, the published residual of the {name} has an AUROC of {_number(row)} for "
    said += "reaching it or not"
    said += "" if other is None else f" ({_number(other)} for generalised or not)"
    said += f", where the paper gives about {CLAIMED}"
    if row["interval"] is None:
        return f"{said}."
    low, high = row["interval"]
    claim = (
        "the interval does not exclude it, and"
        if high >= CLAIMED
        else "that does not hold here, and"
    )
    return f"{said}: {claim} {_against(low, high)}."


def _order(
    rows: Mapping[tuple[str, str], Mapping[str, Any]], name: str, landmarks: Sequence[int]
) -> str:
    published = rows.get((f"residual of {name}, published", "C"))
    chosen = rows.get((f"residual of {name}, chosen", "C"))
    if published is None or chosen is None:
        return ""
    steps = ", ".join(f"{at:,}" for at in landmarks)
    return (
        f"With time to onset (mean over steps {steps}; a clock has .5) its concordance on the "
        f"{name} is {_number(published)} as published, {_number(chosen)} with rank, window and "
        f"sign from calibration ({chosen['of'].partition(', ')[2]}, sign {chosen['sign']:+d})."
    )


def _baseline(rows: Mapping[tuple[str, str], Mapping[str, Any]], best: str) -> str:
    plain, residual = rows[best, "C"], rows["residual of answer, chosen", "C"]
    said = f"The plain signal that calibration found best, {best}, has {_number(plain)}"
    lead = residual["over_best"]
    if lead is None:
        return f"{said}."
    low, high = lead
    verdict = "does not differ from it"
    verdict = "beats it" if low > 0 else "is worse than it" if high < 0 else verdict
    return f"{said}: the answer's residual {verdict} (difference {low:+.2f} to {high:+.2f})."


def _alarmed(best: str) -> list[str]:
    return [*(f"residual of {name}, chosen" for name in OBSERVABLES.values()), best]


def _alarm(row: Mapping[str, Any]) -> str:
    if row["threshold"] is None or "hits" not in row:
        return f"{row['signal'].capitalize()}: no threshold, since every calibration run had onset."
    lead = "" if row["median_lead"] is None else f", median lead {row['median_lead']:,.0f} steps"
    said = f"Alarms by {row['signal']} (at most {TARGET:.0%} false on calibration runs): "
    said += f"{row['hits']} of {row['with_onset']} onsets warned of{lead}; "
    said += f"{row['false_alarms']} of {row['without_onset']} runs without onset alarmed"
    if "difference_interval" in row:
        low, high = row["difference_interval"]
        said += f"; hit rate minus false-alarm rate {low:+.2f} to {high:+.2f}"
    return f"{said}."


def _number(row: Mapping[str, Any]) -> str:
    found = f"{row['mean']:.2f}"
    if row["interval"] is None:
        return f"{found} (too few runs for an interval)"
    low, high = row["interval"]
    return f"{found} [{low:.2f}, {high:.2f}]"


def _against(low: float, high: float) -> str:
    if low > 0.5:
        return "it is better than chance"
    if high < 0.5:
        return "it points the other way"
    return "it is not distinguishable from chance"
