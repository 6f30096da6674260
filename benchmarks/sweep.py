"""Runs per hour of two workers over one, one thread each.

    python benchmarks/sweep.py            # about 5 minutes on two quiet cores

Four runs of `quick` for 800 steps, each sweep from nothing in a temporary directory, starting of
the processes included; alternately, `--repeats` times each. Beside it stands what two processes of
bare matrix products (one thread each, the sizes of the MLP of `quick`) reach over one: cores that
share caches, memory and clock do not give 2, whatever is run on them. Writes latest_sweep.json.
Goals: at least 1.8 where the machine itself gives that, and at least .95 of what it gives.
"""

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path

from mechgrok.training.provenance import machine
from mechgrok.training.sweep import sweep

HERE = Path(__file__).parent
RUNS, STEPS, SPAN = 4, 800, 5.0


def seconds(workers: int) -> float:
    with tempfile.TemporaryDirectory() as directory:
        began = time.perf_counter()
        sweep("quick", seeds=range(RUNS), overrides={"stop.max_steps": STEPS},
              runs=directory, workers=workers, progress=False)  # fmt: skip
        return time.perf_counter() - began


def products(queue: "multiprocessing.Queue[float]") -> None:
    """Products per second of one process, over SPAN seconds."""
    import torch

    torch.set_num_threads(1)
    x, w_in, w_out = torch.randn(1392, 128), torch.randn(128, 512), torch.randn(512, 128)
    began, done = time.perf_counter(), 0
    while (spent := time.perf_counter() - began) < SPAN:
        for _ in range(10):
            _ = (x @ w_in).relu_() @ w_out
        done += 10
    queue.put(done / spent)


def rate(processes: int) -> float:
    """Products per second of all processes together."""
    start = multiprocessing.get_context("spawn")
    queue = start.Queue()
    working = [start.Process(target=products, args=(queue,)) for _ in range(processes)]
    for process in working:
        process.start()
    found = sum(queue.get() for _ in working)
    for process in working:
        process.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Two workers of a sweep over one.")
    parser.add_argument("--repeats", type=int, default=2)
    repeats = parser.parse_args().repeats
    pairs, ceilings = [], []
    for _ in range(repeats):
        pairs.append((seconds(1), seconds(2)))
        ceilings.append(rate(2) / rate(1))
    ratio, ceiling = statistics.median(one / two for one, two in pairs), statistics.median(ceilings)
    per_hour = [3600 * RUNS / statistics.median(side) for side in zip(*pairs, strict=True)]
    print(
        f"two workers over one: {ratio:.2f} ({per_hour[1]:.0f} / {per_hour[0]:.0f} runs per hour); "
        f"two processes of bare products over one: {ceiling:.2f}"
    )
    found = {
        "machine": machine(),
        "two_workers_over_one": round(ratio, 3),
        "two_processes_of_products_over_one": round(ceiling, 3),
        "share_of_the_machines_own": round(ratio / ceiling, 3),
        "runs_per_hour": [round(x, 1) for x in per_hour],
        "runs": f"{RUNS} of quick, {STEPS} steps, one thread each, {repeats} pairs",
        "seconds": [[round(x, 2) for x in pair] for pair in pairs],
    }
    (HERE / "latest_sweep.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
