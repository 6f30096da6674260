"""Delays, pairs without seams, and what cannot be embedded."""

import numpy as np
import pytest
import torch
from linear_systems import SLOW, signal, worst

from mechgrok.maths.dmd import (
    fit_operator,
    hankel,
    hankel_gram,
    snapshot_pairs,
    trajectories,
    uniform_stride,
)


def test_n_delays_counts_blocks() -> None:
    values = np.arange(10.0).reshape(5, 2)
    found = hankel(values, 3)
    assert found.tolist() == [[0, 2, 4], [1, 3, 5], [2, 4, 6], [3, 5, 7], [4, 6, 8], [5, 7, 9]]
    assert (hankel(values, 1) == values.T).all()
    assert hankel(signal(SLOW, 3000, 19), 32).shape == (608, 2969)


def test_pairs_are_one_snapshot_apart() -> None:
    Z, Zp = snapshot_pairs([np.arange(6.0)[:, None]], 2)
    assert Z.tolist() == [[0, 1, 2, 3], [1, 2, 3, 4]]
    assert (Zp == Z + 1).all()


def test_no_pair_straddles_two_runs() -> None:
    rows = np.random.default_rng(0).normal(size=(3, 6))
    runs = [signal(SLOW, 200) * scale for scale in rows]  # one operator per feature, three starts
    alone = [snapshot_pairs([run], 8) for run in runs]
    Z, Zp = snapshot_pairs(runs, 8)
    assert Z.shape == (48, 3 * 192)
    # the normal equations are the sum of the runs' own
    assert np.abs(Z @ Z.T - sum(a @ a.T for a, _ in alone)).max() < 1e-12 * np.abs(Z @ Z.T).max()
    assert np.abs(Zp @ Z.T - sum(b @ a.T for a, b in alone)).max() < 1e-12 * np.abs(Z @ Z.T).max()


@pytest.mark.parametrize("method", ["pcr", "rrr", "rayleigh"])
def test_seams_do_not_change_eigenvalues(method: str) -> None:
    true = np.array([0.99, 0.95, 0.9])
    flow = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    flow = flow @ np.diag(true) @ flow.T
    starts = np.random.default_rng(2).normal(size=(4, 3))
    runs = [np.stack([np.linalg.matrix_power(flow, t) @ x for t in range(60)]) for x in starts]
    assert worst(fit_operator(*snapshot_pairs(runs, 5), 3, method).eigenvalues, true) < 1e-9
    glued = fit_operator(*snapshot_pairs([np.concatenate(runs)], 5), 3, method)
    assert worst(glued.eigenvalues, true) > 1e-3


def test_hankel_gram_is_a_sum_along_diagonals() -> None:
    values = signal(SLOW, 120, 19, noise=0.1)
    H = hankel(values, 32)
    direct = H.T @ H
    assert np.abs(hankel_gram(values, 32) - direct).max() < 1e-12 * np.abs(direct).max()
    with pytest.raises(ValueError, match="n_delays=121 and 120 snapshots"):
        hankel_gram(values, 121)


def test_what_counts_as_runs() -> None:
    one = np.arange(4.0)
    assert [run.shape for run in trajectories(one)] == [(4, 1)]
    assert [run.shape for run in trajectories(np.ones((2, 4, 3)).cumsum(axis=1))] == [(4, 3)] * 2
    assert [run.shape for run in trajectories([one, torch.arange(5)])] == [(4, 1), (5, 1)]
    assert [run.shape for run in trajectories([[1, 2], [3, 4]])] == [(2, 2)]
    assert trajectories(torch.arange(3.0))[0].dtype == np.float64


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array([[1.0], [np.nan], [2.0]]), "run 0 has 1 values that are not finite.* row 1"),
        ([np.arange(3.0), np.array([1.0, np.inf])], "run 1 has 1 values"),
        (np.full((5, 2), 0.3), "run 0 is constant"),
        (np.zeros((5, 2)), "run 0 is constant"),
        (np.arange(3) * 1j, "complex128"),
        (np.array(["a"]), "type <U1"),
        (np.zeros((2, 2, 2, 2)), r"shape \(2, 2, 2, 2\)"),
        (np.zeros((0, 3)), r"shape \(0, 3\)"),
        ([np.eye(3), np.eye(4)], r"runs of \[3, 4\] features"),
    ],
)
def test_data_without_dynamics_are_refused(values: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        trajectories(values)


def test_short_runs_are_refused() -> None:
    with pytest.raises(ValueError, match="run 1 has 9 snapshots, expected at least n_delays"):
        snapshot_pairs([np.eye(10), np.eye(9, 10)], 8)
    with pytest.raises(ValueError, match="n_delays=0"):
        snapshot_pairs([np.eye(10)], 0)
    with pytest.raises(ValueError, match="n_delays=11 blocks and 10 snapshots"):
        hankel(np.eye(10), 11)


def test_uneven_steps_are_refused() -> None:
    assert uniform_stride([20, 22, 24]) == 2
    with pytest.raises(ValueError, match="gap of 6 after step 4 where the others are 2"):
        uniform_stride([0, 2, 4, 10, 12])
    with pytest.raises(ValueError, match="two or more that increase"):
        uniform_stride([5])
    with pytest.raises(ValueError, match="two or more that increase"):
        uniform_stride([5, 4])
    with pytest.raises(ValueError, match="whole training steps"):
        uniform_stride(np.array([0.0, 0.5, 1.0]))
