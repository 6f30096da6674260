"""The part of an activation that an edge carries: one position, some frequency parts, or all."""

from collections.abc import Collection, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mechgrok.maths.fourier import project_sums
from mechgrok.maths.pair_terms import NON_KEY, OTHER_KEY, own_terms, sum_name


def project(
    table: Float[Tensor, "pairs *rest"], p: int, keys: Sequence[int], names: Collection[str]
) -> Float[Tensor, "pairs *rest"]:
    """Sum of the named parts (sum k, other key terms, non-key) of a table over all pairs.

    The parts of `split_by_frequency`, without computing the others. Raises ValueError for a part
    that does not exist and for an incomplete table.
    """
    unknown = set(names) - {*(sum_name(k) for k in keys), OTHER_KEY, NON_KEY}
    if unknown:
        raise ValueError(f"got parts {sorted(unknown)}, expected those of the keys {list(keys)}")
    flat = table.flatten(1)
    found = torch.zeros_like(flat)
    wanted = [k for k in keys if sum_name(k) in names]
    if OTHER_KEY in names or NON_KEY in names:
        own = own_terms(flat, p, keys) if keys else found
        if NON_KEY in names:
            found = flat - flat.mean(dim=0) - own
        if OTHER_KEY in names:
            # own terms hold every key's sum directions; those not wanted are taken out again
            found = found + own
            unwanted = [k for k in keys if k not in wanted]
            found = found - project_sums(flat, p, unwanted) if unwanted else found
            return found.view(table.shape)
    if wanted:
        found = found + project_sums(flat, p, wanted)
    return found.view(table.shape)


def at_position(x: Float[Tensor, "rows pos d"], position: int) -> Float[Tensor, "rows pos d"]:
    """x with every other position set to 0; all of x for position -1."""
    if position < 0 or x.shape[1] == 1:
        return x
    kept = torch.zeros_like(x)
    kept[:, position] = x[:, position]
    return kept
