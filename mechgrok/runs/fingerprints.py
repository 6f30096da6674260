"""Fingerprints of a run: what a few fixed rows got, every few steps, before the update.

The raw values of every probe are kept, so quantiles, subsets of probes and centrings are chosen
here and later, not while training (arXiv 2605.08237 keeps quantiles only).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int

from mechgrok.maths import quantiles as maths
from mechgrok.maths.quantiles import LEVELS
from mechgrok.runs import layout, row_file
from mechgrok.runs.storage import RunError

OBSERVABLES: Final = ("answer_log_prob", "margin", "end_log_prob")
"""Values of a probe: log-probability of its answer, correct logit minus the best other, and
log-probability of the closing token, which only some tasks have."""

FORMAT: Final = 1
"""Version of the description that the recorder writes."""


@dataclass(frozen=True)
class Fingerprints:
    """Snapshots of a run, at equal distances in steps."""

    steps: Int[np.ndarray, " time"]
    """Each snapshot was taken before the update of this step."""
    values: Mapping[str, Float[np.ndarray, "time probes"]] = field(repr=False)
    """By name of OBSERVABLES; natural logarithms and logits, float64."""
    probes: Int[np.ndarray, " probes"] = field(repr=False)
    """Rows of the task."""
    splits: tuple[str, ...] = field(repr=False)
    """Split of every probe."""
    every: int
    """Steps between two snapshots."""
    hidden: Float[np.ndarray, "time fingerprint"] | None = field(default=None, repr=False)
    """Sliced quantiles at the recorded hook, all levels of the first direction first; float32. Of
    several splits, one after the other."""
    description: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What the recorder noted beside: hook, position, directions, seed, places, steps_per_epoch."""

    def quantiles(
        self,
        observable: str = "answer_log_prob",
        levels: Sequence[float] = LEVELS,
        split: str | None = None,
    ) -> Float[np.ndarray, "time levels"]:
        """Quantiles of an observable over the probes of a split (None: over all of them).

        Raises ValueError for an observable or split that was not recorded.
        """
        if observable not in self.values:
            raise ValueError(f"unknown observable {observable!r}; have {list(self.values)}")
        if split is not None and split not in self.splits:
            raise ValueError(f"no probes of split {split!r}; have {sorted(set(self.splits))}")
        of = [split in (None, name) for name in self.splits]
        return maths.quantiles(self.values[observable][:, of], levels)

    def between(self, first: int | None = None, last: int | None = None) -> "Fingerprints":
        """The snapshots of steps first..last, both included.

        Raises ValueError when there is none.
        """
        low = self.steps[0] if first is None else first
        high = self.steps[-1] if last is None else last
        kept = (self.steps >= low) & (self.steps <= high)
        if not kept.any():
            raise ValueError(
                f"no snapshot within steps {low}..{high}; have {self.steps[0]}..{self.steps[-1]}"
            )
        return replace(
            self,
            steps=self.steps[kept],
            values={name: values[kept] for name, values in self.values.items()},
            hidden=None if self.hidden is None else self.hidden[kept],
        )


def read_fingerprints(directory: Path) -> Fingerprints:
    """The fingerprints of a run directory, also of a run that is going on or was cut off.

    Raises RunError when there are none, when none is valid yet, and for a damaged file.
    """
    path = layout.fingerprints(directory)
    if not path.exists():
        raise RunError(
            f"{directory} has no fingerprints; train a new --run with "
            f"--set record.fingerprint.every=2"
        )
    told, rows = row_file.read(path)
    if told.get("format", 0) > FORMAT:
        raise RunError(f"{path} has format {told['format']}; install a newer mechgrok")
    if not len(rows):
        raise RunError(
            f"{path} holds no snapshot yet; the first ones appear with the run's first checkpoint "
            f"after step 0: go on with the same command"
        )
    steps, names = rows["step"].astype(np.int64), rows.dtype.names or ()
    if not np.array_equal(steps, np.arange(len(steps)) * told["every"]):
        raise RunError(f"{path} is damaged: its steps are not 0, {told['every']}, ...; restore it")
    return Fingerprints(
        steps=steps,
        values={name: rows[name].copy() for name in OBSERVABLES if name in names},
        probes=np.array(told["probes"], np.int64),
        splits=tuple(told["splits"]),
        every=told["every"],
        hidden=rows["hidden"].copy() if "hidden" in names else None,
        description=told,
    )
