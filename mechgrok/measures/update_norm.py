"""How far the weights move between checkpoints: ||theta' - theta|| / ||theta||, and per step.

The recorder `update_norm` writes the same between evaluations while a run trains; this measure
needs the checkpoints alone.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor

from mechgrok.measures.weight_change import weight_change
from mechgrok.runs.result import NotApplicable, Result, Value

SUBJECT: Final = "run"


def update_norm(
    steps: Sequence[int], weights: Sequence[Mapping[str, Float[Tensor, "..."]]]
) -> list[tuple[int, float, float]]:
    """(step, relative change since the checkpoint before, the same per step) from the second on.

    Raises ValueError for steps that do not increase, or as `weight_change` does.
    """
    return [
        _between(earlier, later) for earlier, later in pairwise(zip(steps, weights, strict=True))
    ]


def _between(
    earlier: tuple[int, Mapping[str, Tensor]], later: tuple[int, Mapping[str, Tensor]]
) -> tuple[int, float, float]:
    passed = later[0] - earlier[0]
    if passed <= 0:
        raise ValueError(f"got steps {earlier[0]}, {later[0]}; expected increasing ones")
    change = weight_change(earlier[1], later[1]).total
    return later[0], change, change / passed


def measure(run: Any) -> Result:
    """Relative change between neighbouring checkpoints: last per step (headline), and largest.

    No options. The array `changes` has a row (step, change, change per step) per checkpoint but
    the first.
    """
    if len(run.steps) < 2:
        absent = NotApplicable(f"{len(run.steps)} checkpoint; a change needs two")
        values: dict[str, Value] = dict.fromkeys(("last_per_step", "largest"), absent)
        return Result("update_norm", values, DEFINITION, run=run.name, seed=run.seed)
    found: list[tuple[int, float, float]] = []
    for earlier, later in pairwise(run.steps):  # two checkpoints in memory at a time
        pair = [dict(run.checkpoint(step).weights) for step in (earlier, later)]
        found += update_norm([earlier, later], pair)
    step, largest, _ = max(found, key=lambda row: row[1])
    values = {
        "last_per_step": found[-1][2],
        "last": found[-1][1],
        "largest": largest,
        "largest_at": step,
    }
    changes = torch.tensor(found, dtype=torch.float64).numpy()
    return Result("update_norm", values, DEFINITION, {"changes": changes}, run.name, run.seed)


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "norm of the difference of neighbouring checkpoints over norm of the earlier; per "
    "step: divided by the steps between them",
    "dtype": "float64",
    "selection": "all weights of the checkpoint (averaged ones where they are kept)",
}
