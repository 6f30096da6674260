"""What measuring costs: seconds per checkpoint, 200 checkpoints, and peak memory.

Progress measures are those that the report follows over checkpoints (`mechgrok.report.EVERY`), the
2-D spectrum of the neurons included, which `key_frequencies` takes for its clusters. Nothing is
cached between checkpoints but the task. Each setting runs in a process of its own, so that its peak
memory is its own.

    python benchmarks/measures.py            # all settings, as `make bench` does
    python benchmarks/measures.py p113       # one of them, in this process
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from mechgrok import discovery
from mechgrok.presets import preset
from mechgrok.report import EVERY
from mechgrok.runs.checkpoint import Checkpoint, build_model

KEYS = (14, 35, 41, 42, 52)
TAKES_KEYS = (
    "attribution",
    "excluded_loss",
    "frequency_ablation",
    "frequency_removal",
    "logit_cosines",
    "loss_variants",
    "rank_2k",
    "restricted_loss",
    "spectra_2d",
)
WITHOUT_SPECTRUM = tuple(name for name in EVERY if name != "key_frequencies")
SERIES = 200
"""Checkpoints of the long setting."""
REPEATS = 8

GOALS = {
    "seconds_per_checkpoint": "<= 0.5",
    "seconds_without_2d_spectrum": "<= 0.3",
    "seconds_200_checkpoints": "<= 120",
    "peak_gib": "<= 1.5",
    "p401_seconds_per_checkpoint": "recorded",
    "p401_peak_gib": "recorded",
    "p401_every_measure_seconds": "recorded",
    "p401_every_measure_peak_gib": "< 6",
}


def checkpoint_of(p: int) -> Callable[[], Checkpoint]:
    """A maker of untrained mainline checkpoints mod p, the task and the weights made once."""
    config = preset("nanda2023_mainline")
    config = replace(config, task=replace(config.task, n=p))
    task = discovery.load("tasks", config.task.name).make(config.task, config.seeds)
    weights = {n: x.detach() for n, x in build_model(config, task).named_parameters()}

    def fresh() -> Checkpoint:
        checkpoint = Checkpoint(config, 0, weights)
        vars(checkpoint)["task"] = task  # as within a run, which makes it once
        return checkpoint

    return fresh


def measured(fresh: Callable[[], Checkpoint], names: Sequence[str]) -> float:
    """Seconds of these measures on a new checkpoint."""
    start = time.perf_counter()
    checkpoint = fresh()
    for name in names:
        options = {"keys": KEYS} if name in TAKES_KEYS else {}
        discovery.load("measures", name)(checkpoint, **options)
    return time.perf_counter() - start


def of_checkpoint() -> list[str]:
    """Every measure of a checkpoint."""
    return [
        name
        for name in discovery.names("measures")
        if discovery.module("measures", name).SUBJECT == "checkpoint"
    ]


def peak() -> float:
    """Most memory that this process has had, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def p113() -> dict[str, float]:
    """Progress measures at p = 113."""
    fresh = checkpoint_of(113)
    measured(fresh, EVERY)
    return {
        "seconds_per_checkpoint": statistics.median(measured(fresh, EVERY) for _ in range(REPEATS)),
        "seconds_without_2d_spectrum": statistics.median(
            measured(fresh, WITHOUT_SPECTRUM) for _ in range(REPEATS)
        ),
        "seconds_200_checkpoints": sum(measured(fresh, EVERY) for _ in range(SERIES)),
        "peak_gib": peak(),
    }


def p401() -> dict[str, float]:
    """Progress measures at p = 401."""
    fresh = checkpoint_of(401)
    return {"p401_seconds_per_checkpoint": measured(fresh, EVERY), "p401_peak_gib": peak()}


def p401_all() -> dict[str, float]:
    """Every measure of a checkpoint at p = 401."""
    seconds = measured(checkpoint_of(401), of_checkpoint())
    return {"p401_every_measure_seconds": seconds, "p401_every_measure_peak_gib": peak()}


SETTINGS: dict[str, Callable[[], dict[str, float]]] = {
    "p113": p113,
    "p401": p401,
    "p401_all": p401_all,
}


def costs() -> dict[str, float]:
    """All settings, each in a process of its own."""
    found: dict[str, float] = {}
    for name in SETTINGS:
        command = [sys.executable, str(Path(__file__)), name]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found |= json.loads(done.stdout)
    return found


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(SETTINGS[sys.argv[1]]()))
    else:
        for line, value in costs().items():
            print(f"{line:<34} {value:8.2f}   goal {GOALS[line]}")
