"""The page of early_warning.py."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import _study_page
from _moments import Moments

HELD: Final = "held_out"


def write(
    path: Path,
    found: Mapping[str, Any],
    drawn: Mapping[str, Any],
    moments: Sequence[Moments],
    failed: Mapping[str, str],
) -> Path:
    """Write the page; its first paragraph is what was found. Returns the path."""
    parts = [
        ("Every run", [_study_page.figure(drawn["every_run"], "every-run")]),
        ("Ranking", _ranking(found, drawn)),
        ("Alarms", _alarms(found, drawn)),
        ("Over whole runs", [_study_page.table([_short(row) for row in found["whole_run"]])]),
        *_replication(found),
        ("Failed and censored", [_study_page.unfinished(moments, failed)]),
        ("Times", [_study_page.table(found["runs"])]),
    ]
    title = "Early warning of grokking"
    return _study_page.write(path, title, [" ".join(found["found"])], parts)


def _ranking(found: Mapping[str, Any], drawn: Mapping[str, Any]) -> list[str]:
    risk = [{"set": name, **row} for name, rows in found["at_risk"].items() for row in rows]
    return [
        _study_page.figure(drawn["concordance"], "concordance"),
        _study_page.text(
            "Scores are read at a landmark step from what was known by then, among runs not yet "
            "past onset. over_best: interval of the difference to the plain signal that "
            f"calibration found best, {found['choice']['best_baseline']}, over the same draws."
        ),
        _study_page.table([_short(row) for row in found["ranking"][HELD]]),
        _study_page.table(risk),
    ]


def _alarms(found: Mapping[str, Any], drawn: Mapping[str, Any]) -> list[str]:
    left = ("leads", "raised", "of")
    rows = [{k: _plain(v) for k, v in row.items() if k not in left} for row in found["alarms"]]
    return [
        _study_page.figure(drawn["lead_times"], "lead-times"),
        _study_page.text(
            "The clock has no threshold: at one step it alarms every run still ahead, so that it "
            "meets no target of false alarms; it is what a lead time has to be compared with."
        ),
        _study_page.table(rows),
    ]


def _replication(found: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    parts = []
    for name, group in found.get("replication", {}).items():
        rows = [_short(row) for row in group["ranking"]]
        inside = [_study_page.table(group["at_risk"])]
        inside.append(
            _study_page.table(rows)
            if rows
            else _study_page.text("No landmark has two runs to compare.")
        )
        parts.append((f"At the published size, {name}", inside))
    return parts


def _short(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _plain(v) for k, v in row.items() if k not in ("intervals", "of")}


def _plain(value: Any) -> Any:
    """Three digits; an interval as text."""
    if isinstance(value, list | tuple):
        return " to ".join(f"{one:.3f}" for one in value)
    return float(f"{value:.4g}") if isinstance(value, float) else value
