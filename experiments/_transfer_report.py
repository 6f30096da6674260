"""What the finished arms of the transfer experiment show: tables, verdict, pictures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _transfer_findings as findings
from _transfer_arms import HORIZON, not_applicable

if TYPE_CHECKING:
    from _transfer_donors import Donors

SHOWN = ("target", "fraction", "taken", "trained", "donor", "donor_step", "n", "test_acc")
SHOWN += ("train_acc", "generalised", "mean_steps_generalised", "mean_steps_memorised")


def report(sets: Mapping[str, findings.Runs], donors: "Donors") -> dict[str, Any]:
    """Print what was found, the first paragraph first; returns it for expected.json."""
    import pandas as pd

    donors.prepare([])
    runs = {
        key: run
        for name in sets
        if name not in ("progress", "mainline")
        for key, run in sets[name].items()
    }
    rows = findings.table(runs, HORIZON)
    between = findings.contrasts(runs, donors)
    said = findings.verdict(between, rows)
    found: dict[str, Any] = {"paragraph": findings.paragraph(said, between), "verdict": said}
    found |= {"donors": donors.facts(), "contrasts": between, "arms": rows}
    found["not_applicable"] = not_applicable()
    print(found["paragraph"])
    if rows:
        print(pd.DataFrame(rows)[list(SHOWN)].to_string(index=False))
    return found


def record(found: Mapping[str, Any], expected: Path, figures: Path) -> None:
    """Write expected.json."""
    expected.write_text(json.dumps(found, indent=1) + "\n")
