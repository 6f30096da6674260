"""Runs of a few dozen steps, trained once per test session."""

from pathlib import Path
from typing import Any

from mechgrok.presets import preset
from mechgrok.runs.run import Run
from mechgrok.training.trainer import train


def smoke_run(directory: Path, **overrides: Any) -> Run:
    """A run of smoke_p17 for 60 steps, with checkpoints at 0, 30 and 60."""
    settings = {
        "stop.max_steps": 60,
        "threads": 1,
        "schedule.evaluate_every": 10,
        "schedule.checkpoints": ["at 0", "every 30"],
        **overrides,
    }
    return train(preset("smoke_p17"), seed=0, run=directory, progress=False, overrides=settings)
