"""A linear operator of low rank that takes each state to the next: z' = U K U^T z.

All estimators work in the leading left singular vectors U of Z; K is a small real matrix, so that
eigenvalues come in conjugate pairs and no cut of the rank can part one from the other.

- `pcr`: K = U^T Z' V S^-1, least squares after the cut (principal-component regression, projected
  DMD). What arXiv 2605.08237 computes under the name DMD-RRR.
- `exact`: the same K and eigenvalues; modes Z' V S^-1 w, which need not lie in U (Tu et al. 2014).
- `rrr`: reduced-rank regression (Kostic et al. 2022, arXiv 2205.14027), in more coordinates than
  its rank: it keeps what predicts, not what is loud.
- `rayleigh`: data-driven Rayleigh-Ritz (Drmac, Mezic & Mohr 2018, arXiv 1708.02685, algorithm 3):
  pcr of pairs scaled so that each state has length 1.
"""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
import scipy.linalg
from jaxtyping import Complex, Float

Method: TypeAlias = Literal["pcr", "exact", "rrr", "rayleigh"]
METHODS: Final[tuple[str, ...]] = get_args(Method)

MAX_RANK: Final = 12
"""Largest rank that is chosen when none is given."""


@dataclass(frozen=True, eq=False)
class Operator:
    """A fitted operator, its eigenvalues, and how far each of them can be trusted."""

    method: str
    rank: int
    basis: Float[np.ndarray, "delayed kept"]
    """U, orthonormal; kept = rank but for `rrr`."""
    matrix: Float[np.ndarray, "kept kept"]
    """K in that basis."""
    image: Float[np.ndarray, "image kept"]
    """Least-squares image of each basis vector: its part in the basis, above its part outside."""
    eigenvalues: Complex[np.ndarray, " rank"]
    """Per snapshot, by falling modulus; of a pair the one with positive imaginary part first."""
    vectors: Complex[np.ndarray, "kept rank"]
    """Eigenvectors of K, of length 1."""
    modes: Complex[np.ndarray, "delayed rank"]
    """Eigenvectors as delayed states, of length 1."""
    residuals: Float[np.ndarray, " rank"]
    """|A v - eigenvalue v| for each eigenvector v of length 1: 0 for an exact one."""
    singular_values: Float[np.ndarray, " n"]
    """All of Z's, falling; of the scaled Z for `rayleigh`."""
    ridge: float
    """Penalty of `rrr` on |K|^2, as a share of the sum of squared kept singular values."""

    @property
    def cut(self) -> float:
        """First singular value left out over the last one kept, 0..1; near 1 the cut goes through
        directions of equal size, such as the two of a rotation or a floor of noise."""
        kept, s = self.basis.shape[1], self.singular_values
        return float(s[kept] / s[kept - 1]) if kept < len(s) else 0.0

    def coordinates(self, states: Float[np.ndarray, "delayed n"]) -> Float[np.ndarray, "kept n"]:
        """States in the basis."""
        return self.basis.T @ states

    def predict(
        self, states: Float[np.ndarray, "delayed n"], snapshots: int = 1
    ) -> Float[np.ndarray, "delayed n"]:
        """States a number of snapshots later."""
        power = np.linalg.matrix_power(self.matrix, snapshots)
        return self.basis @ (power @ self.coordinates(states))

    def amplitudes(self, states: Float[np.ndarray, "delayed n"]) -> Complex[np.ndarray, "rank n"]:
        """Coefficients of the modes that add up to each state, by least squares."""
        return np.linalg.lstsq(self.modes, states.astype(np.complex128), rcond=None)[0]

    def energies(self, states: Float[np.ndarray, "delayed n"]) -> Float[np.ndarray, " rank"]:
        """Energy of each mode alone over successive states of one run, as a share of theirs.

        |amplitude|^2 sum_t |eigenvalue|^2t / |states|^2, with the amplitude in the first state.
        Modes are not orthogonal, so the shares can add up to more than 1.
        """
        powers = np.abs(self.eigenvalues)[:, None] ** (2 * np.arange(states.shape[1]))
        squares = np.square(np.abs(self.amplitudes(states[:, :1])[:, 0]))
        return squares * powers.sum(axis=1) / np.square(states).sum()


