"""Saved results of measures, and when one may be used again.

A result is reused for the same weights (config digest and step), options and source: the digest of
the measure's own file and of everything it may rest on (`maths`, `measures`, `interventions`). A
measure of a run that reads saved results of others names them in its `READS`, and is computed anew
once those are others. Results of one measure with different options are kept side by side, and
never read as one series.
"""

import hashlib
import inspect
import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from mechgrok import discovery
from mechgrok.runs import layout
from mechgrok.runs.result import NotApplicable, Result, Value
from mechgrok.runs.storage import RunError, read_json, write_bytes, write_json

if TYPE_CHECKING:
    from mechgrok.runs.run import Run


KEYS_OF: Final = "keys of step"
"""Where options say whose key frequencies "final" were: the run's last step at that time."""


class Saved(NamedTuple):
    """A result in a run's `analysis/`."""

    key: str
    options: Mapping[str, str]
    """Those that differ from the measure's own, as `repr` writes them."""
    result: Result


def read(directory: Path, measure: str) -> list[Saved]:
    """Saved results of a measure; empty when there are none.

    Those of an earlier layout, which did not say their options, count as not saved.
    """
    path = layout.analysis(directory, measure)
    if not path.exists():
        return []
    entries = [entry for entry in read_json(path)["results"] if "options" in entry]
    arrays = _read_arrays(path.with_suffix(".npz"))
    return [Saved(e["key"], e["options"], _result(e, arrays)) for e in entries]


def write(directory: Path, measure: str, results: Sequence[Saved]) -> None:
    """Replace the saved results of a measure."""
    path = layout.analysis(directory, measure)
    arrays = {f"{one.key}/{n}": a for one in results for n, a in one.result.arrays.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_bytes(path.with_suffix(".npz"), buffer.getvalue())
    write_json(path, {"measure": measure, "results": [_entry(one) for one in results]})


def saved(run: "Run", measure: str, options: Mapping[str, Any]) -> list[Saved]:
    """What is saved with exactly these options (and, for "final" keys, those of the last step).

    Without options: with the measure's own, or, where it was only ever measured with one other set
    of options, with that; two other sets are no series, and the answer is empty.
    """
    if options:
        return _exactly(run, measure, _changed(discovery.load("measures", measure), options))
    there = read(run.work, measure)
    sets = [dict(told) for told in {tuple(_told(one).items()) for one in there}]
    return _of(run, there, sets[0] if len(sets) == 1 else {})


def _exactly(run: "Run", measure: str, options: Mapping[str, Any]) -> list[Saved]:
    return _of(run, read(run.work, measure), _texts(options))


def _of(run: "Run", there: Sequence[Saved], told: Mapping[str, str]) -> list[Saved]:
    """Those of one set of options; "final" keys of a step that is no longer the last are others."""
    last = str(run.steps[-1]) if run.steps else ""
    return [one for one in there if _told(one) == told and one.options.get(KEYS_OF, last) == last]


def _told(one: Saved) -> dict[str, str]:
    """Options that were given."""
    return {name: text for name, text in one.options.items() if name != KEYS_OF}


def _changed(function: Callable[..., Result], options: Mapping[str, Any]) -> dict[str, Any]:
    """Those options that the measure takes and that differ from its own."""
    taken = inspect.signature(function).parameters
    return {k: v for k, v in options.items() if k in taken and repr(v) != repr(taken[k].default)}


def _texts(options: Mapping[str, Any]) -> dict[str, str]:
    return {name: repr(value) for name, value in sorted(options.items())}


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
        self.options = _changed(self.function, options)
        self.texts = self._options_told(run.steps[-1] if run.steps else None)
        self.digest = run.config.digest()
        rows = run.evaluations()
        self.last_evaluation = rows[-1]["step"] if rows else None
        self.saved = {one.key: one for one in read(run.work, name)}
        self.keys: dict[int | None, str] = {}
        self.new = False

    def _options_told(self, last_step: int | None) -> dict[str, str]:
        taken = inspect.signature(self.function).parameters
        keys = self.options.get("keys", taken["keys"].default if "keys" in taken else None)
        return _texts(self.options) | ({KEYS_OF: str(last_step)} if keys == "final" else {})

    def key(self, step: int | None) -> str:
        """Of this measure at a step; what depends on the run's end changes as the run goes on."""
        if step not in self.keys:
            end = {"last evaluation": self.last_evaluation} if self.subject == "run" else {}
            self.keys[step] = key(self.module, self.digest, step, self.texts | end, self._read())
        return self.keys[step]

    def _read(self) -> str:
        """Digest of the saved results that this measure reads."""
        names = getattr(self.module, "READS", ())
        return _digest([[one.key for one in _exactly(self.run, name, {})] for name in names])

    def has(self, step: int | None) -> bool:
        return self.key(step) in self.saved

    def add(self, step: int | None, subject: Any) -> None:
        if not self.has(step):
            result = self.function(subject, **self.options)
            self.saved[self.key(step)] = Saved(self.key(step), self.texts, result)
            self.new = True

    def results(self, steps: Sequence[int]) -> list[Result]:
        wanted = [None] if self.subject == "run" else steps
        return [self.saved[self.key(step)].result for step in wanted]

    def save(self) -> None:
        """Write what is new; results of an older source are dropped."""
        if self.new:
            current = source(self.module)
            kept = [one for one in self.saved.values() if one.key.endswith(current)]
            write(self.run.work, self.name, kept)


def key(
    module: ModuleType, digest: str, step: int | None, options: Mapping[str, Any], read: str
) -> str:
    """Name of a result: what it measured, with which options, by which source."""
    name = "run" if step is None else str(step)
    return f"{name}-{_digest([digest, step, sorted(options.items()), read])}-{source(module)}"


def _digest(parts: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


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


def _entry(saved: Saved) -> dict[str, Any]:
    result = saved.result
    return {
        "key": saved.key,
        "options": dict(saved.options),
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
