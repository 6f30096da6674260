"""Runs of a sweep as local processes: so many at a time, the dead noticed and started again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from mechgrok.training.plan import Endings, Job
from mechgrok.training.worker import FAILED, FINISHED, INTERRUPTED

ATTEMPTS: Final = 3
"""Times a run whose process dies is started; each goes on from its last checkpoint."""
POLL: Final = 0.05
"""Seconds between two looks at the processes."""


@dataclass
class _Process:
    """A worker at work."""

    job: Job
    popen: "subprocess.Popen[bytes]"
    errors: IO[bytes]
    attempt: int


def run_local(jobs: Sequence[Job], logs: Path, workers: int) -> Endings:
    """Train every job; yields each as it ends, with the reason when it failed.

    Closing the generator, or Ctrl-C, lets every worker save and end.
    """
    waiting, running = list(jobs), list[_Process]()
    tries: dict[str, int] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop(0)
                tries[job.name] = tries.get(job.name, 0) + 1
                running.append(_start(job, logs, tries[job.name]))
            time.sleep(POLL)
            for process in [p for p in running if p.popen.poll() is not None]:
                running.remove(process)
                again, reason = _ending(process)
                if again:
                    waiting.insert(0, process.job)
                else:
                    yield process.job, reason
    finally:
        _stop(running)


def _start(job: Job, logs: Path, attempt: int) -> _Process:
    errors = open(logs / f"{job.name}.log", "ab")  # noqa: SIM115 (closed when it ends)
    threads = str(job.config.threads or "")
    environment = {**os.environ, **({"OMP_NUM_THREADS": threads} if threads else {})}
    command = [sys.executable, "-m", "mechgrok.training.worker", config_file(job, logs)]
    popen = subprocess.Popen(
        [*command, str(job.directory)],
        stdin=subprocess.PIPE,  # held open for as long as this process lives
        stdout=errors,
        stderr=errors,
        env=environment,
        start_new_session=True,  # Ctrl-C reaches the workers through this process, once
    )
    return _Process(job, popen, errors, attempt)


def config_file(job: Job, logs: Path) -> str:
    """Path of the config a worker reads."""
    return str(logs / f"{job.name}.yaml")


def _ending(process: _Process) -> tuple[bool, str | None]:
    """Whether to start the run again, and otherwise why it failed, if it did."""
    code = process.popen.returncode
    process.errors.close()
    if process.popen.stdin is not None:
        process.popen.stdin.close()
    if code == FINISHED:
        return False, None
    if code == FAILED:
        return False, last_line(Path(process.errors.name))
    what = "was interrupted" if code == INTERRUPTED else f"died ({spelled(code)})"
    if process.attempt < ATTEMPTS:
        return True, None
    return False, f"its process {what} {ATTEMPTS} times; the log is {process.errors.name}"


def last_line(path: Path) -> str:
    """What a worker said last."""
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"no reason was given; {path} is empty"


def spelled(code: int) -> str:
    """How a process ended."""
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"{name}, perhaps out of memory" if name == "SIGKILL" else name


def _stop(running: Sequence[_Process]) -> None:
    """Ask every worker to save and end, and wait for it."""
    for process in running:
        if process.popen.poll() is None:
            process.popen.send_signal(signal.SIGINT)
    for process in running:
        _wait(process.popen)
        process.errors.close()


def _wait(popen: Any) -> None:
    try:
        popen.wait(60)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait()
    popen.stdin.close()
