"""The passes of a Tiny Recursive Model without hook points, faster."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from mechgrok.models.trm import HookedTRM, Segment


def segments(
    model: HookedTRM,
    tokens: Int[Tensor, "batch pos"],
    positions: Sequence[int],
    generator: torch.Generator | None = None,
) -> list[Segment]:
    """Every pass, with logits at the given token positions only."""
    return [
        found._replace(logits=found.logits[:, list(positions)])
        for found in model.unroll(tokens, generator)
    ]
