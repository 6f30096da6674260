"""Moments, growth, spreads and tests of the two studies of fingerprints on cases worked by hand."""

import argparse
from pathlib import Path
from typing import Any

import _divergence
import _fingerprint_spectra
import _study
import fingerprint_study
import numpy as np
import perturbation_study
import pytest
from _divergence import Distance
from _moments import onset_of, summary

from mechgrok.maths import dmd
from mechgrok.runs.fingerprints import Fingerprints
from mechgrok.runs.storage import RunError


def curve(rise: int, plateau: float = 0.3) -> list[dict[str, float]]:
    """Test accuracy on a plateau until a step, then 15 points higher."""
    return [
        {"step": step, "test_acc": plateau + (0.15 if step >= rise else 0)}
        for step in range(0, 3001, 50)
    ]


def test_onset_is_the_first_sustained_rise_above_the_plateau() -> None:
    assert onset_of(curve(2000), 700) == (0.3, 2000)
    assert onset_of(curve(5000), 700) == (0.3, None)
    assert onset_of(curve(2000), None) == (None, None)


def test_one_high_evaluation_is_no_onset() -> None:
    rows = curve(2000)
    rows[30]["test_acc"] = 0.9
    assert onset_of(rows, 700) == (0.3, 2000)


def test_a_censored_run_is_counted_and_not_averaged() -> None:
    found = summary([1000, None, 2000], [3000, 6000, 3000])
    assert (found["mean"], found["censored"], found["censored_at"]) == (1500.0, 1, [6000])


def grown(rate: float, scale: float = 1e-3) -> Distance:
    steps = np.arange(0, 2000, 20)
    return Distance(steps, np.minimum(scale * np.exp(rate * steps), 1.3))


@pytest.mark.parametrize("rate", [0.005, 0.02])
@pytest.mark.parametrize("scale", [1e-5, 1e-3])
def test_growth_is_read_off_before_it_saturates(rate: float, scale: float) -> None:
    found = _divergence.growth(grown(rate, scale))
    assert found["rate"] == pytest.approx(rate)
    assert found["doubling"] == pytest.approx(np.log(2) / rate)
    assert scale * np.exp(rate * found["saturated_at"]) > _divergence.SATURATED


def test_too_few_points_have_no_growth_rate() -> None:
    found = _divergence.growth(grown(0.2))
    assert found["rate"] is None
    assert "expected 4" in found["note"]


def test_spread_over_perturbations_against_seeds() -> None:
    near, far = [3000, 3050, 2950, 3000, 3050], [2000, 4000, 3000, 2500, 3500]
    assert _divergence.spread(near, far)["ratio"] < 0.1
    assert _divergence.spread(near, far)["p"] < 0.05
    assert _divergence.spread(far, far)["ratio"] == 1
    assert "censored: 1 perturbed" in _divergence.spread([3000, None], far)["note"]


def line(*places: float) -> np.ndarray:
    """Distances of points on a line."""
    return np.abs(np.subtract.outer(places, places))


def test_pairs_are_resampled_by_runs() -> None:
    found = _divergence.mean_of_pairs(line(0, 1, 2, 3, 4), range(5))
    assert (found["mean"], found["pairs"]) == (2.0, 10)
    low, high = found["interval"]
    assert low < 2 < high
    assert _divergence.mean_of_pairs(line(0, 1, 2), range(3))["interval"] is None
    same = _divergence.mean_of_pairs(1 - np.eye(6), range(6))
    assert same["interval"] == [1, 1]  # no run is at distance 0 from a copy of itself


def test_a_tighter_group_has_the_smaller_mean() -> None:
    matrix = line(0, 0.01, 0.02, 0.03, 0.04, 10, 11, 12, 13, 14)
    found = _divergence.difference_of_pairs(matrix, range(5), range(5, 10))
    assert found["difference"] == pytest.approx(0.02 - 2)
    assert found["interval"][1] < 0


def spectra(pole: float, shift: float = 0.0) -> list[np.ndarray]:
    """Five runs that share slow modes, and have a pole of decay."""
    chance = np.random.default_rng(int(1e6 * pole))
    return [
        np.array([1, 0.99 + shift, 0.95, pole]) + 1e-5 * chance.standard_normal(4) + 0j
        for _ in range(5)
    ]


