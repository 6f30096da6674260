"""One call from an array to rates; windows; poles; what is refused."""

import dataclasses

import numpy as np
import pytest
import torch
from linear_systems import SLOW, signal, worst

from mechgrok.maths.dmd import (
    compress,
    effective_rank,
    half_lives,
    rates,
    reference_poles,
    spectrum,
    windowed,
)


def test_three_lines() -> None:
    array = signal(SLOW, 600, 19, noise=1e-4)
    found = spectrum(array, n_delays=32, rank=7, record_every=2)
    assert worst(found.eigenvalues, SLOW) < 1e-3
    assert found.center == "affine"
    assert found.operator.method == "rayleigh"
    assert found.residuals.max() < 0.01
    assert found.modes.shape == (7, 32, 19)
    assert found.amplitudes.shape == (7, 1)
    assert len(found.singular_values) == 600 - 32
    assert found.one_step_residual < 1e-3
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.center = "none"


def test_modes_and_amplitudes_rebuild_each_run() -> None:
    runs = [signal(SLOW, 300, 8), 2 * signal(SLOW, 200, 8)]
    found = spectrum(runs, 4, 8, "affine")  # the offset and the constant differ between runs
    for i, run in enumerate(runs):
        turned = found.eigenvalues[:, None] ** np.arange(100) * found.amplitudes[:, i : i + 1]
        rebuilt = np.einsum("nf,nt->tf", found.modes[:, 0], turned)
        assert np.abs(rebuilt - run[:100]).max() < 1e-8


def test_energies_are_shares_of_each_run() -> None:
    one = np.outer(0.9 ** np.arange(60), np.ones(3))
    assert spectrum(one, 4, 1, "none").energies == pytest.approx(np.ones((1, 1)))
    # two features that do not mix: 3^2 sum 0.9^2t against 1 sum 0.5^2t, without delays
    t = np.arange(60)
    apart = np.column_stack([3 * 0.9**t, 0.5**t])
    whole = 9 / (1 - 0.81) + 1 / (1 - 0.25)
    expected = np.array([9 / (1 - 0.81), 1 / (1 - 0.25)]) / whole
    found = spectrum([apart, 7 * apart], 1, 2, "none").energies
    assert found == pytest.approx(np.column_stack([expected, expected]), rel=1e-4)


def test_lists_tensors_and_runs_are_the_same() -> None:
    array = signal(SLOW, 200, 5, noise=0.01)
    one = spectrum(array, 8, 5).eigenvalues
    assert (spectrum(array.tolist(), 8, 5).eigenvalues == one).all()
    assert (spectrum(torch.tensor(array), 8, 5).eigenvalues == one).all()
    assert np.allclose(spectrum(np.stack([array, array]), 8, 5).eigenvalues, one)


def test_rates_are_per_training_step() -> None:
    decay = np.exp(-0.01 * np.arange(0, 400, 2))[:, None]
    found = spectrum(decay, 4, 1, "none", steps=np.arange(0, 400, 2))
    assert found.record_every == 2
    assert found.rates()[0] == pytest.approx(-0.01)
    assert found.half_lives()[0] == pytest.approx(np.log(2) / 0.01)
    turn = 0.9 * np.exp([0.3j, -0.3j])
    assert np.allclose(rates(turn, 3), [np.log(0.9) / 3 + 0.1j, np.log(0.9) / 3 - 0.1j])


def test_half_lives_at_the_edges() -> None:
    found = half_lives(np.array([1, -1, 0, 2, 0.5], dtype=complex), 10)
    assert found.tolist() == [np.inf, np.inf, 0, -10, 10]
    assert rates(np.array([0j]), 1)[0] == complex(-np.inf, 0)
    with pytest.raises(ValueError, match="record_every=0"):
        rates(SLOW, 0)


def test_reference_poles() -> None:
    found = reference_poles(2, lr=1e-3, weight_decay=2.0, betas=(0.9, 0.98))
    expected = {"weight decay": 0.996004, "Adam beta1": 0.81, "Adam beta2": 0.9604}
    assert found == pytest.approx(expected)


