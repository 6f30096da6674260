"""Gromov's closed-form network for modular addition (arXiv 2301.02679, equations 5-7).

No training: h_j = (cos(w_j a + u_j) + cos(w_j b + v_j))^2 and logits = sum_j h_j cos(w_j c + u_j +
v_j).
Every Fourier measure has a known answer on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Network:
    """Activations and logits of all pairs a * p + b, and the frequency of every neuron."""

    p: int
    neurons: Tensor
    logits: Tensor
    freqs: Tensor
    W_L: Tensor
    """Neurons to logits: a wave over classes per neuron."""

    @property
    def accuracy(self) -> float:
        """Fraction of pairs whose largest logit is (a + b) mod p."""
        element = torch.arange(self.p)
        answer = ((element[:, None] + element) % self.p).flatten()
        return float((self.logits.argmax(dim=1) == answer).double().mean())


def network(
    p: int, width: int, seed: int, freqs: Sequence[int] | None = None, aligned: bool = True
) -> Network:
    """A network whose neurons cycle through `freqs` (all by default), with random phases.

    Not `aligned`, the output phase is random instead of u + v: the null, which knows no sum.
    """
    chance = torch.Generator().manual_seed(seed)
    cycle = torch.tensor(freqs if freqs is not None else range(1, p // 2 + 1))
    own = cycle[torch.arange(width) % len(cycle)]
    phase = 2 * torch.pi * torch.rand(3, width, generator=chance, dtype=torch.float64)
    wave = 2 * torch.pi / p * torch.arange(p, dtype=torch.float64)[:, None] * own
    of_a, of_b = torch.cos(wave + phase[0]), torch.cos(wave + phase[1])
    neurons = (of_a[:, None] + of_b).square().flatten(0, 1)
    output = torch.cos(wave + (phase[0] + phase[1] if aligned else phase[2]))
    return Network(p, neurons, neurons @ output.T, own, output)
