"""Relative change of the weights between two checkpoints: ||theta' - theta|| / ||theta||."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from jaxtyping import Float
from torch import Tensor

from mechgrok.measures._modular import Subject, report
from mechgrok.runs.result import NotApplicable, Result

SUBJECT: Final = "pair"


@dataclass(frozen=True)
class WeightChange:
    """Norms of the difference over norms of the earlier weights."""

    total: float
    """Over all parameters as one vector."""
    by_parameter: Mapping[str, float | NotApplicable]
    """Of each parameter; not applicable where the earlier one is zero and the later is not."""


def weight_change(
    before: Mapping[str, Float[Tensor, "..."]], after: Mapping[str, Float[Tensor, "..."]]
) -> WeightChange:
    """Relative change of every parameter and of all.

    Raises ValueError when names or shapes differ, or the earlier weights are all zero.
    """
    _check_same_shapes(before, after)
    moved = {
        k: float((after[k].detach().double() - x.detach()).square().sum())
        for k, x in before.items()
    }
    size = {k: float(x.detach().double().square().sum()) for k, x in before.items()}
    if sum(size.values()) == 0:
        raise ValueError("got earlier weights that are all zero, so no change is relative to them")
    return WeightChange(
        total=(sum(moved.values()) / sum(size.values())) ** 0.5,
        by_parameter={k: _ratio(moved[k], size[k]) for k in before},
    )


def _ratio(moved: float, size: float) -> float | NotApplicable:
    if moved == 0:
        return 0.0
    if size == 0:
        return NotApplicable("the earlier parameter is zero, so the change has no relative size")
    return (moved / size) ** 0.5


def _check_same_shapes(
    before: Mapping[str, Float[Tensor, "..."]], after: Mapping[str, Float[Tensor, "..."]]
) -> None:
    shapes = [{k: tuple(x.shape) for k, x in weights.items()} for weights in (before, after)]
    if shapes[0] != shapes[1]:
        differ = sorted(k for k, _ in set(shapes[0].items()) ^ set(shapes[1].items()))
        raise ValueError(
            f"got models that differ in {differ[:6]}; expected two checkpoints of one shape"
        )


def measure(before: Subject, after: Subject) -> Result:
    """Relative weight change from the first checkpoint to the second. No options."""
    found = weight_change(
        dict(before.model.named_parameters()), dict(after.model.named_parameters())
    )
    steps = f"from step {before.step} to step {after.step}"
    values = {"total": found.total, **found.by_parameter}
    return report("weight_change", after, values, {**DEFINITION, "selection": steps})


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "norm of the difference over norm of the earlier weights",
    "dtype": "float64",
}