def test_windows_see_a_change_of_dynamics() -> None:
    first = signal(np.array([1, 0.99, 0.95]), 400, 6, seed=0)
    values = np.concatenate([first, signal(SLOW, 400, 6, seed=1) - 3])
    found = windowed(values, 100, 20, 4, 7, "none", "pcr")
    assert found.first.tolist() == list(range(0, 701, 20))
    assert (found.last == found.first + 99).all()
    across = (found.first < 400) & (found.last >= 400)
    assert found.residuals[across].min() > 100 * found.residuals[~across].max()
    assert found.leading[found.last < 400] == pytest.approx(1, abs=1e-6)
    assert (found.ranks[found.last < 400] == 3).all()
    assert (found.ranks[found.first >= 400] == 7).all()
    assert np.allclose(found.residuals, found.absolute / found.norms)
    whole = spectrum(values, 4, 7, "none", "pcr")
    assert (whole.windowed(100, 20).residuals == found.residuals).all()


def test_the_residual_of_noise_is_its_share() -> None:
    # Measured with other code at 1 % noise and rank 10: 5.5e-3, 6.5e-3 and 7.6e-3.
    values = signal(SLOW, 1500, 19, noise=0.01)
    for window, expected in ((125, 5.5e-3), (250, 6.5e-3), (500, 7.6e-3)):
        found = windowed(values, window, 500, 32, 10, "none", "pcr")
        assert expected / 3 < np.median(found.residuals) < 3 * expected


def test_a_recorded_noise_keeps_a_dead_signal_from_blowing_up() -> None:
    generator = np.random.default_rng(0)
    values = 0.9 ** np.arange(400)[:, None] * np.ones(4) + 1e-6 * generator.normal(size=(400, 4))
    bare = windowed(values, 100, 100, 8, 2, "none", "pcr")
    known = windowed(values, 100, 100, 8, 2, "none", "pcr", noise=1e-5)
    assert bare.residuals[-1] > 0.5
    assert known.residuals[-1] < 0.15
    assert (bare.absolute == known.absolute).all()
    assert known.floor == pytest.approx(1e-5 * np.sqrt(8 * 4 * 92))


def test_effective_rank() -> None:
    assert effective_rank(np.array([1.0, 0.0, 0.0])) == 1
    assert effective_rank(np.ones(10), energy=0.75) == 8
    assert effective_rank(np.array([3.0, 1.0]), energy=0.9) == 1
    assert effective_rank(np.array([3.0, 1.0]), energy=0.91) == 2


def test_compression_keeps_the_spectrum() -> None:
    runs = [signal(SLOW, 300, 60), -signal(SLOW, 300, 60)]
    small, directions = compress(runs, 7)
    assert [run.shape for run in small] == [(300, 7)] * 2
    assert np.abs(small[0] @ directions - runs[0]).max() < 1e-10
    assert worst(spectrum(small, 4, 7, "none").eigenvalues, SLOW) < 1e-8
    with pytest.raises(ValueError, match=r"components=61, expected 1\.\.60"):
        compress(runs, 61)


def test_what_cannot_be_analysed_is_refused() -> None:
    array = signal(SLOW, 100, 6)
    with pytest.raises(ValueError, match="33 snapshots, expected at least n_delays"):
        spectrum(array[:33])
    with pytest.raises(ValueError, match="constant"):
        spectrum(np.ones((100, 6)))
    with pytest.raises(ValueError, match="not finite"):
        spectrum(np.where(array > array.max() - 1e-9, np.nan, array))
    with pytest.raises(ValueError, match=r"rank=10, expected 1\.\.7"):
        spectrum(array, 8)
    with pytest.raises(ValueError, match="gap of 3 after step 98"):
        spectrum(array, 8, 5, steps=[*range(99), 101])
    with pytest.raises(ValueError, match="steps for .99. rows"):
        spectrum(array, 8, 5, steps=range(99))
    with pytest.raises(ValueError, match=r"strides of \[1, 2\]"):
        spectrum(array, 8, 5, steps=range(100), record_every=2)
    with pytest.raises(ValueError, match=r"strides of \[1, 2\]"):
        spectrum([array, array], 8, 5, steps=[range(100), range(0, 200, 2)])
    assert spectrum([array, array], 8, 5, steps=[range(100)] * 2).record_every == 1
    with pytest.raises(ValueError, match="windows of 101 every 5 of 100"):
        windowed(array, 101, 5, 4, 3)
    with pytest.raises(ValueError, match="9 snapshots, expected at least n_delays"):
        windowed(array, 9, 5, 8, 3)
    with pytest.raises(ValueError, match="snapshots 20..39 are constant"):
        windowed(np.concatenate([array[:20], np.ones((80, 6))]), 20, 20, 4, 3)
