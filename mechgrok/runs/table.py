"""One row per run: the settings in which the runs differ, and what came of each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from mechgrok.maths.statistics import Crossing
from mechgrok.options import dotted
from mechgrok.runs.run import GENERALISED, MEMORISED, Run

if TYPE_CHECKING:
    import pandas as pd

LAST: Final = ("train_acc", "test_acc", "train_loss", "test_loss")
"""Metrics of the last evaluation."""
FAILED: Final = ("diverged", "failed")
"""States of a run whose end says nothing about when it would have generalised."""


def settings(run: Run) -> dict[str, Any]:
    """Every setting by its dotted name, `seed` for the base seed; lists as tuples."""
    found = {n: tuple(v) if isinstance(v, list) else v for n, v in dotted(run.config).items()}
    return {**found, "seed": run.seed}


def varied(runs: Sequence[Run]) -> list[str]:
    """Settings in which the runs differ, but for seeds that follow the base seed."""
    rows = [settings(run) for run in runs]
    names = dict.fromkeys(name for row in rows for name in row)
    return [
        name
        for name in names
        if name not in ("seed", "seeds.base")
        and len({row.get(name) for row in rows}) > 1
        and not (name.startswith("seeds.") and all(row[name] == row["seed"] for row in rows))
    ]


def last_step(run: Run) -> int:
    """Step of the last evaluation; 0 before the first."""
    rows = run.evaluations()
    return rows[-1]["step"] if rows else 0


def run_table(runs: Sequence[Run]) -> "pd.DataFrame":
    """run, the settings that differ, seed, state, step, memorised, generalised, last metrics.

    A time is the evaluation that first saw it, missing (`<NA>`) where the run ended before.
    """
    import pandas as pd

    names = varied(runs)
    rows = [_row(run, names) for run in runs]
    frame = pd.DataFrame(rows)
    times = dict.fromkeys(("memorised", "generalised"), "Int64")
    return frame.astype(times)  # whole steps, with a place for what was not reached


def _row(run: Run, names: Sequence[str]) -> dict[str, Any]:
    evaluations = run.evaluations()
    last = evaluations[-1] if evaluations else {}
    known = settings(run)
    return {
        "run": run.name,
        **{name: known.get(name) for name in names},
        "seed": run.seed,
        "state": run.status.get("state"),
        "step": last.get("step"),
        "memorised": _by(run, MEMORISED),
        "generalised": _by(run, GENERALISED),
        **{name: last.get(name) for name in LAST},
    }


def _by(run: Run, rule: tuple[str, float]) -> Any:
    rows = run.evaluations()
    found: Crossing | None = run.crossing(*rule) if rows and rule[0] in rows[0] else None
    return None if found is None else found.by
