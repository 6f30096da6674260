"""A set of runs; the run is the unit of inference."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechgrok import discovery
from mechgrok.runs.result import NotApplicable, Result
from mechgrok.runs.run import Run
from mechgrok.runs.series_set import SeriesSet
from mechgrok.runs.storage import RunError
from mechgrok.runs.table import run_table
from mechgrok.runs.times import RunTimes

if TYPE_CHECKING:
    import pandas as pd


class Runs(Sequence[Run]):
    """Several runs, in the order given."""

    def __init__(self, runs: Iterable[Run | str | Path]) -> None:
        """Runs, or their directories. Raises RunError for none, and for one given twice."""
        self._runs = [run if isinstance(run, Run) else Run(run) for run in runs]
        if not self._runs:
            raise RunError("a set of runs needs at least one run")
        if len(set(self._runs)) < len(self._runs):
            raise RunError(f"a run is given twice: {[run.name for run in self._runs]}")

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    def __getitem__(self, index: Any) -> Any:
        return Runs(self._runs[index]) if isinstance(index, slice) else self._runs[index]

    def measure(self, name: str, **options: Any) -> Result:
        """A measure whose subject is a set of runs."""
        module = discovery.module("measures", name)
        if getattr(module, "SUBJECT", "checkpoint") != "runs":
            raise RunError(f"{name} measures one {module.SUBJECT}; use `runs.table({name!r})`")
        return discovery.load("measures", name)(self, **options)

    def table(self, measure: str | None = None, **options: Any) -> "pd.DataFrame":
        """One row per run: settings that differ, seed, state, times and last metrics.

        With a measure, one row per run and value of it, at each run's last checkpoint.
        """
        import pandas as pd

        if measure is None:
            return run_table(self)
        tables = [run.measure(measure, **options).table() for run in self]
        return pd.concat(tables, ignore_index=True)

    def times(self, memorised: float = 0.99, generalised: float = 0.99) -> RunTimes:
        """When every run memorised and generalised, as intervals or censored.

        The thresholds are fractions of right answers, to be held for 3 evaluations.
        """
        return RunTimes.of(self, memorised, generalised)

    def series(self, names: str | Sequence[str], **options: Any) -> SeriesSet:
        """Metrics and measures of every run over its steps."""
        return SeriesSet(self, [run.series(names, **options) for run in self])

    def values(self, measure: str, value: str, **options: Any) -> list[Any]:
        """One value per run; None where it does not apply (censored, say)."""
        found = [run.measure(measure, **options)[value] for run in self]
        return [None if isinstance(v, NotApplicable) else v for v in found]

    def plot(self, name: str = "runs") -> Any:
        """A figure of the whole set."""
        return discovery.load("plots", name)(self)
