"""Parts of a table over all pairs, by the frequencies of a and of b.

Nanda et al. 2023 (arXiv 2301.05217), section 4.1 and appendix A: in the basis of products B[f](a)
B[g](b), a frequency k owns 1 x {cos k, sin k}, {cos k, sin k} x 1 (linear) and {cos k, sin k} x
{cos k, sin k} (products). cos, sin w_k(a+b) are two of the four dimensions of the products; cos,
sin w_k(a-b) are the others. All parts here are orthogonal projections, and a split adds up to the
table.
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mechgrok.maths.fourier import check_frequencies, check_pairs, frequency_rows, project_sums

CONST = "const"
"""Name of the part that is one number per class: the mean over pairs."""
OTHER_KEY = "other key terms"
"""Name of the part in linear and difference terms of single keys."""
NON_KEY = "non-key"
"""Name of the rest: other frequencies, and products of two different frequencies."""


def sum_name(k: int) -> str:
    """Name of the part in cos w_k(a+b), sin w_k(a+b)."""
    return f"sum {k}"


def product_terms(
    table: Float[Tensor, "pairs classes"], p: int, freqs: Sequence[int]
) -> Float[Tensor, "pairs classes"]:
    """Part in {cos k, sin k}(a) x {cos k, sin k}(b) of each frequency alone: 4 terms for each."""
    check_pairs(table.shape[0], p)
    grid = rearrange(table, "(a b) classes -> a b classes", a=p)
    kept = torch.zeros_like(grid)
    for k in check_frequencies(freqs, p):
        rows = frequency_rows([k], p, table.dtype, table.device)
        core = rows @ torch.tensordot(rows, grid, dims=1)  # direction_of_a direction_of_b classes
        kept += torch.tensordot(rows.T, rows.T @ core, dims=1)
    return rearrange(kept, "a b classes -> (a b) classes")


def linear_terms(
    table: Float[Tensor, "pairs classes"], p: int, freqs: Sequence[int]
) -> Float[Tensor, "pairs classes"]:
    """Part in cos, sin w_k a alone and cos, sin w_k b alone, of the given frequencies."""
    check_pairs(table.shape[0], p)
    grid = rearrange(table, "(a b) classes -> a b classes", a=p)
    rows = frequency_rows(freqs, p, table.dtype, table.device)
    project = rows.T @ rows
    of_a = torch.tensordot(project, grid.mean(dim=1), dims=1)
    of_b = torch.tensordot(project, grid.mean(dim=0), dims=1)
    return rearrange(of_a[:, None] + of_b, "a b classes -> (a b) classes")


def own_terms(
    table: Float[Tensor, "pairs classes"], p: int, freqs: Sequence[int]
) -> Float[Tensor, "pairs classes"]:
    """Part in terms of single given frequencies: linear in a or b, and products of one frequency.

    Eight dimensions for each frequency, the sum directions among them.
    """
    return product_terms(table, p, freqs) + linear_terms(table, p, freqs)


def polynomial(
    table: Float[Tensor, "pairs columns"], p: int, k: int, squares: bool = False
) -> Float[Tensor, "pairs columns"]:
    """Least-squares polynomial of degree 2 in cos, sin w_k a and cos, sin w_k b, of every column.

    The constant, 4 linear terms and 4 products; with `squares` also cos^2, cos sin and sin^2 of
    each operand, which are the linear terms of frequency 2k.
    """
    kept = table.mean(dim=0) + linear_terms(table, p, [k]) + product_terms(table, p, [k])
    double = min(2 * k % p, -2 * k % p)
    # At k = p / 2 the double is a constant, and at k = p / 3 it is k itself.
    return kept + linear_terms(table, p, [double]) if squares and double not in (0, k) else kept


def split_names(keys: Sequence[int]) -> tuple[str, ...]:
    """Names of the parts of `split_by_frequency`, in its order."""
    return (CONST, *(sum_name(k) for k in keys), OTHER_KEY, NON_KEY)


def split_by_frequency(
    table: Float[Tensor, "pairs classes"], p: int, keys: Sequence[int]
) -> dict[str, Float[Tensor, "pairs classes"]]:
    """The table as const + each key's sum directions + other key terms + non-key.

    Raises ValueError for an incomplete table and for keys outside 1..p//2.
    """
    check_pairs(table.shape[0], p)
    found = {CONST: table.mean(dim=0).expand_as(table)}
    found |= {sum_name(k): project_sums(table, p, [k]) for k in keys}
    of_sums = project_sums(table, p, keys)
    of_keys = own_terms(table, p, keys)
    found[OTHER_KEY] = of_keys - of_sums
    found[NON_KEY] = table - found[CONST] - of_keys
    return found
