"""Arrays of many rows, held as their distinct rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

HASHED: Final = 8
"""Columns that tell rows apart; rows that agree there alone are found out by the check."""


@dataclass(frozen=True, eq=False)
class Rows:
    """One array for every row of a stack."""

    kept: Float[Tensor, "distinct *width"]
    index: Int[Tensor, " stack"]
    """Which of them each row of the stack is."""

    def take(self, rows: Int[Tensor, " _"]) -> Tensor:
        """The arrays of some rows of the stack."""
        return self.kept.index_select(0, self.index.index_select(0, rows))


def combinations(columns: Sequence[Int[Tensor, " n"]]) -> tuple[Tensor, Tensor]:
    """One row for every distinct combination of numbers >= 0, and which of them each row has."""
    code, size = columns[0], int(columns[0].max()) + 1
    for column in columns[1:]:
        values = int(column.max()) + 1
        if size * values >= 2**62:  # would not fit: number the combinations so far anew
            code = code.unique(return_inverse=True)[1]
            size = int(code.max()) + 1
        code, size = code * values + column, size * values
    found, index = code.unique(return_inverse=True)
    each = torch.arange(len(code), device=code.device)
    return torch.empty_like(found).scatter_(0, index, each), index


def by_value(x: Float[Tensor, "n d"], rows: Int[Tensor, " stack"]) -> Rows:
    """x[rows], where rows of x equal in every bit are held once.

    Only some columns are compared to find them, and then all: if that fails, nothing is shared.
    """
    step = max(1, x.shape[1] // HASHED)
    number = x[:, ::step].contiguous()
    bits = number.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()]).long()
    odd = 2 * torch.arange(bits.shape[1], device=x.device) + 1
    mixed = (bits ^ (bits >> 15)) * (odd * 0x9E3779B97F4A7C1)  # wraps around, as a hash may
    first, index = combinations([mixed.sum(dim=1).unique(return_inverse=True)[1]])
    distinct = x[first]
    if not torch.equal(distinct.index_select(0, index), x):
        return Rows(x, rows)
    return Rows(distinct, index[rows])
