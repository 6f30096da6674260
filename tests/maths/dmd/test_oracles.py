"""The same numbers from PyDMD and kooplearn."""

import numpy as np
import pytest
from kooplearn.linear_model import Ridge
from linear_systems import SLOW, signal, worst
from pydmd import DMD, HankelDMD

from mechgrok.maths.dmd import fit_operator, published_spectrum, snapshot_pairs

NOISY = signal(SLOW, 600, 6, noise=0.01)


@pytest.mark.parametrize("rank", [3, 7, 10])
def test_pcr_is_pydmds_hankel_dmd(rank: int) -> None:
    theirs = HankelDMD(svd_rank=rank, d=32).fit(NOISY.T)
    found = fit_operator(*snapshot_pairs([NOISY], 32), rank, "pcr")
    assert worst(found.eigenvalues, theirs.eigs) < 1e-10
    published = published_spectrum(NOISY, rank=rank)
    theirs = HankelDMD(svd_rank=rank, d=32).fit((NOISY - NOISY.mean(axis=0)).T)
    assert worst(published.eigenvalues, theirs.eigs) < 1e-10


def test_exact_modes_are_pydmds() -> None:
    Z, Zp = snapshot_pairs([NOISY], 1)
    theirs = DMD(svd_rank=4, exact=True).fit(NOISY.T)
    found = fit_operator(Z, Zp, 4, "exact")
    order = [int(np.abs(theirs.eigs - e).argmin()) for e in found.eigenvalues]
    other = theirs.modes[:, order] / np.linalg.norm(theirs.modes[:, order], axis=0)
    overlap = np.abs(np.sum(other.conj() * found.modes, axis=0))
    assert np.abs(overlap - 1).max() < 1e-10


@pytest.mark.parametrize(("rank", "ridge"), [(3, 1e-8), (6, 1e-6), (5, 1e-3)])
def test_rrr_is_kooplearns_reduced_rank_ridge(rank: int, ridge: float) -> None:
    # Up to rank 6: from the seventh on, theirs loses half of its digits by squaring a covariance
    # (4e-7; with 60 digits the result is ours to 3e-15).
    Z, Zp = snapshot_pairs([NOISY], 4)
    alpha = ridge * np.square(Z).sum() / Z.shape[1]  # the same share of the trace of C
    model = Ridge(n_components=rank, reduced_rank=True, alpha=alpha, eigen_solver="dense")
    # kooplearn takes a trajectory and pairs its rows: here the delayed states
    theirs = model.fit(np.concatenate([Z, Zp[:, -1:]], axis=1).T).eig()
    found = fit_operator(Z, Zp, rank, "rrr", ridge=ridge, coordinates=24)
    assert found.basis.shape == (24, 24)  # nothing compressed away
    assert worst(found.eigenvalues, theirs) < 1e-8
    plain = fit_operator(Z, Zp, rank, "pcr")
    assert worst(plain.eigenvalues, theirs) > 1e-5
