"""When a run memorised, started to generalise and had generalised: evaluations, or not reached."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from mechgrok.runs.run import Run

PLATEAU: Final = 500
"""Steps after memorising over which the plateau of test accuracy is taken."""
RISE: Final = 0.1
"""Test accuracy above the plateau that is the onset."""


@dataclass(frozen=True)
class Moments:
    """Steps of the first of three evaluations in a row, None where there is none."""

    run: str
    seed: int
    state: str
    last: int
    """Last evaluation: where a moment that was not reached is censored."""
    memorised: int | None
    plateau: float | None
    """Median test accuracy from memorising to PLATEAU steps later."""
    onset: int | None
    generalised: int | None

    def plain(self) -> dict[str, Any]:
        """As a dict."""
        return asdict(self)


def moments(run: "Run") -> Moments:
    """The moments of a run with accuracies."""
    from mechgrok.runs.run import GENERALISED, MEMORISED

    rows = run.evaluations()
    memorised = _by(run.crossing(*MEMORISED))
    plateau, onset = onset_of(rows, memorised)
    return Moments(
        run.name, run.seed, str(run.status.get("state")), rows[-1]["step"], memorised,
        plateau, onset, _by(run.crossing(*GENERALISED)),
    )  # fmt: skip


def onset_of(
    rows: Sequence[Mapping[str, Any]], memorised: int | None
) -> tuple[float | None, int | None]:
    """Plateau of test accuracy after memorising, and the first evaluation well above it."""
    from mechgrok.maths.statistics import first_sustained

    if memorised is None:
        return None, None
    late = [(row["step"], row["test_acc"]) for row in rows if row["step"] >= memorised]
    plateau = median(value for step, value in late if step <= memorised + PLATEAU)
    steps, values = zip(*late, strict=True)
    return plateau, _by(first_sustained(steps, values, plateau + RISE))


def _by(crossing: Any) -> int | None:
    return None if crossing is None else int(crossing.by)


def summary(times: Sequence[int | None], last: Sequence[int]) -> dict[str, Any]:
    """Range, mean and standard deviation of what was reached, and how many were not."""
    import numpy as np

    known = [time for time in times if time is not None]
    return {
        "n": len(times),
        "censored": len(times) - len(known),
        "censored_at": sorted(end for t, end in zip(times, last, strict=True) if t is None),
        "mean": float(np.mean(known)) if known else None,
        "sd": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        "range": [min(known), max(known)] if known else None,
    }
