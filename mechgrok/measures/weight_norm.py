"""Sum of squares of the weights, per parameter and in total.

Nanda et al. 2023 (arXiv 2301.05217), section 5.2: it falls in cleanup, when weight decay removes
what memorisation left.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from jaxtyping import Float
from torch import Tensor

from mechgrok.measures._modular import Subject, report
from mechgrok.runs.result import Result

SUBJECT: Final = "checkpoint"


@dataclass(frozen=True)
class WeightNorm:
    """Sums of squares, in float64."""

    total: float
    """Sum over all parameters."""
    by_parameter: Mapping[str, float]
    """Sum of squares of each parameter by name."""


def weight_norm(parameters: Mapping[str, Float[Tensor, "..."]]) -> WeightNorm:
    """Sum of squares of every parameter."""
    squares = {name: float(x.detach().double().square().sum()) for name, x in parameters.items()}
    return WeightNorm(total=sum(squares.values()), by_parameter=squares)


def measure(checkpoint: Subject) -> Result:
    """Sum of squares in total and per parameter. No options."""
    found = weight_norm(dict(checkpoint.model.named_parameters()))
    return report(
        "weight_norm", checkpoint, {"total": found.total, **found.by_parameter}, DEFINITION
    )


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "sum of squares over every entry of every parameter, frozen ones included",
    "dtype": "float64",
    "selection": "all named parameters; buffers left out",
}
