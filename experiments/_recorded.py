"""Run directories that are there already, for scripts that would otherwise train them."""

from pathlib import Path
from typing import TYPE_CHECKING

from mechgrok.config import ConfigError

if TYPE_CHECKING:
    from mechgrok.runs.run import Run

DECIDING = ("task", "model", "loss", "optim", "seeds", "init_from")
"""Parts of a config that make another experiment of it; when one looks, stops, records does not."""


def run_of(preset: str, path: Path) -> "Run":
    """The finished run at `path`, which must be of `preset` at its own seed.

    Raises ConfigError for a run of anything else, by the fields that differ, and for one that has
    not ended; RunError for a directory that is no run.
    """
    from mechgrok.options import differences
    from mechgrok.runs.run import Run
    from mechgrok.training.trainer import resolve

    run = Run(path)
    changed = differences(resolve(preset, run.seed), run.config)
    other = [name for name in changed if name.split(".")[0] in DECIDING]
    if other:
        raise ConfigError(f"{path} is not a run of {preset}: it has another {', '.join(other)}")
    if run.status["state"] != "finished":
        raise ConfigError(f"{path} is {run.status['state']}; expected a finished run")
    return run
