"""The synthetic systems whose eigenvalues are known, by every method."""

import numpy as np
import pytest
from linear_systems import SLOW, oscillation, signal, worst

from mechgrok.maths.dmd import METHODS, fit_operator, refine, snapshot_pairs

CLEAN = 1e-9


def eigenvalues(
    values: np.ndarray, rank: int, n_delays: int = 8, method: str = "pcr"
) -> np.ndarray:
    return fit_operator(*snapshot_pairs([values], n_delays), rank, method).eigenvalues


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "true",
    [
        np.array([0.99, 0.9, 0.5]),
        0.97 * np.exp([0.3j, -0.3j]),
        np.array([0.999, 0.9985]),
        SLOW,
        np.array([1.002, 0.99]),
        np.array([0.95, -0.9]),
    ],
    ids=["decay", "rotation", "near-degenerate", "slow", "growth", "alternating"],
)
def test_sums_of_exponentials(true: np.ndarray, method: str) -> None:
    steps = 1500 if true is SLOW else 300
    assert worst(eigenvalues(signal(true, steps, 7), len(true), method=method), true) < CLEAN


@pytest.mark.parametrize("method", METHODS)
def test_one_feature_shows_all_its_exponentials_through_delays(method: str) -> None:
    true = np.array([1, 0.9, *(0.8 * np.exp([1j, -1j]))])
    values = signal(true, 200, 1)
    assert worst(eigenvalues(values, 4, n_delays=12, method=method), true) < CLEAN
    with pytest.raises(ValueError, match=r"rank=4, expected 1\.\.1"):
        eigenvalues(values, 4, n_delays=1, method=method)


def iterate(matrix: np.ndarray, start: np.ndarray, steps: int) -> np.ndarray:
    states = [start]
    for _ in range(steps - 1):
        states.append(matrix @ states[-1])
    return np.stack(states)


def test_gradient_descent_on_a_quadratic() -> None:
    curvatures, lr = np.array([0.1, 1.0, 4.0]), 0.1
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    step = np.eye(3) - lr * turn @ np.diag(curvatures) @ turn.T
    assert worst(eigenvalues(iterate(step, np.ones(3), 200), 3), 1 - lr * curvatures) < CLEAN


def test_heavy_ball_has_the_roots_of_its_polynomial() -> None:
    lr, beta, curvatures = 0.05, 0.9, np.array([0.01, 3.0])
    x, before, path = np.ones(2), np.ones(2), []
    for _ in range(300):
        path.append(x)
        x, before = x - lr * curvatures * x + beta * (x - before), x
    roots = np.concatenate([np.roots([1, -(1 + beta - lr * h), beta]) for h in curvatures])
    assert np.abs(roots.imag).max() > 0.1
    assert worst(eigenvalues(np.stack(path), 4), roots) < CLEAN


def test_pure_weight_decay() -> None:
    weights = np.random.default_rng(0).normal(size=20) * (1 - 1e-3) ** np.arange(0, 400, 2)[:, None]
    assert abs(eigenvalues(weights, 1)[0] - 0.998001) < 1e-12


def test_a_jordan_block_is_found_to_the_root_of_rounding() -> None:
    block = np.array([[0.9, 1.0], [0.0, 0.9]])
    found = eigenvalues(iterate(block, np.ones(2), 100), 2, n_delays=1)
    assert worst(found, np.array([0.9, 0.9])) < 1e-6
    assert worst(found, np.array([0.9, 0.9])) > 0


def test_process_noise_does_not_bias_and_measurement_noise_does() -> None:
    generator = np.random.default_rng(0)
    x, driven = np.zeros(2), []
    matrix = np.array([[0.9, 0.2], [0.0, 0.7]])
    for _ in range(20_000):
        x = matrix @ x + generator.normal(size=2)
        driven.append(x)
    true, values = np.array([0.9, 0.7]), np.stack(driven)
    assert worst(eigenvalues(values, 2, n_delays=1), true) < 0.02
    noisy = values[:, 1:] + generator.normal(size=(20_000, 1)) * values[:, 1].std()
    # errors in variables: signal / (signal + noise) = 1/2 of the true eigenvalue
    assert eigenvalues(noisy, 1, n_delays=1)[0].real == pytest.approx(0.35, abs=0.02)


def test_quantiles_of_a_shrinking_population_are_linear_only_without_flips() -> None:
    shares = np.random.default_rng(0).normal(size=100)
    levels = np.linspace(0.05, 0.95, 19)
    for factor, true in ((0.98, np.array([1, 0.98])), (-0.98, np.array([1, -0.98]))):
        population = 3 + factor ** np.arange(200.0)[:, None] * shares
        found = eigenvalues(np.quantile(population, levels, axis=1).T, 2)
        assert (worst(found, true) < CLEAN) == (factor > 0)


def test_mirror_and_gradient_descent_are_conjugate() -> None:
    # Redman et al. 2023: mirror descent in x is gradient descent in u with x = u^2 / 4, up to order
    # lr^2 (Amid & Warmuth 2020), so that their eigenvalues at the optimum agree.
    lr, target, x, u, paths = 0.01, 2.0, 0.5, np.sqrt(2.0), [[], []]
    for _ in range(800):
        paths[0].append(x)
        paths[1].append(u)
        x = x * np.exp(-lr * (x - target))
        u = u - lr * (u**2 / 4 - target) * u / 2
    tails = [np.array(path)[500:] - limit for path, limit in zip(paths, (2, 8**0.5), strict=True)]
    found = [eigenvalues(tail[:, None], 1, n_delays=4)[0].real for tail in tails]
    assert found[0] == pytest.approx(1 - lr * target, abs=1e-5)
    assert found[1] == pytest.approx(found[0], abs=1e-5)
    widths = 0.5 ** np.arange(50.0)  # bisection halves its interval, whatever the problem
    assert eigenvalues(widths[:, None], 1, n_delays=4)[0].real == pytest.approx(0.5)