def fit_operator(
    Z: Float[np.ndarray, "delayed pairs"],
    Zp: Float[np.ndarray, "delayed pairs"],
    rank: int | None,
    method: str = "rayleigh",
    ridge: float = 0.0,
    coordinates: int | None = None,
    at_most: bool = False,
) -> Operator:
    """The operator from Z to Zp, column by column.

    Without a rank, `optimal_rank` up to `MAX_RANK`. `rrr` alone takes `ridge` and `coordinates`:
    how many singular vectors it chooses among, by default twice the rank or what the data hold.
    Raises ValueError for another method, and for a rank above what the data hold, unless `at_most`
    lowers the rank to that.
    """
    _check(Z, Zp, method, ridge, coordinates)
    Z, Zp = scaled(Z, Zp) if method == "rayleigh" else (Z, Zp)
    svd = np.linalg.svd(Z, full_matrices=False)
    held = numerical_rank(svd[1], Z.shape)
    rank = optimal_rank(svd[1], Z.shape) if rank is None else rank
    rank = min(rank, held) if at_most else rank
    if not 1 <= rank <= held:
        raise ValueError(
            f"got rank={rank}, expected 1..{held}: the {Z.shape[1]} pairs hold {held} directions "
            "above rounding; pass a smaller rank, or None to have one chosen"
        )
    if method != "rrr":
        return from_svd(svd, Zp, rank, method)
    kept = min(2 * rank if coordinates is None else coordinates, held)
    if kept < rank:
        raise ValueError(f"got coordinates={coordinates}, expected at least rank={rank}")
    return _reduced_rank(svd, Zp, rank, kept, ridge)


def from_svd(
    svd: tuple[np.ndarray, np.ndarray, np.ndarray], Zp: np.ndarray, rank: int, method: str
) -> Operator:
    """`pcr`, `exact` or `rayleigh` from the SVD of Z, whatever the rank."""
    basis, image, outside = _image(svd, Zp, rank)
    matrix = image[:rank]
    eigenvalues, vectors = conjugate_closed(*np.linalg.eig(matrix))
    modes = basis @ vectors
    if method == "exact":
        exact = modes * eigenvalues + outside @ vectors  # Z' V S^-1 w, of length |eigenvalue| here
        lengths = np.linalg.norm(exact, axis=0)
        modes = np.where(lengths > 0, exact / np.where(lengths > 0, lengths, 1), modes)
    return Operator(
        method, rank, basis, matrix, image, eigenvalues, vectors, modes,
        residuals(image, eigenvalues, vectors), svd[1], 0.0,
    )  # fmt: skip


def _reduced_rank(
    svd: tuple[np.ndarray, np.ndarray, np.ndarray],
    Zp: np.ndarray,
    rank: int,
    kept: int,
    ridge: float,
) -> Operator:
    basis, image, _ = _image(svd, Zp, kept)
    s, white = svd[1][:kept], svd[2][:kept]
    product = basis.T @ Zp @ white.T
    chosen = predictive(np.eye(kept), product, s, rank, ridge)
    matrix = product @ chosen @ chosen.T / s
    eigenvalues, small = conjugate_closed(*np.linalg.eig((chosen.T / s) @ product @ chosen))
    vectors = product @ chosen @ small
    vectors = vectors / np.linalg.norm(vectors, axis=0)
    return Operator(
        "rrr", rank, basis, matrix, image, eigenvalues, vectors, basis @ vectors,
        residuals(image, eigenvalues, vectors), svd[1], ridge,
    )  # fmt: skip


def predictive(
    gram: Float[np.ndarray, "kept kept"],
    product: Float[np.ndarray, "kept kept"],
    s: Float[np.ndarray, " kept"],
    rank: int,
    ridge: float,
) -> Float[np.ndarray, "kept rank"]:
    """F with K = product F F^T S^-1, the best prediction of that rank (Kostic et al. 2022, sec. 3).

    In coordinates divided by their singular values s, where `gram` is near the identity and
    `product` is (next coordinates) x (these coordinates)^T. With rank = kept and no ridge this is
    ordinary least squares.
    """
    penalised = gram + ridge * np.square(s).sum() * np.diag(s**-2)
    lower = np.linalg.cholesky(penalised)
    left = np.linalg.svd(scipy.linalg.solve_triangular(lower, product.T, lower=True))[0]
    return scipy.linalg.solve_triangular(lower.T, left[:, :rank])


