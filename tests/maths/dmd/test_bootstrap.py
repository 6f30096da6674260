"""Resampled spectra: pairs stay pairs, intervals hold the truth."""

import numpy as np
import pytest
from linear_systems import SLOW, signal

from mechgrok.maths.dmd import (
    METHODS,
    bootstrap,
    fit_operator,
    moving_blocks,
    snapshot_pairs,
    spectrum,
    whole_runs,
)
from mechgrok.maths.dmd.bootstrap import matched


def driven(steps: int, seed: int) -> np.ndarray:
    """A noise-driven system with eigenvalues 0.95 and 0.8 e^{+-0.5i}."""
    generator = np.random.default_rng(seed)
    matrix = np.zeros((3, 3))
    matrix[0, 0] = 0.95
    matrix[1:, 1:] = 0.8 * np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
    states = [np.zeros(3)]
    for _ in range(steps):
        states.append(matrix @ states[-1] + generator.normal(size=3))
    return np.stack(states)


TRUE = np.array([0.95, 0.8, 0.8])


@pytest.mark.parametrize("method", METHODS)
def test_all_pairs_once_gives_the_operator_back(method: str) -> None:
    Z, Zp = snapshot_pairs([signal(SLOW, 300, noise=0.05)], 8)
    found = fit_operator(Z, Zp, 5, method)
    same = bootstrap(
        Z, Zp, found, lambda _: np.arange(Z.shape[1]), np.random.default_rng(0), resamples=1
    )
    assert np.abs(same.draws[0] - found.eigenvalues).max() < 1e-9


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    held = []
    for seed in range(40):
        found = spectrum(driven(400, seed), 1, 3, "none", "pcr", residual_limit=None)
        draws = found.bootstrap(np.random.default_rng(seed), resamples=100)
        low, high = draws.interval().T
        held.append((low <= TRUE) & (high >= TRUE))
    share = np.mean(held, axis=0)
    assert ((share > 0.8) & (share <= 1)).all()


def test_both_of_a_pair_are_conjugate_in_every_draw() -> None:
    found = spectrum(signal(SLOW, 400, noise=0.2), 8, 7, "none", residual_limit=None)
    again = found.bootstrap(np.random.default_rng(0))
    assert again.draws.shape == (200, 7)
    lower = np.flatnonzero(again.eigenvalues.imag < 0)
    assert len(lower)
    assert (again.draws[:, lower] == again.draws[:, lower - 1].conj()).all()
    assert (again.interval("modulus")[lower] == again.interval("modulus")[lower - 1]).all()
    assert np.allclose(again.interval("angle")[lower], -again.interval("angle")[lower - 1, ::-1])
    draws = [found.bootstrap(np.random.default_rng(0)).draws for _ in range(2)]
    assert (draws[0] == draws[1]).all()


def test_matching_folds_pairs() -> None:
    point = np.array([1, 0.8 + 0.2j, 0.8 - 0.2j, 0.5])
    moved = np.array([0.5, 0.79 - 0.21j, 0.79 + 0.21j, 0.99])
    assert np.allclose(matched(point, moved), [0.99, 0.79 + 0.21j, 0.79 - 0.21j, 0.5])
    # a pair that has become two real eigenvalues gets their mean, twice
    split = np.array([0.99 + 0j, 0.85, 0.75, 0.5])
    assert np.allclose(matched(point, split), [0.99, 0.8, 0.8, 0.5])


def test_blocks_stay_within_runs() -> None:
    draw = moving_blocks([100, 50], 20)
    columns = draw(np.random.default_rng(0))
    assert len(columns) == 150
    assert (columns[:100] < 100).all()
    assert (columns[100:] >= 100).all()
    steps = np.diff(columns)
    assert (np.flatnonzero(steps != 1) + 1).tolist() == [20, 40, 60, 80, 100, 120, 140]
    reached = np.unique(np.concatenate([draw(np.random.default_rng(s)) for s in range(200)]))
    assert (reached == np.arange(150)).all()
    with pytest.raises(ValueError, match=r"blocks of 51 pairs, expected 1\.\.50"):
        moving_blocks([100, 50], 51)


def test_a_run_of_less_than_two_blocks_has_no_interval() -> None:
    short = signal(SLOW, 5 * 8 - 1, noise=0.05)
    with pytest.raises(ValueError, match=r"31 pairs, expected two blocks .* = 16 .* n_delays=7"):
        spectrum(short, 8, 5).bootstrap(np.random.default_rng(0))
    draws = spectrum(short, 7, 5).bootstrap(np.random.default_rng(0))
    assert (np.ptp(draws.interval(), axis=1) > 0).all()


def test_whole_runs_are_drawn_from_five_runs_on() -> None:
    draw = whole_runs([10, 20, 30, 40, 50])
    columns = draw(np.random.default_rng(0))
    starts = columns[np.append(True, np.diff(columns) != 1)]
    assert set(starts) <= {0, 10, 30, 60, 100}
    with pytest.raises(ValueError, match="got 4 runs, expected at least 5"):
        whole_runs([10] * 4)


def test_runs_that_differ_are_wider_apart_than_blocks_within_them() -> None:
    t = np.arange(200)
    generator = np.random.default_rng(0)
    runs = [
        (0.98 + 0.005 * seed) ** t[:, None] + 1e-4 * generator.normal(size=(200, 3))
        for seed in range(5)
    ]
    found = spectrum(runs, 4, 1, "none", "pcr", residual_limit=None)
    within, over = (
        found.bootstrap(np.random.default_rng(0), over_runs=over).interval()
        for over in (False, True)
    )
    assert np.ptp(over[0]) > 3 * np.ptp(within[0])
    with pytest.raises(ValueError, match="level=95"):
        found.bootstrap(np.random.default_rng(0), 3).interval(level=95.0)