@pytest.mark.parametrize("method", METHODS)
def test_spectra_are_real_or_in_exact_pairs_whatever_the_rank(method: str) -> None:
    values = signal(SLOW, 300, noise=0.05)
    for rank in range(1, 12):
        found = fit_operator(*snapshot_pairs([values], 8), rank, method)
        lower = np.flatnonzero(found.eigenvalues.imag < 0)
        assert (found.eigenvalues[lower] == found.eigenvalues[lower - 1].conj()).all()
        assert (found.residuals[lower] == found.residuals[lower - 1]).all()
        assert len(lower) == (found.eigenvalues.imag > 0).sum()
        assert (np.diff(np.abs(found.eigenvalues)) <= 0).all()


def test_the_cut_shows_when_it_parts_equal_directions() -> None:
    Z, Zp = snapshot_pairs([oscillation(2000)], 8)
    assert fit_operator(Z, Zp, 1, "pcr").cut > 0.99
    assert fit_operator(Z, Zp, 2, "pcr").cut < 1e-10


@pytest.mark.parametrize("method", METHODS)
def test_modes_are_eigenvectors_and_predict(method: str) -> None:
    values = signal(SLOW, 400)
    Z, Zp = snapshot_pairs([values], 8)
    found = fit_operator(Z, Zp, 7, method)
    assert np.abs(found.predict(Z[:, :1], 50)[:, 0] - Z[:, 50]).max() < 1e-8
    assert np.allclose(np.linalg.norm(found.modes, axis=0), 1)
    # a sum of modes, each turning by its eigenvalue
    later = found.modes @ (found.eigenvalues[:, None] ** 50 * found.amplitudes(Z[:, :1]))
    assert np.abs(later[:, 0] - Z[:, 50]).max() < 1e-7
    assert found.residuals.max() < 1e-8


def test_exact_modes_leave_the_basis() -> None:
    Z, Zp = snapshot_pairs([signal(SLOW, 300, noise=0.1)], 8)
    exact, pcr = fit_operator(Z, Zp, 5, "exact"), fit_operator(Z, Zp, 5, "pcr")
    assert (exact.eigenvalues == pcr.eigenvalues).all()
    assert pcr.basis @ (pcr.basis.T @ pcr.modes) == pytest.approx(pcr.modes)
    assert exact.basis @ (exact.basis.T @ exact.modes) != pytest.approx(exact.modes)
    # Tu et al. 2014, definition 1: eigenvectors of Z' V S^-1 U^T itself
    U, s, vh = np.linalg.svd(Z, full_matrices=False)
    image = Zp @ vh[:5].T / s[:5] @ (U[:, :5].T @ exact.modes)
    assert np.abs(image - exact.eigenvalues * exact.modes).max() < 1e-12


def test_residual_is_the_error_of_the_full_operator() -> None:
    Z, Zp = snapshot_pairs([signal(SLOW, 300, noise=0.1)], 8)
    found = fit_operator(Z, Zp, 5, "pcr")
    U, s, vh = np.linalg.svd(Z, full_matrices=False)
    image = Zp @ vh[:5].T / s[:5]
    direct = image @ found.vectors - found.eigenvalues * (U[:, :5] @ found.vectors)
    assert np.abs(np.linalg.norm(direct, axis=0) - found.residuals).max() < 1e-12


def test_refined_vectors_have_smaller_residuals() -> None:
    Z, Zp = snapshot_pairs([signal(SLOW, 1500, 19, noise=0.01)], 32)
    found = fit_operator(Z, Zp, 12, "rayleigh")
    refined = refine(found)
    assert (refined.residuals <= found.residuals + 1e-12).all()
    assert (refined.residuals < 0.9 * found.residuals).any()
    assert np.allclose(np.linalg.norm(refined.vectors, axis=0), 1)
    direct = found.image @ refined.vectors
    direct[:12] -= found.eigenvalues * refined.vectors
    assert np.abs(np.linalg.norm(direct, axis=0) - refined.residuals).max() < 1e-12
    assert worst(refined.eigenvalues, SLOW) < 1e-3


def test_bad_fits_are_refused() -> None:
    Z, Zp = snapshot_pairs([signal(SLOW, 100)], 8)
    with pytest.raises(
        ValueError, match=r"rank=8, expected 1\.\.7: the 92 pairs hold 7 directions"
    ):
        fit_operator(Z, Zp, 8)
    assert fit_operator(Z, Zp, 8, at_most=True).rank == 7
    with pytest.raises(ValueError, match="rank=0"):
        fit_operator(Z, Zp, 0)
    with pytest.raises(ValueError, match="expected one of pcr, exact, rrr, rayleigh"):
        fit_operator(Z, Zp, 3, "dmd")
    with pytest.raises(ValueError, match="as many states"):
        fit_operator(Z[:, :0], Zp[:, :0], 1)
    with pytest.raises(ValueError, match="ridge=-1"):
        fit_operator(Z, Zp, 3, "rrr", ridge=-1.0)
    with pytest.raises(ValueError, match="only rrr does"):
        fit_operator(Z, Zp, 3, "pcr", ridge=1e-3)
    with pytest.raises(ValueError, match="coordinates=2"):
        fit_operator(Z, Zp, 3, "rrr", coordinates=2)
    with pytest.raises(ValueError, match="not finite"):
        fit_operator(Z * np.inf, Zp, 3)
