"""What a measure returns: named values and arrays, and exactly how they were defined."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class NotApplicable:
    """A value that does not exist for this subject, and why; never NaN."""

    reason: str


Scalar: TypeAlias = float | int | str | bool | None
Value: TypeAlias = Scalar | NotApplicable | Sequence[Scalar]


@dataclass(frozen=True)
class Result:
    """One measure of one subject (a checkpoint, a pair of checkpoints or a set of runs)."""

    measure: str
    """File name of the measure."""
    values: Mapping[str, Value]
    """Named values; the first is the headline, which `run.series("<measure>")` plots."""
    definition: Mapping[str, str]
    """Operator, centring, split, dtype and selection rule, each where it applies."""
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Arrays kept beside the values, by name."""
    run: str | None = None
    """Name of the run directory, or None for a subject outside any run."""
    seed: int | None = None
    """The run's base seed."""
    step: int | None = None
    """Optimiser steps the weights have seen; None for a set of runs."""

    @property
    def headline(self) -> Value:
        """The first value."""
        return next(iter(self.values.values()))

    def __getitem__(self, name: str) -> Value:
        if name not in self.values:
            raise KeyError(f"{self.measure} has no value {name!r}; it has {sorted(self.values)}")
        return self.values[name]

    def table(self) -> "pd.DataFrame":
        """One row per value: run, seed, step, measure (`<measure>.<value>`), value, note."""
        import pandas as pd

        columns = ["run", "seed", "step", "measure", "value", "note"]
        return pd.DataFrame([self._row(name) for name in self.values], columns=columns)

    def _row(self, name: str) -> dict[str, Any]:
        value = self.values[name]
        note = value.reason if isinstance(value, NotApplicable) else ""
        return {
            "run": self.run,
            "seed": self.seed,
            "step": self.step,
            "measure": f"{self.measure}.{name}",
            "value": None if isinstance(value, NotApplicable) else value,
            "note": note,
        }
