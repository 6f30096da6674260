"""What recording fingerprints costs a step of `spectral_add40`, at every second step.

    python benchmarks/fingerprints.py

One run on one thread: recordings of 100 training probes and updates take turns, and each is timed.
The ratio is that of an epoch (8 steps, 4 recordings) with its recordings over without them, as the
median over epochs. Processor seconds are the goal's (at most 1.05); on a busy machine wall seconds
measure the neighbours. Adds its lines to latest.json and latest_run.json.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from mechgrok.options import override
from mechgrok.presets import preset
from mechgrok.training import trainer

EPOCHS = 20
STEPS = 8
"""Of an epoch."""

HERE = Path(__file__).parent
RECORDINGS: dict[str, dict[str, Any]] = {
    "fingerprint_step_over_plain": {},
    "hidden_fingerprint_step_over_plain": {"record.fingerprint.hook": "blocks.1.hook_resid_post"},
}
"""By name of the ratio; the second is recorded and has no goal."""


class Clock:
    """Processor and wall seconds spent in one function."""

    def __init__(self, function: Any) -> None:
        self.function, self.spent = function, [0.0, 0.0]

    def __call__(self, *arguments: Any) -> Any:
        """Call it."""
        processor, wall = time.process_time(), time.perf_counter()
        found = self.function(*arguments)
        self.spent[0] += time.process_time() - processor
        self.spent[1] += time.perf_counter() - wall
        return found

    def take(self) -> list[float]:
        """The seconds since the last call."""
        spent, self.spent = self.spent, [0.0, 0.0]
        return spent


def measure(changes: dict[str, Any], directory: Path) -> dict[str, float]:
    """Median ratios over epochs, and milliseconds of processor time of a step and a recording."""
    settings = {"record.fingerprint.every": 2, **changes}
    run: Any = trainer._Trainer(override(preset("spectral_add40", 42), settings), directory)
    run.start()
    record, step = Clock(run.fingerprint.record), Clock(run._step)
    run.fingerprint.record = record
    epochs = []
    for _ in tqdm(range(1 + EPOCHS), leave=False):
        for _ in range(STEPS):
            step()
        epochs.append((record.take(), step.take()))
    ratios = [[b / (b - a) for a, b in zip(r, s, strict=True)] for r, s in epochs[1:]]
    recording = statistics.median(r[0] for r, _ in epochs[1:])
    plain = statistics.median(s[0] - r[0] for r, s in epochs[1:])
    run.fingerprint.close()
    return {
        "processor": round(statistics.median(p for p, _ in ratios), 3),
        "wall": round(statistics.median(w for _, w in ratios), 3),
        "plain_step_ms": round(1e3 * plain / STEPS, 2),
        "recording_ms": round(1e3 * recording / (STEPS // 2), 2),
    }


def main() -> None:
    """Measure, print and store."""
    torch.set_num_threads(1)
    ratios, runs = {}, {}
    for name, changes in RECORDINGS.items():
        with tempfile.TemporaryDirectory() as directory:
            runs[name] = measure(changes, Path(directory))
        ratios[name] = runs[name]["processor"]
        goal = "recorded" if changes else "<= 1.05"
        print(f"{name:<36} {ratios[name]:6.3f}   goal {goal:<10} {runs[name]}", flush=True)
    for file, found in (("latest.json", ratios), ("latest_run.json", runs)):
        path = HERE / file
        known = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(known | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
