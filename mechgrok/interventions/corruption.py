"""Which rows to corrupt a batch with: one operand changed and another answer, or a derangement."""

import torch
from jaxtyping import Int
from torch import Tensor

TRIES = 1000
"""Draws before a row is given up."""


def changed_operand(
    tokens: Int[Tensor, "rows pos"],
    labels: Int[Tensor, " rows"],
    position: int,
    generator: torch.Generator,
) -> Int[Tensor, " rows"]:
    """For every row a random other row that differs at `position` alone and in its answer.

    Report the positions apart: what a patch restores depends on the operand that was changed.
    Raises ValueError for a row that has no such partner.
    """
    rest = tokens.clone()
    rest[:, position] = 0
    _, group = rest.unique(dim=0, return_inverse=True)
    order = group.argsort(stable=True)
    size = torch.bincount(group)
    first = size.cumsum(0) - size
    found = torch.full_like(group, -1)
    for _ in range(TRIES):
        open_rows = (found < 0).nonzero()[:, 0]
        if not len(open_rows):
            return found
        own = group[open_rows]
        draws = torch.rand(len(own), generator=generator, dtype=torch.float64)
        partner = order[first[own] + (draws * size[own]).long()]
        differs = labels[partner] != labels[open_rows]
        found[open_rows[differs]] = partner[differs]
    row = int((found < 0).nonzero()[0])
    raise ValueError(
        f"row {row}, tokens {tokens[row].tolist()}, has no partner with another token at position "
        f"{position} and another answer; pass all rows of the task, or another position"
    )


def derangement(n: int, generator: torch.Generator) -> Int[Tensor, " n"]:
    """A random permutation that moves everything: drawn until it has no fixed point (about e
    draws), so that all derangements are equally likely. Raises ValueError for n < 2."""
    if n < 2:
        raise ValueError(f"got n={n}, expected at least 2")
    while True:
        drawn = torch.randperm(n, generator=generator)
        if not bool((drawn == torch.arange(n)).any()):
            return drawn
