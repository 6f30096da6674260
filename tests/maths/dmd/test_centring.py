"""Each centring acts, as predicted."""

import numpy as np
import pytest
from linear_systems import oscillation, signal, worst

from mechgrok.maths.dmd import CENTRINGS, centred, fit_operator, snapshot_pairs, spectrum

DECAYS = np.array([0.98, 0.9])
TURN = np.exp([0.2j, -0.2j])
OFFSET = np.array([3.0, 5.0])


def eigenvalues(values: np.ndarray, center: str, rank: int, n_delays: int = 4) -> np.ndarray:
    pairs = snapshot_pairs(centred([values], center), n_delays)
    return fit_operator(*pairs, rank, "pcr").eigenvalues


def test_temporal_mean_removes_what_an_oscillation_turns_about() -> None:
    angle = 2 * np.pi / 30
    turn = np.exp([1j * angle, -1j * angle])
    values = oscillation(300, angle) + OFFSET  # whole periods
    assert worst(eigenvalues(values, "none", 3), np.array([1, *turn])) < 1e-10
    found = eigenvalues(values, "temporal_mean", 2)
    assert worst(found, turn) < 1e-10
    with pytest.raises(ValueError, match=r"expected 1\.\.2"):
        eigenvalues(values, "temporal_mean", 3)


def test_temporal_mean_of_a_transient_keeps_the_eigenvalue_1() -> None:
    found = eigenvalues(signal(DECAYS), "temporal_mean", 3)
    assert worst(found, np.array([1, *DECAYS])) < 1e-9


def test_per_snapshot_mean_removes_location_and_keeps_shape() -> None:
    t = np.arange(300)[:, None]
    location, shape = 0.98**t * np.ones(3), 0.9**t * np.array([-1.0, 0.0, 1.0])
    assert worst(eigenvalues(location + shape, "none", 2), DECAYS) < 1e-10
    assert worst(eigenvalues(location + shape, "per_snapshot_mean", 1), DECAYS[1:]) < 1e-10


@pytest.mark.parametrize("center", ["relative_to_t0", "affine"])
def test_eigenvalue_1_is_added_to_decays(center: str) -> None:
    assert worst(eigenvalues(signal(DECAYS), "none", 2), DECAYS) < 1e-10
    found = eigenvalues(signal(DECAYS), center, 3)
    assert worst(found, np.array([1, *DECAYS])) < 1e-10


def test_affine_finds_an_offset_that_no_delay_shows() -> None:
    values = (2 + 0.9 ** np.arange(50))[:, None]
    assert abs(eigenvalues(values, "none", 1, n_delays=1)[0] - 0.9) > 0.05
    found = eigenvalues(values, "affine", 2, n_delays=1)
    assert worst(found, np.array([1, 0.9])) < 1e-10


def test_affine_adds_nothing_where_there_is_an_offset_and_ignores_units() -> None:
    values = oscillation(300) + OFFSET
    assert worst(eigenvalues(values, "affine", 3), np.array([1, *TURN])) < 1e-10
    with pytest.raises(ValueError, match=r"expected 1\.\.3"):
        eigenvalues(values, "affine", 4)
    noisy = signal(DECAYS, noise=0.1)
    for scale in (1e-6, 1e6):
        found = eigenvalues(noisy * scale, "affine", 5)
        assert np.abs(found - eigenvalues(noisy, "affine", 5)).max() < 1e-9


def test_all_centrings_differ_and_are_recorded() -> None:
    values = signal(DECAYS, noise=0.01) + 0.5
    found = {c: spectrum(values, 4, 3, c, residual_limit=None) for c in CENTRINGS}
    assert [s.center for s in found.values()] == list(CENTRINGS)
    spectra = [s.eigenvalues for s in found.values()]
    assert all(np.abs(a - b).max() > 1e-9 for i, a in enumerate(spectra) for b in spectra[:i])


def test_mean_and_constant_are_common_to_all_runs() -> None:
    runs = [signal(DECAYS), 3 * signal(DECAYS) + 1]
    means = [run - one for run, one in zip(runs, centred(runs, "temporal_mean"), strict=True)]
    assert np.allclose(means[0], np.concatenate(runs).mean(axis=0))
    assert np.allclose(means[1], means[0][0])
    assert len({float(one[0, -1]) for one in centred(runs, "affine")}) == 1
    assert all(not one[0].any() for one in centred(runs, "relative_to_t0"))


def test_bad_centrings_are_refused() -> None:
    with pytest.raises(ValueError, match="expected one of none, temporal_mean"):
        centred([np.eye(3)], "mean")
    with pytest.raises(ValueError, match="leaves nothing"):
        centred([np.arange(5.0)[:, None]], "per_snapshot_mean")
