"""Frequency ablation in the embedding: scale chosen Fourier frequencies of W_E inside a `with`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

from mechgrok.maths.fourier import check_frequencies, scale_frequencies

Model = TypeVar("Model", bound=Any)


@contextmanager
def ablate_frequencies(
    model: Model,
    freqs: Sequence[int],
    n: int,
    scale: float = 0.0,
    order: Int[Tensor, " n"] | None = None,
) -> Iterator[Model]:
    """The model with the given frequencies of W_E over the tokens 0..n-1 multiplied by `scale`.

    Other frequencies, the constant and the other tokens' rows stay. `order` gives the token id of
    each element of Z_n when tokens are renamed. On leaving, also by an exception, W_E has its old
    bits. No frequency, or a scale of 1, changes nothing. Raises ValueError for frequencies outside
    1..n//2 and for more elements than W_E has rows.
    """
    weight: Tensor = model.embed.W_E
    check_frequencies(freqs, n)
    if n > weight.shape[0]:
        raise ValueError(f"got n={n}, but W_E has {weight.shape[0]} rows; n is the modulus")
    rows = torch.arange(n) if order is None else order
    rows = rows.to(weight.device)
    saved = weight.detach().clone()
    try:
        if freqs and scale != 1:
            # float64, so that the edit is the projection to rounding of the weight's own dtype
            scaled = scale_frequencies(saved[rows].double(), freqs, scale)
            with torch.no_grad():
                weight[rows] = scaled.to(weight.dtype)
        yield model
    finally:
        with torch.no_grad():
            weight.copy_(saved)
