"""What is refused or arranged before a run directory is touched."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from mechgrok.config import ConfigError, RunConfig
from mechgrok.options import differences
from mechgrok.runs import layout
from mechgrok.runs.run import Run, read_config
from mechgrok.runs.storage import RunError

CONTINUABLE = ("preset", "stop", "device", "threads")
"""Settings in which a resumed run may differ: they do not change the weights at a given step."""


def use_threads(config: RunConfig) -> None:
    """Set torch's threads; raises ConfigError for fewer than 1, and for a GPU that is not there."""
    if config.threads is not None:
        if config.threads < 1:
            raise ConfigError(f"threads = {config.threads}; expected at least 1")
        torch.set_num_threads(config.threads)
    if torch.device(config.device).type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device = {config.device!r}, but torch finds no GPU; use cpu")


@contextmanager
def matmul_precision(config: RunConfig) -> Iterator[None]:
    """The precision that a model asks for in its training steps; others have the highest."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(getattr(config.model, "matmul_precision", "highest"))
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def refuse_existing(directory: Path, resume: bool) -> None:
    """With `resume=False`, refuse a directory that holds a run."""
    if not resume and (directory / "config.yaml").exists():
        raise RunError(f"{directory} exists and resume is False; give another --run, or resume")


def refuse_other(directory: Path, config: RunConfig) -> None:
    """Refuse a directory of another config, a newer format, or someone else's files."""
    if not (directory / "config.yaml").exists():
        if (directory / "checkpoints").exists() and layout.steps(directory, "checkpoints"):
            raise RunError(f"{directory} has checkpoints but no config.yaml; give another --run")
        return
    if _imported(directory):
        raise RunError(
            f"{directory} holds an imported model, which has no training state to go on from; "
            f"train from its weights in a new --run, with --init-from {directory}"
        )
    changed = {
        name: pair
        for name, pair in differences(read_config(directory / "config.yaml"), config).items()
        if name.split(".")[0] not in CONTINUABLE
    }
    if changed:
        lines = [f"{name}: {old!r} there, {new!r} asked" for name, (old, new) in changed.items()]
        raise RunError(
            f"{directory} holds a run of another config; give another --run. " + "; ".join(lines)
        )


def _imported(directory: Path) -> bool:
    """Whether it was made by import or export; a damaged or newer directory is refused."""
    run = Run(directory)
    if "shared" in run.provenance:
        return True
    return (directory / "status.json").exists() and run.status.get("state") == "imported"


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Ctrl-C asks the loop to stop between two steps; a second one stops at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(signum: int, frame: Any) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
