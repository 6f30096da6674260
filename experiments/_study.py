"""What the two studies of fingerprints share: training or finding their runs, and their moments."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mechgrok.runs.runs import Runs
    from mechgrok.training.plan import Plan

SMALL = {
    "task.frac_train": 0.1,
    "model.n_layers": 1,
    "model.d_model": 32,
    "model.n_heads": 2,
    "model.d_mlp": 64,
    "schedule.evaluate_every": 20,
    "schedule.checkpoints": ["at 0", "every 20"],
    "stop.max_steps": 240,
    "stop.after_generalised": None,
}
"""A model of openai/grok's layout that is trained in seconds and learns nothing."""


def parser(doc: str, directory: str, expected: Path) -> argparse.ArgumentParser:
    """The options both have."""
    found = argparse.ArgumentParser(description=doc.splitlines()[0])
    found.add_argument("--runs", type=Path, default=Path(directory), help="where runs are kept")
    found.add_argument("--workers", type=int, default=2, help="runs at a time, one thread each")
    found.add_argument("--small", action="store_true", help="tiny runs of 240 steps")
    found.add_argument("--report-only", action="store_true", help="from stored runs, no training")
    found.add_argument("--record", action="store_true", help=f"write {expected.name}, pictures")
    return found


def trained(plans: "Sequence[Plan]", asked: argparse.Namespace) -> "tuple[Runs, dict[str, str]]":
    """The runs of all plans, and why runs failed; with `--report-only` as they are stored.

    Raises RunError with `--report-only` when a run is missing or still to be trained.
    """
    from mechgrok.runs.runs import Runs
    from mechgrok.training import sweep

    named = {job.name: job for one in plans for job in one.jobs(asked.runs)}
    jobs = list(named.values())  # grids may share runs
    if asked.report_only:
        failed = stored(jobs, asked.runs)
    else:
        failed = {}
        for one in plans:
            failed |= sweep.run_plan(one, asked.runs, asked.workers)
    return Runs(sweep.opened(jobs, asked.runs)), failed


def stored(jobs: Sequence[Any], directory: Path) -> dict[str, str]:
    """Why runs failed. Raises RunError when one neither ended nor failed."""
    from mechgrok.runs.storage import RunError
    from mechgrok.training import sweep

    failed = sweep.failures(directory)
    left = [job.name for job in jobs if not job.ended() and job.name not in failed]
    if left:
        raise RunError(
            f"{directory} lacks {len(left)} of {len(jobs)} runs, the first {left[0]}; the same "
            "command without --report-only trains what is missing"
        )
    return {job.name: failed[job.name] for job in jobs if job.name in failed}
