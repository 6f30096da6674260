"""The passes of a Tiny Recursive Model as one function for torch.compile.

The formulas of `_trm_kernels.py`, from which the compiler makes its own fused kernels and
gradients; they round differently, so this is asked for by `compile` and never used otherwise. It
needs a C++ compiler and takes a minute at the first step of each batch size.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor

from mechgrok.models import _trm_kernels as kernels

BACKEND: Final = "inductor"


@cache
def _compiled(backend: str) -> Callable[..., tuple[Tensor, Tensor]]:
    return torch.compile(_cycles, dynamic=False, backend=backend)


_broken: list[str] = []


def run(
    x: Tensor, z_H: Tensor, z_L: Tensor, weights: Sequence[tuple[Tensor, ...]], cfg: Any
) -> tuple[Tensor, Tensor] | None:
    """z_H and z_L after one pass; None, after one line that says why, where nothing compiles."""
    if _broken:
        return None
    sizes = (cfg.H_cycles, cfg.L_cycles, cfg.eps)
    try:
        return _compiled(BACKEND)(x, z_H, z_L, list(weights), sizes)
    except Exception as error:  # whatever a missing or failing compiler raises
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        _broken.append(reason)
        print(f"torch.compile does not work here ({reason}); training without it")
        return None


def _cycles(
    x: Tensor,
    z_H: Tensor,
    z_L: Tensor,
    weights: list[tuple[Tensor, ...]],
    sizes: tuple[int, int, float],
) -> tuple[Tensor, Tensor]:
    n_high, n_low, eps = sizes
    with torch.no_grad():
        for _ in range(n_high - 1):
            for _ in range(n_low):
                z_L = _network(z_L + (z_H + x), weights, eps)
            z_H = _network(z_H + z_L, weights, eps)
    for _ in range(n_low):
        z_L = _network(z_L + (z_H + x), weights, eps)
    return _network(z_H + z_L, weights, eps), z_L


def _network(u: Tensor, weights: list[tuple[Tensor, ...]], eps: float) -> Tensor:
    length, batch, width = u.shape
    for mix_both, mix_out, both, out in weights:
        u = kernels.mix(u.reshape(length, batch * width), mix_both, mix_out, eps)
        u = kernels.channels(u.view(length * batch, width), both, out, eps)
        u = u.view(length, batch, width)
    return u
