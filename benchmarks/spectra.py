"""Seconds of a spectrum at the published size: 3,000 snapshots of 19 features, 32 delays, rank 10.

    python benchmarks/spectra.py

The goal is under 5 s for the fit (an SVD of 608 x 2968) and 200 bootstrap replicates together, on
two cores. Adds its lines to latest_run.json, leaving those of the other benchmarks.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mechgrok.maths.dmd import Spectrum, spectrum

REPEATS = 5
LATEST = Path(__file__).parent / "latest_run.json"


def trajectory(steps: int = 3000, features: int = 19) -> np.ndarray:
    """Slow decays and a rotation, with 1 % noise."""
    generator = np.random.default_rng(0)
    eigenvalues = np.array([1, 0.9995, 0.998, 0.99, 0.97, 0.985 * np.exp(0.15j)])
    powers = eigenvalues[None, :] ** np.arange(steps)[:, None]
    values = (powers @ generator.normal(size=(6, features))).real
    return values + 0.01 * values.std() * generator.normal(size=values.shape)


def seconds(call: Callable[[], Any]) -> dict[str, float]:
    """Median wall and processor seconds: they differ on a busy machine or with several threads."""
    found = []
    for _ in range(REPEATS):
        wall, processor = time.perf_counter(), time.process_time()
        call()
        found.append((time.perf_counter() - wall, time.process_time() - processor))
    wall, processor = (statistics.median(side) for side in zip(*found, strict=True))
    return {"wall": round(wall, 3), "processor": round(processor, 3)}


def main() -> None:
    values = trajectory()

    def fit() -> Spectrum:
        return spectrum(values, center="none")

    found = fit()
    timed = {
        "spectrum_seconds": seconds(fit),
        "bootstrap_200_seconds": seconds(lambda: found.bootstrap(np.random.default_rng(0), 200)),
        "windows_111_seconds": seconds(lambda: found.windowed(window=250, stride=25)),
    }
    goals = {"spectrum_seconds": "< 5 with the bootstrap"}
    for name, spent in timed.items():
        print(
            f"{name:<24} {spent['wall']:7.2f} s wall {spent['processor']:7.2f} s processor   "
            f"goal {goals.get(name, 'recorded')}"
        )
    known = json.loads(LATEST.read_text()) if LATEST.exists() else {}
    LATEST.write_text(json.dumps(known | timed, indent=1) + "\n")


if __name__ == "__main__":
    main()
