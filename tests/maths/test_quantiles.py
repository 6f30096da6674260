"""Quantile fingerprints, and Wasserstein-2 between Gaussians in closed form."""

import numpy as np
import pytest
from scipy.stats import norm, wasserstein_distance

from mechgrok.maths.quantiles import (
    LEVELS,
    directions,
    fingerprint_distance,
    quantiles,
    sliced_quantiles,
)


def test_levels_are_the_published_ones() -> None:
    assert len(LEVELS) == 19
    assert np.allclose(LEVELS, np.arange(1, 20) / 20)


def test_quantiles_are_linear_interpolations() -> None:
    assert quantiles(np.array([0.0, 10.0]), (0, 0.25, 1)).tolist() == [0, 2.5, 10]
    values = np.random.default_rng(0).normal(size=(7, 100)).astype(np.float32)
    found = quantiles(values)
    assert found.shape == (7, 19)
    assert found.dtype == np.float64
    for row, one in zip(found, values.astype(np.float64), strict=True):
        assert (row == np.quantile(one, np.linspace(0.05, 0.95, 19))).all()
    assert (found == quantiles(values[:, ::-1])).all()


@pytest.mark.parametrize(("shift", "scale"), [(0.5, 1.0), (0.0, 1.7), (-2.0, 0.4)])
def test_distance_of_gaussians_is_the_closed_form(shift: float, scale: float) -> None:
    # W2^2 = (m1 - m2)^2 + (s1 - s2)^2 for N(m, s^2); a grid of levels holds a part of the second
    def exact(levels: np.ndarray) -> tuple[float, float]:
        z = norm.ppf(levels)
        part = np.square(z).mean()
        found = float(fingerprint_distance(z, shift + scale * z))
        return found, float(np.sqrt(shift**2 + part * (1 - scale) ** 2))

    published, fine = exact(np.array(LEVELS)), exact((np.arange(100_000) + 0.5) / 100_000)
    assert published[0] == pytest.approx(published[1])
    assert fine[0] == pytest.approx(np.sqrt(shift**2 + (1 - scale) ** 2), rel=1e-3)
    drawn = np.random.default_rng(0).normal(size=(2, 200_000)) * [[1], [scale]] + [[0], [shift]]
    assert fingerprint_distance(*quantiles(drawn)) == pytest.approx(published[1], abs=0.01)


def test_a_shift_is_as_far_in_wasserstein_1() -> None:
    values = np.random.default_rng(0).normal(size=100)
    found = fingerprint_distance(quantiles(values), quantiles(values + 0.3))
    assert found == pytest.approx(wasserstein_distance(values, values + 0.3))


def test_directions_are_unit_and_seeded() -> None:
    found = directions(500, 3, np.random.default_rng(42))
    assert np.allclose(np.linalg.norm(found, axis=1), 1)
    assert np.abs(found.T @ found / 500 - np.eye(3) / 3).max() < 0.05
    assert (found == directions(500, 3, np.random.default_rng(42))).all()
    with pytest.raises(ValueError, match="0 directions"):
        directions(0, 3, np.random.default_rng(0))


def test_slices_are_projection_major() -> None:
    states = np.random.default_rng(0).normal(size=(4, 30, 8))
    along = directions(5, 8, np.random.default_rng(1))
    found = sliced_quantiles(states, along)
    assert found.shape == (4, 95)
    for j in range(5):
        assert np.allclose(found[:, 19 * j : 19 * (j + 1)], quantiles(states @ along[j]))


def test_sliced_distance_of_a_shift_is_its_projected_size() -> None:
    states = np.random.default_rng(0).normal(size=(50, 8))
    along = directions(4000, 8, np.random.default_rng(1))
    shift = np.full(8, 0.5)
    found = fingerprint_distance(
        sliced_quantiles(states, along), sliced_quantiles(states + shift, along)
    )
    # E (u . v)^2 = |v|^2 / d for a random unit vector u
    assert found == pytest.approx(np.linalg.norm(shift) / np.sqrt(8), rel=0.03)


def test_bad_values_and_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="no probes"):
        quantiles(np.zeros((3, 0)))
    with pytest.raises(ValueError, match="1 values that are not finite"):
        quantiles(np.array([1.0, np.nan]))
    for levels in ((), (0.5, 0.5), (0.9, 0.1), (-0.1, 0.5), (0.5, 1.1)):
        with pytest.raises(ValueError, match="increasing numbers within 0..1"):
            quantiles(np.ones(3), levels)
