"""One run of a sweep in a process of its own: `python -m mechgrok.training.worker CONFIG RUN`.

It ends with the process that started it: that one holds the other end of its stdin, and when it
closes, however it does, the worker leaves at once; a run directory survives that at any point.
"""

import os
import sys
import threading
from pathlib import Path

FINISHED, FAILED, INTERRUPTED = 0, 1, 3
"""Exit codes; any other, or a signal, is a worker that died."""


def work(config: str, directory: str) -> tuple[int, str]:
    """Train one run to its end; returns the exit code, and the reason when it is not 0."""
    from mechgrok.config import ConfigError
    from mechgrok.runs.run import read_config
    from mechgrok.runs.storage import RunError
    from mechgrok.training.trainer import TrainingDiverged, train

    try:
        run = train(read_config(Path(config)), run=directory, progress=False)
    except (ConfigError, RunError, TrainingDiverged, ValueError, MemoryError) as error:
        return FAILED, f"{type(error).__name__}: {error}".replace("\n", " ")
    state = run.status["state"]
    return (FINISHED, "") if state == "finished" else (INTERRUPTED, f"the run is {state}")


def _leave_with_parent() -> None:
    os.read(0, 1)  # nothing is ever written: it returns when the other end closes
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    code, reason = work(*sys.argv[1:])
    if reason:
        print(reason, file=sys.stderr)
    sys.exit(code)
