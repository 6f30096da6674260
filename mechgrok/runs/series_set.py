"""Curves of several runs, over steps or around the step at which each reached a moment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mechgrok import discovery
from mechgrok.runs.run import GENERALISED, MEMORISED, Run
from mechgrok.runs.series import Series
from mechgrok.runs.storage import RunError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class SeriesSet:
    """One Series per run."""

    runs: Sequence[Run]
    """In the order of `series`."""
    series: Sequence[Series]
    """Curves of each run."""
    moment: str | None = None
    """The moment that is step 0 of every run; None for steps of training."""
    left_out: Mapping[str, str] | None = None
    """Runs without that moment, and why."""

    def __len__(self) -> int:
        return len(self.series)

    def align(self, moment: str) -> "SeriesSet":
        """Steps counted from each run's `memorised` or `generalised` evaluation.

        Runs that did not get there are left out, by name. Raises RunError when none is left.
        """
        rules = {"memorised": MEMORISED, "generalised": GENERALISED}
        if moment not in rules:
            raise RunError(f"unknown moment {moment!r}; expected one of {list(rules)}")
        if self.moment is not None:
            raise RunError(f"these curves are aligned at {self.moment!r} already")
        reached = {run: run.crossing(*rules[moment]) for run in self.runs}
        late = {run.name: f"has not {moment}" for run, at in reached.items() if at is None}
        kept = [
            (run, _shifted(series, int(at.by)))
            for run, series in zip(self.runs, self.series, strict=True)
            if (at := reached[run]) is not None
        ]
        if not kept:
            raise RunError(f"none of the {len(self)} runs has {moment}")
        return SeriesSet([run for run, _ in kept], [s for _, s in kept], moment, late)

    def table(self) -> "pd.DataFrame":
        """One row per point: run, seed, step, measure, value."""
        import pandas as pd

        return pd.concat([series.table() for series in self.series], ignore_index=True)

    def plot(self) -> Any:
        """Every run's curves as a plotly figure."""
        return discovery.load("plots", "series_set")(self)


def _shifted(series: Series, zero: int) -> Series:
    moved = {n: [(step - zero, v) for step, v in points] for n, points in series.curves.items()}
    return replace(series, curves=moved)
