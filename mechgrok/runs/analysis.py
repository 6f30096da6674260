"""Saved results of measures, and when one may be used again.

A result is reused for the same weights (config digest and step), options and source: the digest of
the measure's own file and of everything it may rest on (`maths`, `measures`, `interventions`).
"""

import hashlib
import inspect
import io
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from mechgrok import discovery
from mechgrok.runs import layout
from mechgrok.runs.result import NotApplicable, Result, Value
from mechgrok.runs.storage import RunError, read_json, write_bytes, write_json

if TYPE_CHECKING:
    from mechgrok.runs.run import Run


def read(directory: Path, measure: str) -> list[tuple[str, Result]]:
    """Saved results of a measure with their keys; empty when there are none."""
    path = layout.analysis(directory, measure)
    if not path.exists():
        return []
    stored = read_json(path)
    arrays = _read_arrays(path.with_suffix(".npz"))
    return [(entry["key"], _result(entry, arrays)) for entry in stored["results"]]


def write(directory: Path, measure: str, results: Sequence[tuple[str, Result]]) -> None:
    """Replace the saved results of a measure."""
    path = layout.analysis(directory, measure)
    arrays = {f"{k}/{n}": a for k, result in results for n, a in result.arrays.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_bytes(path.with_suffix(".npz"), buffer.getvalue())
    entries = [_entry(key, result) for key, result in results]
    write_json(path, {"measure": measure, "results": entries})


def measure(
    run: "Run", names: Sequence[str], steps: Sequence[int], options: Mapping[str, Any]
) -> dict[str, list[Result]]:
    """Results of several measures, from the cache where they are, otherwise computed and saved.

    Each checkpoint is opened once for all measures. A measure whose subject is a run is computed
    once, and last, since it may read what the others saved; options a measure does not take are
    not passed to it.
    """
    jobs = [_Job(run, name, options) for name in names]
    for step in steps:
        due = [job for job in jobs if job.subject == "checkpoint" and not job.has(step)]
        checkpoint = run.checkpoint(step) if due else None
        for job in due:
            job.add(step, checkpoint)
    for job in jobs:
        job.save()
    for job in jobs:
        if job.subject == "run":
            job.add(None, run)
            job.save()
    return {job.name: job.results(steps) for job in jobs}


class _Job:
    """One measure over one run: what is saved, what is new."""

    def __init__(self, run: "Run", name: str, options: Mapping[str, Any]) -> None:
        self.run, self.name = run, name
        self.module = discovery.module("measures", name)
        self.function = discovery.load("measures", name)
        self.subject = getattr(self.module, "SUBJECT", "checkpoint")
        if self.subject not in ("checkpoint", "run"):
            raise RunError(f"{name} is a measure of a {self.subject}; call it with that, not a run")
        taken = inspect.signature(self.function).parameters
        self.options = {k: v for k, v in options.items() if k in taken}
        self.default_keys = taken["keys"].default if "keys" in taken else None
        self.digest, self.last_step = run.config.digest(), run.steps[-1] if run.steps else None
        rows = run.evaluations()
        self.last_evaluation = rows[-1]["step"] if rows else None
        self.saved = dict(read(run.work, name))
        self.new = False

    def key(self, step: int | None) -> str:
        """Of this measure at a step; what depends on the run's end changes as the run goes on."""
        options = dict(self.options)
        if self.subject == "run":
            options["last evaluation"] = self.last_evaluation
        if options.get("keys", self.default_keys) == "final":
            options["keys of step"] = self.last_step
        return key(self.module, self.digest, step, options)

    def has(self, step: int | None) -> bool:
        return self.key(step) in self.saved

    def add(self, step: int | None, subject: Any) -> None:
        if not self.has(step):
            self.saved[self.key(step)] = self.function(subject, **self.options)
            self.new = True

    def results(self, steps: Sequence[int]) -> list[Result]:
        wanted = [None] if self.subject == "run" else steps
        return [self.saved[self.key(step)] for step in wanted]

    def save(self) -> None:
        """Write what is new; results of an older source are dropped."""
        if self.new:
            current = source(self.module)
            kept = [(key, r) for key, r in self.saved.items() if key.endswith(current)]
            write(self.run.work, self.name, kept)


def key(module: ModuleType, digest: str, step: int | None, options: Mapping[str, Any]) -> str:
    """Name of a result: what it measured, with which options, by which source."""
    parts = [digest, step, sorted((k, repr(v)) for k, v in options.items())]
    name = "run" if step is None else str(step)
    return f"{name}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]}-{source(module)}"


@lru_cache
def source(module: ModuleType) -> str:
    """Digest of a measure's file and of the folders it may rest on."""
    package = Path(__file__).parent.parent
    folders = ("maths", "measures", "interventions", "circuits")
    files = [p for folder in folders for p in sorted((package / folder).glob("*.py"))]
    own = inspect.getsourcefile(module)
    digest = hashlib.sha256()
    for path in [*files, *([Path(own)] if own else [])]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _entry(name: str, result: Result) -> dict[str, Any]:
    return {
        "key": name,
        "measure": result.measure,
        "run": result.run,
        "seed": result.seed,
        "step": result.step,
        "definition": dict(result.definition),
        "values": {n: _encode(v) for n, v in result.values.items()},
        "arrays": sorted(result.arrays),
    }


def _result(entry: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Result:
    try:
        return Result(
            measure=entry["measure"],
            values={n: _decode(v) for n, v in entry["values"].items()},
            definition=entry["definition"],
            arrays={n: arrays[f"{entry['key']}/{n}"] for n in entry["arrays"]},
            run=entry["run"],
            seed=entry["seed"],
            step=entry["step"],
        )
    except KeyError as error:
        raise RunError(
            f"a saved result lacks {error}; remove analysis/ and measure again"
        ) from error


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _encode(value: Value) -> Any:
    if isinstance(value, NotApplicable):
        return {"not_applicable": value.reason}
    return list(value) if isinstance(value, tuple) else value


def _decode(value: Any) -> Value:
    if isinstance(value, dict):
        return NotApplicable(value["not_applicable"])
    return tuple(value) if isinstance(value, list) else value
