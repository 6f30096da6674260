"""A run of milliseconds, and what makes two runs equal."""

import hashlib
import json
from pathlib import Path
from typing import Any

from mechgrok.config import BinaryTask, RunConfig, Schedule, Stop, TransformerModel
from mechgrok.options import override
from mechgrok.runs import layout
from mechgrok.runs.run import Run
from mechgrok.runs.storage import read_tensors, tensor_digest
from mechgrok.training import trainer

_TINY = RunConfig(
    preset="tiny",
    task=BinaryTask(n=7, frac_train=0.6),
    model=TransformerModel(d_model=8, n_heads=2, d_head=4, d_mlp=16),
    schedule=Schedule(evaluate_every=10, checkpoints=("at 0", "every 20")),
    stop=Stop(max_steps=60, after_generalised=None),
)

EVERYTHING = {
    "optim.batch_size": 10,  # 29 training rows: epochs of 10, 10 and 9
    "optim.ema": 0.9,
    "record.recorders": ["update_norm", "weight_norm"],
    "record.fingerprint.every": 3,
    "record.fingerprint.probes": 10,
    "record.fingerprint.splits": ["train", "test"],
}
"""Settings whose state a resume must restore: generators, partial epochs, averages, recorders."""


def config(**changes: Any) -> RunConfig:
    """The tiny config with dotted fields replaced; write dots as two underscores."""
    return override(_TINY, {name.replace("__", "."): value for name, value in changes.items()})


def train(of: RunConfig | str, directory: Path, **changes: Any) -> Run:
    """Train without display."""
    return trainer.train(of, run=directory, progress=False, overrides=changes or None)


def trained_parts(directory: Path) -> dict[str, Any]:
    """Everything of a run that training decides: bits of weights and state, and metrics."""
    found: dict[str, Any] = {"metrics": metrics(directory)}
    for step in layout.steps(directory, "checkpoints"):
        found[f"checkpoint {step}"] = tensor_digest(
            read_tensors(layout.checkpoint(directory, step))[0]
        )
    last = layout.steps(directory, "state")[-1]
    tensors, header = read_tensors(layout.state(directory, last))
    header["progress"]["metrics"].pop("seconds", None)
    found["state"] = (last, tensor_digest(tensors), header)
    if layout.fingerprints(directory).exists():
        found["fingerprints"] = layout.fingerprints(directory).read_bytes()
    found["latest"] = (directory / "latest").read_text()
    return found


def metrics(directory: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without their wall time."""
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def files(directory: Path) -> dict[str, str]:
    """Digest of every file below a directory."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
