"""Null donors: weights that keep something of a donor and lose the rest.

A transfer that works as well from these is no transfer of the circuit. `spectrum_matched` keeps
every matrix's singular values (the weights' scale and rank); `neurons_shuffled` keeps all weights,
but each neuron writes what another one should.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from mechgrok.maths.spectrum import spectrum_matched as matched

Weights = Mapping[str, Tensor]
"""By TransformerLens name."""

W_OUT: Final = ".W_out"


def spectrum_matched(weights: Weights, generator: torch.Generator) -> dict[str, Tensor]:
    """Every matrix with random singular vectors and its singular values (per head, where there are
    heads); vectors and biases as they are. Drawn in the order of names."""
    matrices = [n for n in sorted(weights) if weights[n].ndim >= 2 and ".b_" not in n]
    return {**weights, **{name: matched(weights[name], generator) for name in matrices}}


def neurons_shuffled(weights: Weights, generator: torch.Generator) -> dict[str, Tensor]:
    """Rows of every W_out permuted at random against the neurons that read W_in and b_in.

    Raises ValueError for a model without an MLP.
    """
    found = dict(weights)
    layers = sorted(name for name in weights if name.endswith(W_OUT))
    if not layers:
        raise ValueError("the model has no W_out, so no neurons to shuffle")
    for name in layers:
        order = torch.randperm(len(weights[name]), generator=generator)
        found[name] = weights[name][order.to(weights[name].device)]
    return found


def without_neurons(weights: Weights, neurons: Sequence[int]) -> dict[str, Tensor]:
    """The last block's neurons of these numbers with zero weights in and out.

    Raises ValueError for neurons that do not exist, and for a model without an MLP.
    """
    layers = sorted((n for n in weights if n.endswith(W_OUT)), key=_layer)
    if not layers:
        raise ValueError("the model has no W_out, so no neurons to remove")
    last = layers[-1].removesuffix("W_out")
    size = len(weights[layers[-1]])
    outside = [i for i in neurons if not 0 <= i < size]
    if outside:
        raise ValueError(f"got neurons {outside[:5]}, but the last block has 0..{size - 1}")
    found, index = dict(weights), list(neurons)
    for part, place in (("W_out", (index,)), ("W_in", (slice(None), index)), ("b_in", (index,))):
        if last + part in weights:
            changed = weights[last + part].clone()
            changed[place] = 0
            found[last + part] = changed
    return found


def _layer(name: str) -> tuple[int, str]:
    numbers = [int(part) for part in name.split(".") if part.isdigit()]
    return (numbers[0] if numbers else -1, name)


MADE: Final[Mapping[str, Any]] = {
    "spectrum_matched": spectrum_matched,
    "w_out_permuted": neurons_shuffled,
}
"""Null donors that are made of a donor's weights, by name."""
