"""The spectrum as the code of arXiv 2605.08237 computes it, for comparison with that paper.

It differs from `spectrum` in its defaults: the temporal mean is subtracted, the singular values are
cut at an absolute threshold and no eigenvalue is filtered. The paper calls this DMD-RRR; it is
neither reduced-rank regression nor refined Rayleigh-Ritz, but `pcr`.
"""

from typing import Any, Final

import numpy as np

from mechgrok.maths.dmd.centring import centred
from mechgrok.maths.dmd.operator import from_svd
from mechgrok.maths.dmd.snapshots import check_length, snapshot_pairs, trajectories
from mechgrok.maths.dmd.spectra import Spectrum, summary

THRESHOLD: Final = 1e-10
"""Absolute; also the smallest standard deviation that is analysed."""


def published_spectrum(
    values: Any, n_delays: int = 32, rank: int = 10, record_every: int = 2
) -> Spectrum:
    """All eigenvalues of one run of snapshots (steps x features), up to their order.

    Raises ValueError for several runs (the published code lets pairs straddle them) and for a
    standard deviation below 1e-10.
    """
    runs = trajectories(values)
    check_length(runs, n_delays)
    if len(runs) != 1:
        raise ValueError(f"got {len(runs)} runs, expected one; use spectrum for several")
    if runs[0].std() < THRESHOLD:
        raise ValueError(
            f"got a standard deviation of {runs[0].std():.1e}, expected at least 1e-10"
        )
    Z, Zp = snapshot_pairs(centred(runs, "temporal_mean"), n_delays)
    svd = np.linalg.svd(Z, full_matrices=False)
    operator = from_svd(svd, Zp, min(rank, published_rank(svd[1])), "pcr")
    return summary(operator, Z, Zp, runs, n_delays, "temporal_mean", record_every, None)


def published_rank(singular_values: np.ndarray) -> int:
    """Singular values above 1e-10, or above 1e-6 of the largest where that is below 1e-8."""
    largest = singular_values[0]
    floor = largest * 1e-6 if largest < 1e-8 else THRESHOLD
    return int((singular_values > floor).sum())
