"""Snapshots of training from whatever holds them: a run, the published format, a file, an array."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int

from mechgrok.maths.dmd import trajectories, uniform_stride
from mechgrok.runs.fingerprints import Fingerprints, read_fingerprints
from mechgrok.runs.published_fingerprints import TOKEN_INDEX, read_published
from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError

OBSERVABLES: Final = ("answer_log_prob", "margin", "end_log_prob", "hidden")
"""What a recorded run can be looked at by; an array is what it is."""


@dataclass(frozen=True, eq=False)
class Snapshots:
    """Snapshots of one run at a fixed stride."""

    name: str
    values: Float[np.ndarray, "time features"] = field(repr=False)
    """float64."""
    steps: Int[np.ndarray, " time"] = field(repr=False)
    """Training step of each."""
    observable: str
    """One of OBSERVABLES, what a published directory says it holds, or `array`."""
    split: str | None = None
    """Split of the probes; of several, joined by +."""
    seed: int | None = None
    probes: Int[np.ndarray, " probes"] | None = field(default=None, repr=False)
    """Rows of the task; None where they are not known."""
    run: Run | None = None
    """Where settings and accuracies are."""

    @property
    def stride(self) -> int:
        """Training steps between two snapshots."""
        return uniform_stride(self.steps)

    def between(self, first: int | None, last: int | None) -> "Snapshots":
        """Those of steps first..last. Raises RunError when there is none."""
        low = self.steps[0] if first is None else first
        high = self.steps[-1] if last is None else last
        kept = (self.steps >= low) & (self.steps <= high)
        if not kept.any():
            raise RunError(
                f"{self.name} has no snapshot within steps {low}..{high}; it has "
                f"{self.steps[0]}..{self.steps[-1]}"
            )
        return replace(self, values=self.values[kept], steps=self.steps[kept])


def snapshots(
    subject: Any,
    observable: str = "answer_log_prob",
    split: str | None = None,
    record_every: int | None = None,
) -> list[Snapshots]:
    """One or several (a list, or an array runs x steps x features) of: a Run, its path, a directory
    in the published format, a .npy file, Fingerprints, an array (steps x features).

    `observable` and `split` choose what of a recorded run is looked at; `record_every` is the
    stride of arrays, 1 where it is not given. Raises RunError for what holds no snapshots, an
    observable or split that was not recorded, and runs that cannot share an operator: other probes,
    splits or strides.
    """
    several = isinstance(subject, list | tuple) and any(map(_whole, subject))
    given = list(subject) if several else [subject]
    found = [one for s in given for one in _of(s, observable, split, record_every)]
    for other in found[1:]:
        _check_alike(found[0], other)
    return found


def _whole(item: Any) -> bool:
    """Whether an item of a list is a run of its own, not a row."""
    return isinstance(item, Run | Path | str | Fingerprints) or getattr(item, "ndim", 0) > 1


def _of(
    subject: Any, observable: str, split: str | None, record_every: int | None
) -> list[Snapshots]:
    if isinstance(subject, Run):
        return [_of_run(subject, observable, split, record_every)]
    if isinstance(subject, Fingerprints):
        return [_of_fingerprints("fingerprints", subject, observable, split, record_every)]
    if isinstance(subject, str | Path):
        return _of_path(Path(subject), observable, split, record_every)
    return _of_array("array", subject, split, record_every)


def _of_path(
    path: Path, observable: str, split: str | None, record_every: int | None
) -> list[Snapshots]:
    if path.suffix == ".npy":
        return _of_array(path.stem, _load(path), split, record_every)
    if (path / "config.yaml").exists():
        return [_of_run(Run(path), observable, split, record_every)]
    return [_of_published(path, observable, split, record_every)]


def _of_run(run: Run, observable: str, split: str | None, record_every: int | None) -> Snapshots:
    recorded = read_fingerprints(run.path)
    found = _of_fingerprints(run.name, recorded, observable, split, record_every)
    return replace(found, seed=run.seed, run=run)


def _of_fingerprints(
    name: str, recorded: Fingerprints, observable: str, split: str | None, record_every: int | None
) -> Snapshots:
    _refuse_stride(name, record_every, recorded.every)
    kept = list(dict.fromkeys(recorded.splits))
    if split is not None and split not in kept:
        raise RunError(f"{name} has no probes of split {split!r}; it has {kept}")
    if observable == "hidden":
        values = _hidden(name, recorded, kept, split)
    elif observable not in recorded.values:
        raise RunError(
            f"{name} has no {observable!r}; it has {[*recorded.values]}; end_log_prob needs a task "
            f"with an end token (task.name equation)"
        )
    else:
        values = recorded.quantiles(observable, split=split)
    of = np.array([split in (None, one) for one in recorded.splits])
    return Snapshots(
        name, np.asarray(values, np.float64), recorded.steps, observable,
        split or "+".join(kept), None, recorded.probes[of],
    )  # fmt: skip


def _hidden(
    name: str, recorded: Fingerprints, kept: Sequence[str], split: str | None
) -> Float[np.ndarray, "time fingerprint"]:
    if recorded.hidden is None:
        raise RunError(
            f"{name} has no hidden states; train a new --run with "
            f"--set record.fingerprint.hook=blocks.1.hook_resid_post"
        )
    if split is None:
        return recorded.hidden
    return np.split(recorded.hidden, len(kept), axis=1)[kept.index(split)]


def _of_array(
    name: str, values: Any, split: str | None, record_every: int | None
) -> list[Snapshots]:
    if split is not None:
        raise RunError(f"{name} is an array, which has no split {split!r}; leave split out")
    every = 1 if record_every is None else record_every
    if every < 1:
        raise RunError(f"got record_every={every}, expected training steps per snapshot")
    runs = trajectories(values)
    names = [name] if len(runs) == 1 else [f"{name} {i}" for i in range(len(runs))]
    return [
        Snapshots(n, run, np.arange(len(run)) * every, "array")
        for n, run in zip(names, runs, strict=True)
    ]


def _load(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {path} as an array of steps x features: {error}") from error


def _refuse_stride(name: str, asked: int | None, recorded: int) -> None:
    if asked is not None and asked != recorded:
        raise RunError(f"{name} was recorded every {recorded} steps, not {asked}; leave it out")


def _check_alike(one: Snapshots, other: Snapshots) -> None:
    """Raise RunError unless two runs can share an operator."""
    pair = f"{other.name} and {one.name}"
    for what, a, b in _differences(one, other):
        if a != b:
            raise RunError(f"{pair} differ in {what}: {b} and {a}; {_ALIKE}")
    if one.probes is None or other.probes is None:
        return
    if not np.array_equal(one.probes, other.probes):
        alone = np.setdiff1d(other.probes, one.probes)
        example = f", such as row {alone[0]}" if alone.size else ""
        raise RunError(
            f"{pair} have other probes: {alone.size} of {other.probes.size} are not in "
            f"{one.name}{example}; {_ALIKE}"
        )


def _differences(one: Snapshots, other: Snapshots) -> tuple[tuple[str, Any, Any], ...]:
    return (
        ("observable", one.observable, other.observable),
        ("features", one.values.shape[1], other.values.shape[1]),
        ("steps between snapshots", one.stride, other.stride),
        ("splits of the probes", one.split, other.split),
    )


_ALIKE: Final = (
    "record them with the same seeds.data, seeds.probe and record.fingerprint, or fit each alone"
)


def _of_published(
    path: Path, observable: str, split: str | None, record_every: int | None
) -> Snapshots:
    places = [d for d in (path, path / "fingerprints") if (d / "config.json").exists()]
    if not places:
        raise RunError(
            f"{path} is no run directory (no config.yaml), no directory in the published format "
            f"(no config.json, nor fingerprints/config.json) and no .npy file"
        )
    recorded = read_published(places[0])
    _refuse_stride(path.name, record_every, recorded.every)
    held = _held(recorded.config)
    if observable != held or split not in (None, "train"):
        raise RunError(
            f"{path} holds {held} of train probes, not {observable} of {split or 'train'} ones; "
            f"pass observable {held}, or legacy for the published computation"
        )
    return Snapshots(
        path.resolve().name, recorded.values, recorded.steps, held, "train", None, recorded.probes
    )


def _held(config: Mapping[str, Any]) -> str:
    """What a published directory observes: that code's own log-probability is the end token's."""
    if config["fingerprint_source"] == "hidden_state":
        return "hidden"
    at = config.get("token_index")
    return next((name for name, place in TOKEN_INDEX.items() if place == at), "end_log_prob")
