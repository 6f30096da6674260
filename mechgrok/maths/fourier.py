"""The real Fourier basis on Z_n, and what it says about matrices and logits indexed by Z_n.

Nanda et al. 2023 (arXiv 2301.05217), section 3 and appendix A. Rows of the basis are const, then
cos k, sin k for k = 1, 2, ...; an even n ends in one alternating row cos n/2, which the paper, with
n = 113, does not need. Inputs (a, b) are rows a * n + b of a table of all n * n pairs.
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor


def check_modulus(n: int) -> int:
    """Return n, or raise ValueError when Z_n has no frequency of its own (n < 3)."""
    if n < 3:
        raise ValueError(f"got n={n}, expected n >= 3: Z_n needs at least one frequency")
    return n


def check_frequencies(freqs: Sequence[int], n: int) -> tuple[int, ...]:
    """Return freqs as a tuple, or raise ValueError unless they are distinct and in 1..n//2."""
    check_modulus(n)
    outside = [k for k in freqs if not 1 <= k <= n // 2]
    if outside:
        raise ValueError(
            f"got frequencies {outside} for n={n}, expected 1..{n // 2}; "
            f"frequency k and n - k are the same, so pass min(k, n - k)"
        )
    if len(set(freqs)) != len(freqs):
        raise ValueError(f"got repeated frequencies {list(freqs)}, expected each one once")
    return tuple(freqs)


def component_names(n: int) -> tuple[str, ...]:
    """Name of every basis row: 'const', 'cos 1', 'sin 1', ...; an even n ends in 'cos n/2'."""
    freqs = range(1, check_modulus(n) // 2 + 1)
    names = ["const", *(f"{part} {k}" for k in freqs for part in ("cos", "sin"))]
    return tuple(names[:n])  # sin n/2 vanishes on Z_n, and would be name n + 1 of an even n


def component_frequencies(n: int, device: torch.device | None = None) -> Int[Tensor, " n"]:
    """Frequency 0..n//2 of every basis row."""
    return (torch.arange(check_modulus(n), device=device) + 1) // 2


def fourier_basis(
    n: int, dtype: torch.dtype = torch.float64, device: torch.device | None = None
) -> Float[Tensor, "n n"]:
    """Orthonormal real Fourier basis on Z_n: one row per component, one column per element."""
    freqs = component_frequencies(n, device)
    # Reducing k * x mod n keeps the angle below 2 pi, where cos and sin are exact to rounding.
    angle = (freqs[:, None] * torch.arange(n, device=device) % n).double() * (2 * torch.pi / n)
    is_sine = (torch.arange(n, device=device) % 2 == 0) & (freqs > 0)
    rows = torch.where(is_sine[:, None], angle.sin(), angle.cos())
    return (rows / rows.norm(dim=1, keepdim=True)).to(dtype)


def to_fourier(x: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
    """Fourier components of x along its first axis."""
    return torch.tensordot(fourier_basis(x.shape[0], x.dtype, x.device), x, dims=1)


def from_fourier(components: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
    """Inverse of `to_fourier`."""
    basis = fourier_basis(components.shape[0], components.dtype, components.device)
    return torch.tensordot(basis.T, components, dims=1)


def to_fourier_2d(x: Float[Tensor, "n n ..."]) -> Float[Tensor, "n n ..."]:
    """F[f, g] = sum_ab B[f, a] B[g, b] x[a, b], as two matrix products."""
    over_a = to_fourier(x)
    return to_fourier(over_a.transpose(0, 1)).transpose(0, 1)


def from_fourier_2d(components: Float[Tensor, "n n ..."]) -> Float[Tensor, "n n ..."]:
    """Inverse of `to_fourier_2d`."""
    over_f = from_fourier(components)
    return from_fourier(over_f.transpose(0, 1)).transpose(0, 1)


def component_norms(matrix: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Norm over d of every Fourier component of a matrix whose rows are elements of Z_n."""
    return to_fourier(matrix).norm(dim=1)


def frequency_power(component_power: Float[Tensor, "n ..."]) -> Float[Tensor, "n_freqs ..."]:
    """Sum cos and sin power of every frequency k = 1..n//2; the constant is left out."""
    n = component_power.shape[0]
    freqs = component_frequencies(n, component_power.device)
    power = component_power.new_zeros(n // 2 + 1, *component_power.shape[1:])
    return power.index_add(0, freqs, component_power)[1:]


def frequency_norms(matrix: Float[Tensor, "n d"]) -> Float[Tensor, " n_freqs"]:
    """Norm over d and over {cos k, sin k} for every frequency k = 1..n//2."""
    return frequency_power(component_norms(matrix).square()).sqrt()


def power_shares(matrix: Float[Tensor, "n d"]) -> Float[Tensor, " n_freqs"]:
    """Share 0..1 of the matrix's total power (the constant included) at k = 1..n//2."""
    power = component_norms(matrix).square()
    if power.sum() == 0:
        raise ValueError("got a matrix of zeros, whose power has no shares; pass a non-zero matrix")
    return frequency_power(power) / power.sum()


def frequency_rows(
    freqs: Sequence[int],
    n: int,
    dtype: torch.dtype = torch.float64,
    device: torch.device | None = None,
) -> Float[Tensor, "directions n"]:
    """Basis rows of the given frequencies: two for each, one for n/2 of an even n."""
    chosen = torch.tensor(check_frequencies(freqs, n), dtype=torch.long, device=device)
    keep = torch.isin(component_frequencies(n, device), chosen)
    return fourier_basis(n, dtype, device)[keep]


def project_frequencies(
    matrix: Float[Tensor, "n ..."], freqs: Sequence[int]
) -> Float[Tensor, "n ..."]:
    """Keep only the given frequencies along the first axis (the constant goes too)."""
    rows = frequency_rows(freqs, matrix.shape[0], matrix.dtype, matrix.device)
    return torch.tensordot(rows.T, torch.tensordot(rows, matrix, dims=1), dims=1)


def scale_frequencies(
    matrix: Float[Tensor, "n ..."], freqs: Sequence[int], scale: float
) -> Float[Tensor, "n ..."]:
    """Multiply the given frequencies by `scale` (0 removes them) and leave all others."""
    return matrix + (scale - 1) * project_frequencies(matrix, freqs)


def sum_index(p: int, device: torch.device | None = None) -> Int[Tensor, " pairs"]:
    """(a + b) mod p of every row a * p + b."""
    element = torch.arange(p, device=device)
    return rearrange((element[:, None] + element) % p, "a b -> (a b)")


def check_pairs(rows: int, p: int) -> None:
    """Raise ValueError unless a table has one row for each of the p * p pairs."""
    check_modulus(p)
    if rows != p * p:
        raise ValueError(
            f"got {rows} rows, expected all p*p = {p * p} pairs in the order a*p + b (p={p}); "
            f"evaluate the model on every pair"
        )


def sum_means(table: Float[Tensor, "pairs classes"], p: int) -> Float[Tensor, "p classes"]:
    """Mean of the table's rows over all pairs with a + b = s mod p, for s = 0..p-1."""
    check_pairs(table.shape[0], p)
    return table.new_zeros(p, table.shape[1]).index_add(0, sum_index(p, table.device), table) / p


def sum_directions(
    table: Float[Tensor, "pairs classes"], p: int, freqs: Sequence[int]
) -> Float[Tensor, "p classes"]:
    """Part of the table in the directions cos w_k(a+b), sin w_k(a+b), as a function of s = a + b.

    Nanda et al. 2023, section 5.1 (restricted loss), with 2 directions per frequency: averaging
    over a + b = s is the projection onto functions of the sum, and the Fourier modes of s are then
    the directions. Row s of the result is the projection's value at every pair with that sum.
    """
    return project_frequencies(sum_means(table, p), freqs)


def project_sums(
    table: Float[Tensor, "pairs classes"], p: int, freqs: Sequence[int]
) -> Float[Tensor, "pairs classes"]:
    """`sum_directions` spread over all pairs: the orthogonal projection of the table."""
    return sum_directions(table, p, freqs)[sum_index(p, table.device)]


def cosine_coefficients(logits: Float[Tensor, "pairs p"], p: int) -> Float[Tensor, " n_freqs"]:
    """v_k = <L, C_k> for k = 1..p//2, where C_k is cos w_k(a+b-c) scaled to unit norm.

    Nanda et al. 2023, section 4.2. The sum S[d] of L over a + b - c = d holds all that the C_k can
    see, so one pass over L replaces p//2 cubes of p^3 numbers: v_k = Re rfft(S)_k / ||cos||.
    """
    if logits.shape[1] != p:
        raise ValueError(f"got {logits.shape[1]} classes, expected p={p}; drop the '=' class first")
    by_sum = sum_means(logits, p) * p
    element = torch.arange(p, device=logits.device)
    diagonal = by_sum[(element[:, None] + element) % p, element].sum(dim=1)  # [d] sums s = d + c
    norm = logits.new_full((p // 2,), (p**3 / 2) ** 0.5)
    if p % 2 == 0:
        norm[-1] = p**1.5  # cos is +-1 at frequency p/2, so its mean square is 1, not 1/2
    return torch.fft.rfft(diagonal).real[1:] / norm
