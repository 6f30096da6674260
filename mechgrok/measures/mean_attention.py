"""Mean attention at the answer position, and how much it varies with the input.

Nanda et al. 2023 (arXiv 2301.05217), section 4.1: heads attend to a and b. On a real checkpoint the
means are .50/.50/.00 in every head while the standard deviations over inputs are .20 to .24, so
"uniform attention" is false although the mean is uniform: read both.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from mechgrok.measures._modular import (
    ANSWER,
    Subject,
    activations,
    report,
    table_task,
    typed_absence,
)
from mechgrok.runs.result import Result, Value

SUBJECT: Final = "checkpoint"


@dataclass(frozen=True)
class MeanAttention:
    """Attention from the answer position, over inputs."""

    mean: Float[Tensor, "layers heads sources"]
    """Mean weight 0..1; sums to 1 over source positions."""
    std: Float[Tensor, "layers heads sources"]
    """Population standard deviation over inputs."""


def mean_attention(pattern: Float[Tensor, "rows layers heads sources"]) -> MeanAttention:
    """Mean and standard deviation over rows of the attention pattern at one position."""
    if pattern.shape[0] == 0:
        raise ValueError("got a pattern of no rows; pass at least one input")
    pattern = pattern.double()
    return MeanAttention(mean=pattern.mean(dim=0), std=pattern.std(dim=0, correction=0))


@typed_absence("mean_attention", "max_std", "min_mean_on_operands")
def measure(checkpoint: Subject) -> Result:
    """Attention from "=" over all pairs, headline the largest standard deviation. No options."""
    task, model = table_task(checkpoint), checkpoint.model
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.cfg.n_layers)]
    found = activations(model, task.tokens, dict.fromkeys(names, lambda x: x[:, :, ANSWER]))
    attention = mean_attention(torch.stack([found[name] for name in names], dim=1))
    values: dict[str, Value] = {
        "max_std": float(attention.std.max()),
        "min_mean_on_operands": float(attention.mean[..., :2].sum(dim=-1).min()),
    }
    for name, table in vars(attention).items():
        for (layer, head, source), value in _entries(table):
            values[f"{name}_L{layer}H{head}_{POSITIONS[source]}"] = value
    return report("mean_attention", checkpoint, values, DEFINITION, vars(attention))


POSITIONS: Final = ("a", "b", "=")


def _entries(
    table: Float[Tensor, "layers heads sources"],
) -> list[tuple[tuple[int, int, int], float]]:
    layers, heads, sources = table.shape
    places = torch.cartesian_prod(*(torch.arange(n) for n in (layers, heads, sources))).tolist()
    return [((i, j, k), float(table[i, j, k])) for i, j, k in places]


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "mean and population std over inputs of the pattern from the answer position",
    "centring": "none",
    "split": "all pairs",
    "dtype": "patterns in the model's dtype, statistics in float64",
}
