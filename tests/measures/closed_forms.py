"""Logits and neurons whose every measure is known, for all pairs a * p + b."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor


def sums(p: int) -> Tensor:
    """(a + b) mod p of every pair, written out the long way."""
    return torch.tensor([(a + b) % p for a in range(p) for b in range(p)])


def cosine_logits(p: int, alpha: Mapping[int, float]) -> Tensor:
    """sum_k alpha_k cos w_k(a + b - c), float64 [p * p, p]."""
    distance = (sums(p)[:, None] - torch.arange(p)) % p
    angle = 2 * torch.pi / p * distance.double()
    zero = torch.zeros(p * p, p, dtype=torch.float64)
    return sum((a * torch.cos(k * angle) for k, a in alpha.items()), start=zero)


def pure_neurons(p: int, freqs: list[int]) -> Tensor:
    """One neuron cos w_k(a + b) + cos w_k a per frequency, each explained by its own alone."""
    element = torch.arange(p, dtype=torch.float64)
    a, b = element.repeat_interleave(p), element.repeat(p)
    waves = [torch.cos(2 * torch.pi * k / p * (a + b)) + _wave(k, p, a) for k in freqs]
    return torch.stack(waves, dim=1)


def _wave(k: int, p: int, x: Tensor) -> Tensor:
    return torch.cos(2 * torch.pi * k / p * x)


def cross_entropy(logits: Tensor, labels: Tensor) -> float:
    """Mean cross-entropy, by logsumexp rather than by log_softmax."""
    right = logits[torch.arange(len(labels)), labels]
    return float((logits.logsumexp(dim=1) - right).mean())


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers, float64."""
    chance = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=chance, dtype=torch.float64)


def uniform_loss(p: int) -> float:
    """Cross-entropy of knowing nothing."""
    return math.log(p)
