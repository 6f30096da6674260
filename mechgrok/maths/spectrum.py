"""Random matrices with given singular values: what weights are apart from their directions."""

import torch
from jaxtyping import Float
from torch import Tensor


def random_orthonormal(
    rows: int, columns: int, generator: torch.Generator, dtype: torch.dtype = torch.float64
) -> Float[Tensor, "rows columns"]:
    """A uniformly random matrix with orthonormal columns; rows >= columns.

    QR of a Gaussian, signs fixed by R's diagonal (Mezzadri 2007, section 5); drawn on the CPU.
    Raises ValueError for fewer rows than columns.
    """
    if rows < columns:
        raise ValueError(f"got {rows} rows, expected at least as many as the {columns} columns")
    gaussian = torch.randn(rows, columns, generator=generator, dtype=dtype)
    q, r = torch.linalg.qr(gaussian)
    return q * r.diagonal().sign()


def spectrum_matched(
    weight: Float[Tensor, "*shape"], generator: torch.Generator
) -> Float[Tensor, "*shape"]:
    """A matrix with the singular values of `weight` and uniformly random singular vectors.

    Each matrix of a batch by itself, in float64, returned in the dtype and on the device of
    `weight`. Raises ValueError for fewer than 2 axes.
    """
    if weight.ndim < 2:
        raise ValueError(f"got shape {list(weight.shape)}, expected a matrix or a batch of them")
    flat = weight.detach().double().cpu().reshape(-1, *weight.shape[-2:])
    return torch.stack([_matched(one, generator) for one in flat]).reshape(weight.shape).to(weight)


def _matched(
    weight: Float[Tensor, "rows columns"], generator: torch.Generator
) -> Float[Tensor, "rows columns"]:
    values = torch.linalg.svdvals(weight)
    left = random_orthonormal(weight.shape[0], len(values), generator)
    right = random_orthonormal(weight.shape[1], len(values), generator)
    return (left * values) @ right.T
