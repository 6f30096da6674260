"""Small random changes of a model's weights, to see how far training takes them apart.

The scheme of arXiv 2605.08237: relative and per entry, so that weights of 0 stay 0 and the expected
relative change of the norm is the scale. The published code draws in the order of its own parameter
list; here it is TransformerLens', so that equal seeds are other draws.
"""

import math

import torch
from torch import nn


def perturb(model: nn.Module, scale: float, generator: torch.Generator) -> None:
    """Multiply every weight in place by 1 + scale * N(0, 1).

    The normals are drawn in float32 on the generator's device, tensor by tensor in the order of
    `named_parameters`; equal generators change models of any dtype and device alike. Raises
    ValueError for a scale that is not positive and finite.
    """
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"got scale={scale}, expected a positive number such as 1e-3")
    with torch.no_grad():
        for _, parameter in model.named_parameters():
            normal = torch.randn(
                parameter.shape,
                generator=generator,
                dtype=torch.float32,
                device=generator.device,
            )
            parameter.mul_(1 + scale * normal.to(parameter))
