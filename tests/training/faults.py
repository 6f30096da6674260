"""Children that die: by a fault at a chosen write, or by a kill from outside."""

import builtins
import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from mechgrok.runs import row_file, storage


def forked(work: Callable[[], Any]) -> multiprocessing.Process:
    """Start work in a child that has everything imported already."""
    process = multiprocessing.get_context("fork").Process(target=work, daemon=True)
    process.start()
    return process


def exit_code(work: Callable[[], Any]) -> int:
    """How a child ends: 0, 1 after an exception, or minus the signal that killed it."""
    process = forked(work)
    process.join(120)
    assert process.exitcode is not None, "the child hangs"
    return process.exitcode


def die() -> NoReturn:
    """As by `kill -9`: no handler, no clean-up."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def plant(where: str, k: int, directory: Path) -> None:
    """Die in the k-th write, fsync or rename after the directory's first checkpoint is finished.

    `write` leaves the first half of the data behind; `rename` dies just before the file appears.
    """
    calls = itertools.count(1)

    def due() -> bool:
        return (directory / "latest").exists() and next(calls) == k

    def opened(path: Any, mode: str = "r", **options: Any) -> Any:
        file = builtins.open(path, mode, **options)  # noqa: SIM115
        if mode in ("wb", "w", "a") and due():
            file.write = lambda data: _write_half(file, data)
        return file

    real_fsync, real_replace = os.fsync, os.replace
    if where == "write":
        for module in (storage, row_file):
            vars(module)["open"] = opened
    elif where == "fsync":
        os.fsync = lambda handle: die() if due() else real_fsync(handle)
    else:
        os.replace = lambda source, target: die() if due() else real_replace(source, target)


def _write_half(file: Any, data: Any) -> NoReturn:
    type(file).write(file, data[: len(data) // 2])
    file.flush()
    die()
