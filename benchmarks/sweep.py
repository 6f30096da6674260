"""Runs per hour of two workers over one, one thread each.

    python benchmarks/sweep.py            # about 5 minutes on two quiet cores

Four runs of `quick` for 800 steps, each sweep from nothing in a temporary directory, starting of
the processes included; alternately, twice each. Writes latest_sweep.json. Goal: at least 1.8.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path

from mechgrok.training.provenance import machine
from mechgrok.training.sweep import sweep

HERE = Path(__file__).parent
RUNS, STEPS, REPEATS = 4, 800, 2


def seconds(workers: int) -> float:
    with tempfile.TemporaryDirectory() as directory:
        began = time.perf_counter()
        sweep("quick", seeds=range(RUNS), overrides={"stop.max_steps": STEPS},
              runs=directory, workers=workers, progress=False)  # fmt: skip
        return time.perf_counter() - began


def main() -> None:
    pairs = [(seconds(1), seconds(2)) for _ in range(REPEATS)]
    ratio = statistics.median(one / two for one, two in pairs)
    per_hour = [3600 * RUNS / statistics.median(side) for side in zip(*pairs, strict=True)]
    print(
        f"two workers over one: {ratio:.2f} ({per_hour[1]:.0f} / {per_hour[0]:.0f} runs per hour)"
    )
    found = {
        "machine": machine(),
        "two_workers_over_one": round(ratio, 3),
        "runs_per_hour": [round(x, 1) for x in per_hour],
        "runs": f"{RUNS} of quick, {STEPS} steps, one thread each",
        "seconds": [[round(x, 2) for x in pair] for pair in pairs],
    }
    (HERE / "latest_sweep.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
