"""When a run memorised and generalised, and whether that was grokking.

Memorised: first of 3 consecutive evaluations with train accuracy >= .99; generalised: the same for
test; grokked: generalised, and at least ten times later than memorised (first observed by Power et
al. 2022, arXiv 2201.02177). Times are intervals (previous evaluation, crossing].
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

from mechgrok.maths.statistics import Crossing, Number, first_sustained
from mechgrok.runs.result import NotApplicable, Result, Value

SUBJECT: Final = "run"
CONSECUTIVE: Final = 3
MOMENTS: Final = ("memorised", "generalised")
DELAY: Final = 10
"""Least ratio of generalised to memorised step that is called grokking."""


@runtime_checkable
class Series(Protocol):
    """A run, as far as its metrics go."""

    @property
    def name(self) -> str:
        """Name of its directory."""
        ...

    @property
    def seed(self) -> int | None:
        """Base seed."""
        ...

    @property
    def config(self) -> Any:
        """Its RunConfig."""
        ...

    def metrics(self) -> Any:
        """Frame with a row per evaluation."""
        ...


@dataclass(frozen=True)
class Times:
    """Crossings of the accuracy thresholds; None means censored at `last_step`."""

    memorised: Crossing | None
    """Train accuracy."""
    generalised: Crossing | None
    """Test accuracy."""
    last_step: int
    """Last evaluation."""
    grokked: bool
    """Whether the delay was at least tenfold."""

    @property
    def ratio(self) -> float | None:
        """Generalised over memorised step; None when either is missing or memorised at 0."""
        if self.memorised is None or self.generalised is None or self.memorised.by == 0:
            return None
        return self.generalised.by / self.memorised.by


def times(
    steps: Sequence[int],
    train_acc: Sequence[Number],
    test_acc: Sequence[Number],
    memorised: float = 0.99,
    generalised: float = 0.99,
) -> Times:
    """Crossings of `memorised` by train and of `generalised` by test accuracy (fractions).

    Raises ValueError for an empty series, or values that are not finite.
    """
    if not steps:
        raise ValueError("got a run without evaluations; train it for at least one")
    first = first_sustained(steps, train_acc, memorised, CONSECUTIVE)
    second = first_sustained(steps, test_acc, generalised, CONSECUTIVE)
    grokked = first is not None and second is not None and _delayed(first, second)
    return Times(first, second, steps[-1], grokked)


def _delayed(memorised: Crossing, generalised: Crossing) -> bool:
    return generalised.by > memorised.by and generalised.by >= DELAY * memorised.by


def measure(run: Series, memorised: float = 0.99, generalised: float = 0.99) -> Result:
    """Memorised and generalised steps as intervals, and whether the run grokked.

    Options: memorised, generalised (accuracy thresholds, fractions).
    """
    frame = run.metrics()
    if not {"train_acc", "test_acc"} <= set(frame.columns):
        return Result("times", _unrecorded(frame), DEFINITION, run=run.name, seed=run.seed)
    steps, train, test = (frame[name].tolist() for name in ("step", "train_acc", "test_acc"))
    found = times(steps, train, test, memorised, generalised)
    values: dict[str, Value] = {"grokked": found.grokked}
    values |= _entries("memorised", found.memorised, found.last_step)
    values |= _entries("generalised", found.generalised, found.last_step)
    missing = NotApplicable("memorised or generalised is censored, or memorised at step 0")
    values["ratio"] = missing if found.ratio is None else found.ratio
    values["last_step"] = found.last_step
    definition = {**DEFINITION, "thresholds": f"train >= {memorised}, test >= {generalised}"}
    return Result("times", values, definition, run=run.name, seed=run.seed)


def _unrecorded(frame: Any) -> dict[str, Value]:
    """Of a run whose accuracies were not recorded, such as an imported one."""
    absent = NotApplicable("accuracies over training are not recorded")
    moments = [f"{m}{x}" for m in MOMENTS for x in ("", "_interval", "_fell_back_at")]
    values: dict[str, Value] = dict.fromkeys(("grokked", *moments, "ratio"), absent)
    return {**values, "last_step": int(frame["step"].iloc[-1])}


def _entries(name: str, crossing: Crossing | None, last_step: int) -> dict[str, Value]:
    if crossing is None:
        absent = NotApplicable(f"censored: not reached by step {last_step}")
        return {name: absent, f"{name}_interval": absent, f"{name}_fell_back_at": absent}
    stayed = NotApplicable("stayed above the threshold")
    back = stayed if crossing.fell_back_at is None else crossing.fell_back_at
    return {
        name: crossing.by,
        f"{name}_interval": crossing.interval,
        f"{name}_fell_back_at": back,
    }


DEFINITION: Final[Mapping[str, str]] = {
    "operator": f"first of {CONSECUTIVE} consecutive evaluations; interval (previous, crossing]",
    "split": "memorised: train; generalised: test",
    "selection": f"grokked: generalised at >= {DELAY} times the memorised step",
}
