"""Accuracy at known noise: 1,500 snapshots of 19 features, 32 delays, seven true eigenvalues.

Expected errors were measured once with other code on another draw of the same system.
"""

from functools import cache
from typing import Any

import numpy as np
import pytest
from linear_systems import SLOW, signal, worst

from mechgrok.maths.dmd import centred, fit_operator, snapshot_pairs, spectrum

SEEDS = range(3)
LEADING = 40
"""Singular vectors that pairs are cut to once for all fits; no fit below looks at more."""


@cache
def pairs(
    noise: float, center: str, n_delays: int, seed: int, cut: bool
) -> tuple[np.ndarray, np.ndarray]:
    runs = centred([signal(SLOW, 1500, 19, noise, seed)], center)
    Z, Zp = snapshot_pairs(runs, n_delays)
    if not cut:
        return Z, Zp
    basis = np.linalg.svd(Z, full_matrices=False)[0][:, :LEADING]
    return basis.T @ Z, basis.T @ Zp


def error(
    noise: float,
    method: str,
    center: str = "none",
    n_delays: int = 32,
    rank: int = 7,
    **options: Any,
) -> float:
    """Median over draws of the largest error of a true eigenvalue."""
    cut = method != "rayleigh"  # it divides by the lengths of the whole states
    draws = [pairs(noise, center, n_delays, seed, cut) for seed in SEEDS]
    fits = [fit_operator(*draw, rank, method, **options) for draw in draws]
    return float(np.median([worst(fit.eigenvalues, SLOW) for fit in fits]))


def test_the_cut_changes_no_eigenvalue() -> None:
    for method in ("pcr", "rrr"):
        whole, cut = (
            fit_operator(*pairs(1e-2, "none", 32, 0, each), 7, method) for each in (False, True)
        )
        assert np.abs(whole.eigenvalues - cut.eigenvalues).max() < 1e-9


@pytest.mark.parametrize(
    ("noise", "method", "center", "expected"),
    [
        (1e-4, "pcr", "none", 9e-7),
        (1e-2, "pcr", "none", 9.8e-5),
        (1e-2, "rrr", "none", 5.5e-5),
        (1e-2, "rayleigh", "none", 9.8e-5),
        (1e-2, "rayleigh", "affine", 9.8e-5),
        (1e-2, "pcr", "temporal_mean", 1.0e-3),
    ],
)
def test_errors_are_those_of_the_table(
    noise: float, method: str, center: str, expected: float
) -> None:
    assert expected / 3 < error(noise, method, center) < expected * 3


@pytest.mark.parametrize(("noise", "expected"), [(1e-4, 9e-7), (1e-2, 9.8e-5)])
def test_three_ranks_too_many_cost_no_accuracy(noise: float, expected: float) -> None:
    assert expected / 3 < error(noise, "pcr", rank=10) < expected * 3


@pytest.mark.parametrize(("ridge", "expected"), [(1e-8, 3e-5), (1e-6, 3.4e-3)])
def test_a_ridge_costs_what_the_table_says_even_without_noise(
    ridge: float, expected: float
) -> None:
    assert expected / 3 < error(0, "rrr", ridge=ridge) < expected * 3
    assert error(0, "rrr") < 1e-9


def test_delays_average_noise_out() -> None:
    assert error(1e-2, "pcr", n_delays=1) > 20 * error(1e-2, "pcr")


@pytest.mark.parametrize("method", ["pcr", "exact", "rrr", "rayleigh"])
def test_an_overchosen_rank_is_flagged_and_nothing_else(method: str) -> None:
    values = signal(SLOW, 1500, 19, noise=0.01, seed=1)
    found = spectrum(values, rank=12, center="none", method=method)
    assert len(found.eigenvalues) == 7
    assert worst(found.eigenvalues, SLOW) < 1e-3
    assert found.residuals.max() < 0.01
    assert len(found.rejected) == 5
    assert found.operator.residuals[~found.trusted].min() > 0.15
    every = spectrum(values, rank=12, center="none", method=method, residual_limit=None)
    assert len(every.eigenvalues) == 12


def test_the_rank_is_chosen_from_the_noise() -> None:
    values = signal(SLOW, 1500, 19, noise=0.01)
    assert 7 <= spectrum(values, rank=None, center="none").operator.rank <= 12
    assert spectrum(signal(SLOW, 300, 19), rank=None, center="none").operator.rank == 7


def test_white_noise_has_no_trusted_eigenvalue() -> None:
    found = spectrum(np.random.default_rng(0).normal(size=(500, 6)), center="none")
    assert len(found.eigenvalues) == 0
    assert len(found.rejected) == 10
