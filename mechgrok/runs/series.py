"""Values of a run over its steps: metrics and measures side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mechgrok import discovery
from mechgrok.runs.result import NotApplicable, Result
from mechgrok.runs.storage import RunError

if TYPE_CHECKING:
    import pandas as pd

Point = tuple[int, float]


@dataclass(frozen=True)
class Series:
    """Named curves of one run; a point that does not apply is left out, with its reason kept."""

    run: str
    """Name of the run."""
    seed: int
    """Its base seed."""
    curves: Mapping[str, Sequence[Point]]
    """(step, value) pairs by name."""
    absent: Mapping[str, str]
    """Why a curve has no point at all."""

    @classmethod
    def collect(
        cls,
        run: str,
        seed: int,
        names: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
        measured: Mapping[str, Sequence[Result]],
    ) -> "Series":
        """Curves by name: a metric, a measure (its headline) or `measure.value`.

        Raises RunError for a value that the measure does not have.
        """
        curves: dict[str, list[Point]] = {}
        absent: dict[str, str] = {}
        for name in names:
            if rows and name in rows[0]:
                curves[name] = [(row["step"], row[name]) for row in rows]
            else:
                measure = next(m for m in measured if f"{name}.".startswith(f"{m}."))
                value = name.removeprefix(measure).removeprefix(".")
                curves[name], reason = _curve(name, value, measured[measure])
                if reason:
                    absent[name] = reason
        return cls(run, seed, curves, absent)

    def __getitem__(self, name: str) -> Sequence[Point]:
        if name not in self.curves:
            raise RunError(f"no curve {name!r}; have {sorted(self.curves)}")
        return self.curves[name]

    def table(self) -> "pd.DataFrame":
        """One row per point: run, seed, step, measure, value."""
        import pandas as pd

        rows = [
            (self.run, self.seed, step, name, value)
            for name, points in self.curves.items()
            for step, value in points
        ]
        return pd.DataFrame(rows, columns=["run", "seed", "step", "measure", "value"])

    def plot(self) -> Any:
        """The curves as a plotly figure."""
        return discovery.load("plots", "series")(self)


def measure_of(name: str) -> str:
    """The measure of `measure`, `measure.value` or a dotted path into another package."""
    head = name.partition(".")[0]
    return head if head in discovery.names("measures") else name


def _curve(name: str, value: str, results: Sequence[Result]) -> tuple[list[Point], str]:
    points: list[Point] = []
    reason = ""
    for result in results:
        found = result[value] if value else result.headline
        if isinstance(found, NotApplicable):
            reason = found.reason
        elif isinstance(found, int | float) and result.step is not None:
            points.append((result.step, float(found)))
        else:
            raise RunError(f"{name} is {found!r}, which is no number over steps")
    return points, "" if points else reason
