"""How well one linear operator explains each stretch of a run.

The residual is the signal of arXiv 2605.08237: |Z' - U K U^T Z| / |Z'| (Frobenius norms) of an
operator fitted in the window itself.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mechgrok.maths.dmd.centring import centred
from mechgrok.maths.dmd.operator import Operator, fit_operator
from mechgrok.maths.dmd.snapshots import check_length, snapshot_pairs


@dataclass(frozen=True, eq=False)
class Windows:
    """One value per window, in the order of the run."""

    first: Int[np.ndarray, " windows"]
    """Index of the first snapshot."""
    last: Int[np.ndarray, " windows"]
    """Index of the last snapshot: what a running alarm knows by then."""
    residuals: Float[np.ndarray, " windows"]
    """absolute / max(norms, floor), 0..1 or little above."""
    absolute: Float[np.ndarray, " windows"]
    """|Z' - prediction|, in the units of the data."""
    norms: Float[np.ndarray, " windows"]
    """|Z'|, in the units of the data; where it nears the floor, the residual is about noise."""
    floor: float
    """Size of Z' if there were noise alone."""
    ranks: Int[np.ndarray, " windows"]
    """Rank of the operator: as asked for, or fewer where the window holds fewer directions."""
    effective_ranks: Int[np.ndarray, " windows"]
    """Singular values that hold 99 % of the energy."""
    leading: Float[np.ndarray, " windows"]
    """Largest modulus of an eigenvalue, per snapshot."""


def windowed(
    values: Float[np.ndarray, "steps features"],
    window: int,
    stride: int,
    n_delays: int,
    rank: int,
    center: str = "affine",
    method: str = "rayleigh",
    noise: float = 0.0,
    **options: Any,
) -> Windows:
    """Residual, rank and leading eigenvalue of windows of `window` snapshots, each centred alone.

    `noise` is the root mean square of the recording noise per entry, below which a residual is not
    blown up by a signal that has died out; rounding counts at least. Options are those of
    `fit_operator`. Raises ValueError for a window that is constant, holds no two pairs or does not
    fit into the run.
    """
    if not 1 <= window <= len(values) or stride < 1:
        raise ValueError(f"got windows of {window} every {stride} of {len(values)} snapshots")
    first = np.arange(0, len(values) - window + 1, stride)
    check_length([values[:window]], n_delays)
    size = np.sqrt(n_delays * values.shape[1] * (window - n_delays))
    floor = size * max(noise, np.finfo(np.float64).eps * float(np.abs(values).max()))
    rows = []
    for start in first:
        part = values[start : start + window]
        if not np.ptp(part, axis=0).any():
            raise ValueError(f"snapshots {start}..{start + window - 1} are constant; cut them off")
        rows.append(_row(part, n_delays, rank, center, method, options))
    absolute, norms, ranks, effective, leading = map(np.array, zip(*rows, strict=True))
    return Windows(
        first, first + window - 1, absolute / np.maximum(norms, floor), absolute, norms,
        float(floor), ranks, effective, leading,
    )  # fmt: skip


def effective_rank(singular_values: Float[np.ndarray, " n"], energy: float = 0.99) -> int:
    """Fewest leading singular values whose squares add up to a share of the total."""
    shares = np.cumsum(np.square(singular_values)) / np.square(singular_values).sum()
    return int((shares < energy).sum()) + 1


def one_step(operator: Operator, Z: np.ndarray, Zp: np.ndarray) -> tuple[float, float]:
    """|Z' - U K U^T Z| and |Z'|, without a pseudo-inverse of the modes."""
    return float(np.linalg.norm(Zp - operator.predict(Z))), float(np.linalg.norm(Zp))


def _row(
    part: np.ndarray, n_delays: int, rank: int, center: str, method: str, options: dict[str, Any]
) -> tuple[float, float, int, int, float]:
    Z, Zp = snapshot_pairs(centred([part], center), n_delays)
    operator = fit_operator(Z, Zp, rank, method, at_most=True, **options)
    absolute, norm = one_step(operator, Z, Zp)
    leading = float(np.abs(operator.eigenvalues[0]))
    return absolute, norm, operator.rank, effective_rank(operator.singular_values), leading
