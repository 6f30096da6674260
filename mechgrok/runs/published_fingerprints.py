"""The fingerprint directory of arXiv 2605.08237's code, read (also of a run cut off) and written.

    config.json  probe_indices.npy  [proj_directions.npy]  steps.npy  epochs.npy
    snapshot_tXXXXXX.npy            quantiles at one step, uncentred whatever `center_mode` says

Its `log_prob` source is the log-probability of the closing token, not of the answer; its probe
indices are places in the shuffled training set. `steps.npy` and `epochs.npy` are rewritten after
every snapshot, so those of a run that was cut off may be behind, torn or missing: the snapshots'
names say which steps there are.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int

from mechgrok.maths.quantiles import LEVELS, directions
from mechgrok.runs.fingerprints import Fingerprints
from mechgrok.runs.storage import RunError, cannot_write, read_json

TOKEN_INDEX: Final = {"answer_log_prob": -2, "end_log_prob": -1}
"""Place of what is predicted, in a row without its first token."""


@dataclass(frozen=True)
class PublishedFingerprints:
    """What such a directory holds."""

    steps: Int[np.ndarray, " time"]
    """Each snapshot was taken before the update of this step; uniform stride."""
    epochs: Int[np.ndarray, " time"]
    """Epoch of each; -1 where a cut-off run did not note it."""
    values: Float[np.ndarray, "time features"] = field(repr=False)
    """Quantiles; in hidden-state mode all levels of the first direction first."""
    probes: Int[np.ndarray, " probes"] = field(repr=False)
    """Places of the probes in the training split."""
    config: Mapping[str, Any] = field(repr=False)
    """config.json."""
    directions: Float[np.ndarray, "directions d"] | None = field(default=None, repr=False)
    """Of the hidden-state mode."""
    torn: tuple[str, ...] = ()
    """Names of files that the end of the run cut short; their snapshots are not in `values`."""

    @property
    def every(self) -> int:
        """Steps between two snapshots."""
        return int(self.config["record_every"])


def read_published(directory: Path) -> PublishedFingerprints:
    """The fingerprints of a published directory; the newest snapshot may be torn.

    Raises RunError when there is no whole snapshot, and for snapshots that are damaged, of another
    length, missing in between or not at the stride of config.json.
    """
    config = read_json(directory / "config.json")
    for name in ("record_every", "fingerprint_source"):
        if not isinstance(config, dict) or name not in config:
            raise RunError(f"{directory / 'config.json'} has no {name}; restore it from a copy")
    paths = _snapshots(directory)
    steps = sorted(paths)
    rows = {step: _load(paths[step]) for step in steps}
    torn = [paths[steps.pop()].name] if steps and rows[steps[-1]] is None else []
    damaged = [paths[step].name for step in steps if rows[step] is None]
    if damaged or not steps:
        raise RunError(f"{directory} has no whole snapshot, or damaged ones: {damaged or torn}")
    values = [np.asarray(rows[step], np.float64) for step in steps]
    widths = {value.shape for value in values}
    if len(widths) > 1 or values[0].ndim != 1:
        raise RunError(f"snapshots of {directory} have shapes {sorted(widths)}, expected one row")
    noted = {name: _load(directory / f"{name}.npy") for name in ("steps", "epochs")}
    _check_stride(directory, sorted(paths), noted["steps"], int(config["record_every"]))
    torn += [f"{n}.npy" for n, got in noted.items() if got is None and _there(directory, n)]
    probes, drawn = _load(directory / "probe_indices.npy"), _load(directory / "proj_directions.npy")
    if probes is None:
        raise RunError(f"{directory / 'probe_indices.npy'} is missing or damaged; restore it")
    return PublishedFingerprints(
        steps=np.array(steps, np.int64),
        epochs=_epochs(steps, noted["steps"], noted["epochs"]),
        values=np.stack(values),
        probes=probes.astype(np.int64),
        config=config,
        directions=drawn,
        torn=tuple(torn),
    )


def as_published(
    of: Fingerprints, observable: str = "end_log_prob", split: str = "train"
) -> PublishedFingerprints:
    """A run's fingerprints as that code would have kept them; its own observable by default.

    `observable` is end_log_prob, answer_log_prob, or hidden for the sliced quantiles. Raises
    ValueError for another one, for what was not recorded, and for hidden states of several splits.
    """
    told, hidden = of.description, observable == "hidden"
    if not {"places", "seed", "steps_per_epoch"} <= set(told):
        raise ValueError("got fingerprints without places, seed or steps_per_epoch; read a run's")
    if observable not in (*TOKEN_INDEX, "hidden"):
        raise ValueError(f"got {observable!r}, expected one of {[*TOKEN_INDEX, 'hidden']}")
    if hidden and (of.hidden is None or set(of.splits) != {split}):
        raise ValueError(f"no hidden states of split {split!r} alone; record.fingerprint.hook")
    values = of.hidden if hidden else of.quantiles(observable, split=split)
    drawn = None
    if hidden:
        chance = np.random.default_rng(told["seed"])
        drawn = directions(told["directions"], told["width"], chance)
    of_split = np.array([name == split for name in of.splits])
    return PublishedFingerprints(
        steps=of.steps,
        epochs=of.steps // told["steps_per_epoch"],
        values=np.asarray(values, np.float64),
        probes=np.array(told["places"], np.int64)[of_split],
        config={
            "d_model": told["width"] if hidden else 1,
            "n_projections": told["directions"] if hidden else 0,
            "n_quantiles": len(LEVELS),
            "probe_size": int(of_split.sum()),
            "record_every": of.every,
            "layer_name": told.get("hook"),
            "token_index": told["position"] if hidden else TOKEN_INDEX[observable],
            "center_mode": "none",
            "fingerprint_seed": told["seed"],
            "fingerprint_source": "hidden_state" if hidden else "log_prob",
        },
        directions=drawn,
    )


def write_published(directory: Path, of: PublishedFingerprints) -> None:
    """Write a directory that the published code reads; it appears as a whole.

    Raises RunError when it is there already, or cannot be written.
    """
    if directory.exists():
        raise RunError(f"{directory} exists; give another directory, or remove it")
    temporary = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        (temporary / "config.json").write_text(json.dumps(dict(of.config), indent=1) + "\n")
        arrays = {"probe_indices": of.probes, "steps": of.steps, "epochs": of.epochs}
        arrays |= {} if of.directions is None else {"proj_directions": of.directions}
        pairs = zip(of.steps.tolist(), of.values, strict=True)
        arrays |= {f"snapshot_t{step:06d}": row for step, row in pairs}
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", array, allow_pickle=False)
        os.replace(temporary, directory)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise RunError(cannot_write(directory, error)) from error


def _snapshots(directory: Path) -> dict[int, Path]:
    found = [(re.fullmatch(r"snapshot_t(\d{6,})\.npy", p.name), p) for p in directory.iterdir()]
    return {int(match[1]): path for match, path in found if match}


def _load(path: Path) -> np.ndarray | None:
    """An array, or None when the file is missing or torn."""
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None


def _there(directory: Path, name: str) -> bool:
    return (directory / f"{name}.npy").exists()


def _check_stride(directory: Path, steps: list[int], noted: np.ndarray | None, every: int) -> None:
    expected = set(range(steps[0], steps[-1] + 1, every))
    expected |= set() if noted is None else set(noted.tolist())
    missing, extra = sorted(expected - set(steps)), sorted(set(steps) - expected)
    if missing or extra:
        raise RunError(
            f"{directory} should hold a snapshot every {every} steps from {steps[0]} on; missing: "
            f"{missing[:5]}, not expected: {extra[:5]}; read a copy that holds the part you want"
        )


def _epochs(
    steps: list[int], noted: np.ndarray | None, epochs: np.ndarray | None
) -> Int[np.ndarray, " time"]:
    known: dict[int, int] = {}
    if noted is not None and epochs is not None:  # one may be a snapshot ahead of the other
        known = {int(s): int(e) for s, e in zip(noted.tolist(), epochs.tolist(), strict=False)}
    return np.array([known.get(step, -1) for step in steps], np.int64)