def test_decays_that_differ_by_their_own_pole_only_do_not_without_it() -> None:
    poles = [0.999**2] * 5 + [0.998**2] * 5
    both = spectra(poles[0]) + spectra(poles[-1])
    ps = {}
    for name in ("eigenvalues", "without decay's pole"):
        found = _fingerprint_spectra.in_coordinates(both, [1.0] * 5 + [2.0] * 5, poles, name)
        ps[name] = _fingerprint_spectra.separation(found, range(5), dmd.wasserstein)["p"]
    assert ps["eigenvalues"] == pytest.approx(2 / 252)
    assert ps["without decay's pole"] > 0.05


def test_time_counted_in_decays_makes_their_poles_equal() -> None:
    poles = [0.999**2, 0.998**2]
    values = [np.array([pole + 0j]) for pole in poles]
    found = _fingerprint_spectra.in_coordinates(values, [1.0, 2.0], poles, "per unit of decay")
    # (1 - 2e-3)^2 is (1 - 1e-3)^4 up to lr^2
    assert abs(found[0][0] - found[1][0]) == pytest.approx(0, abs=2e-6)


def recorded(rate: float, seed: int) -> Fingerprints:
    """Probes whose log-probabilities relax at a rate per snapshot."""
    chance = np.random.default_rng(seed)
    start = -1 - chance.random(20)
    steps = np.arange(200)
    values = start * rate ** steps[:, None] - 0.1
    values = values + 1e-4 * chance.standard_normal(values.shape)
    both = {name: values for name in _fingerprint_spectra.OBSERVABLES}
    return Fingerprints(2 * steps, both, np.arange(20), ("train",) * 20, 2)


def test_a_known_rate_is_found_and_tells_groups_apart() -> None:
    settings = _fingerprint_spectra.Settings(4, 2, 60, 20, 20, 5, (2, 3), (4, 8))
    prints = [recorded(rate, seed) for rate in (0.98, 0.95) for seed in range(5)]
    decays = [1.0] * 5 + [2.0] * 5
    found = _fingerprint_spectra.observe("answer_log_prob", prints, decays, 1e-3, 398, settings)
    for spectrum, rate in zip(found.spectra, [0.98] * 5 + [0.95] * 5, strict=True):
        assert np.abs(spectrum.eigenvalues - rate).min() < 2e-3
        assert np.abs(spectrum.eigenvalues - 1).min() < 1e-3
    rows = _fingerprint_spectra.compared(found, 1.0, 2.0)
    assert rows[0]["p"] == pytest.approx(2 / 252)
    assert rows[0]["between"] > rows[0]["within"]
    again = prints[:5] + [recorded(0.98, seed) for seed in range(5, 10)]
    same = _fingerprint_spectra.observe("answer_log_prob", again, decays, 1e-3, 398, settings)
    assert _fingerprint_spectra.compared(same, 1.0, 2.0)[0]["p"] > 0.05


STUDIES: dict[str, tuple[Any, dict[str, Any], int]] = {
    "batch": (fingerprint_study, {"grid": "batch"}, 10),
    "full": (fingerprint_study, {"grid": "full"}, 30),
    "run": (perturbation_study, {"grid": ["size", "quick"]}, 16),
    "published": (perturbation_study, {"grid": ["published"]}, 22),
}


@pytest.mark.parametrize("name", STUDIES)
def test_the_grids_are_those_announced(name: str, tmp_path: Path) -> None:
    study, chosen, n = STUDIES[name]
    plans = study.plans(argparse.Namespace(small=False, **chosen))
    jobs = [job for one in plans for job in one.jobs(tmp_path)]
    assert len({job.name for job in jobs}) == n
    assert all(job.config.record.fingerprint.every == 2 for job in jobs)
    assert {job.config.seeds.probe for job in jobs if "spectral" in job.name} == {42}
    slow = [job for job in jobs if job.config.optim.weight_decay == 0]
    assert all(job.config.stop.max_steps == 10_000 for job in slow)
    assert all(job.config.stop.after_generalised is None for job in slow)


def test_a_report_of_runs_that_are_not_there_says_what_to_do(tmp_path: Path) -> None:
    asked = argparse.Namespace(small=False, grid="batch", runs=tmp_path, report_only=True)
    with pytest.raises(RunError, match="lacks 10 of 10 runs.*without --report-only"):
        _study.trained(fingerprint_study.plans(asked), asked)
