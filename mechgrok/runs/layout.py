"""Every file of a run directory, and who writes it."""

from pathlib import Path
from typing import Final

FORMAT: Final = 1
"""Version of the layout; a newer one is refused."""

FILES: Final = {
    "config.yaml": "resolved settings; the trainer, once",
    "provenance.json": "layout version, package versions, commit, machine, threads; the trainer",
    "status.json": "running, finished, interrupted, diverged or imported, at which step; trainer",
    "metrics.jsonl": "one line per evaluation; the trainer",
    "checkpoints/step_XXXXXXXX.safetensors": "weights, raw and EMA where used; the trainer",
    "latest": "file name of the newest checkpoint a run can resume from; the trainer",
    "state/step_XXXXXXXX.safetensors": "moments, generators, stop and schedule rules; the trainer",
    "fingerprints/snapshots.rows": "values of the probes every few steps; training.fingerprint",
    "analysis/<measure>.json": "values and definitions of a measure; run.measure",
    "analysis/<measure>.npz": "its arrays; run.measure",
    "analysis/spectrum.json": "eigenvalues of training and what decided them; mechgrok spectra",
    "analysis/eigenvalues.npy": "the trusted ones alone, complex; mechgrok spectra",
    "analysis/circuit_XXXXXXXX.json": "edges of a checkpoint and what they do; mg.circuit",
    "figures/": "figures as html, and png where a browser is found; mechgrok plot",
    "report.html": "the whole run on one page; mechgrok report",
    "view.html": "attention, patches and circuit of a checkpoint or two; mechgrok view",
    ".lock": "held by the process that trains",
}
"""One line per file. `mechgrok import` writes the first five, and nothing to resume from."""


def checkpoint(directory: Path, step: int) -> Path:
    """Weights after `step` updates."""
    return directory / "checkpoints" / f"step_{step:08d}.safetensors"


def state(directory: Path, step: int) -> Path:
    """What training needs beside the weights to go on from `step`."""
    return directory / "state" / f"step_{step:08d}.safetensors"


def steps(directory: Path, kind: str) -> list[int]:
    """Steps that have a file in `checkpoints` or `state`, in order."""
    names = (directory / kind).glob("step_????????.safetensors")
    return sorted(int(path.stem.removeprefix("step_")) for path in names)


def fingerprints(directory: Path) -> Path:
    """The probes' values over training."""
    return directory / "fingerprints" / "snapshots.rows"


def analysis(directory: Path, measure: str) -> Path:
    """Values of a measure; its arrays stand beside it as .npz. Dots of a path become dashes."""
    return directory / "analysis" / f"{measure.replace('.', '-')}.json"