def _image(
    svd: tuple[np.ndarray, np.ndarray, np.ndarray], Zp: np.ndarray, kept: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """U, the least-squares image B = Z' V S^-1 of U as (U^T B above R), and B - U U^T B = Q R."""
    basis = svd[0][:, :kept]
    image = Zp @ svd[2][:kept].T / svd[1][:kept]
    inside = basis.T @ image
    outside = image - basis @ inside
    return basis, np.concatenate([inside, np.linalg.qr(outside, mode="r")]), outside


def residuals(
    image: Float[np.ndarray, "image kept"],
    eigenvalues: Complex[np.ndarray, " rank"],
    vectors: Complex[np.ndarray, "kept rank"],
) -> Float[np.ndarray, " rank"]:
    """|B w - eigenvalue U w| (Drmac et al. 2018, eq. 3.2), the same for both of a pair."""
    error = image @ vectors
    error[: len(vectors)] -= eigenvalues * vectors
    found = np.linalg.norm(error, axis=0)
    lower = np.flatnonzero(np.imag(eigenvalues) < 0)
    found[lower] = found[lower - 1]
    return found


def conjugate_closed(
    eigenvalues: np.ndarray, vectors: np.ndarray
) -> tuple[Complex[np.ndarray, " rank"], Complex[np.ndarray, "kept rank"]]:
    """Eigenpairs of a real matrix by falling modulus, exact conjugates side by side."""
    upper = np.flatnonzero(np.imag(eigenvalues) >= 0)
    found = eigenvalues[upper].astype(np.complex128)
    order = upper[np.lexsort((np.angle(found), -np.abs(found)))]
    index = np.repeat(order, np.where(np.imag(eigenvalues[order]) > 0, 2, 1))
    values, columns = eigenvalues[index].astype(complex), vectors[:, index].astype(complex)
    lower = np.append(False, index[1:] == index[:-1])
    values[lower] = values[lower].conj()
    columns[:, lower] = columns[:, lower].conj()
    return values, columns


def scaled(Z: np.ndarray, Zp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs divided by the length of the first state, so that each counts the same."""
    lengths = np.linalg.norm(Z, axis=0)
    lengths[lengths == 0] = 1
    return Z / lengths, Zp / lengths


def numerical_rank(singular_values: np.ndarray, shape: tuple[int, ...]) -> int:
    """Singular values above rounding."""
    floor = singular_values[0] * max(shape) * np.finfo(np.float64).eps
    return int((singular_values > floor).sum())


def optimal_threshold(singular_values: np.ndarray, shape: tuple[int, ...]) -> float:
    """Optimal hard threshold for noise of unknown size (Gavish & Donoho 2014, arXiv 1305.5870,
    eq. 5 and its cubic approximation), in the units of the singular values.

    The theory is for independent noise; delayed copies repeat theirs, so look at other ranks too.
    """
    ratio = min(shape) / max(shape)
    omega = 0.56 * ratio**3 - 0.95 * ratio**2 + 1.82 * ratio + 1.43
    return float(omega * np.median(singular_values))


def optimal_rank(singular_values: np.ndarray, shape: tuple[int, ...], most: int = MAX_RANK) -> int:
    """Singular values above `optimal_threshold`, at least 1 and at most `most`."""
    above = int((singular_values > optimal_threshold(singular_values, shape)).sum())
    return max(1, min(above, most, numerical_rank(singular_values, shape)))


def _check(
    Z: np.ndarray, Zp: np.ndarray, method: str, ridge: float, coordinates: int | None
) -> None:
    if method not in METHODS:
        raise ValueError(f"got method={method!r}, expected one of {', '.join(METHODS)}")
    if Z.shape != Zp.shape or not Z.size:
        raise ValueError(f"got Z {Z.shape} and Zp {Zp.shape}, expected as many states in both")
    if not (np.isfinite(Z).all() and np.isfinite(Zp).all()):
        raise ValueError("got states that are not finite; cut the run before the first one")
    if ridge < 0:
        raise ValueError(f"got ridge={ridge}, expected 0 or more")
    if method != "rrr" and (ridge or coordinates is not None):
        raise ValueError(f"method={method!r} takes no ridge and no coordinates; only rrr does")
