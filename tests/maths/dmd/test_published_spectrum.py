"""The published computation against a plain reading of it."""

import numpy as np
import pytest
from linear_systems import SLOW, oscillation, signal, worst
from published_spectra import published_eigenvalues

from mechgrok.maths.dmd import published_spectrum


@pytest.mark.parametrize(
    "values",
    [
        signal(SLOW, 600, 19, noise=0.01),
        signal(SLOW, 200, 3, noise=0.3, seed=4),
        np.random.default_rng(0).normal(size=(100, 5)).cumsum(axis=0),
        1e-7 * signal(SLOW, 300, 19),  # the absolute threshold cuts
        1e-9 * oscillation(300),  # so little that the threshold becomes relative
    ],
    ids=["noisy", "few features", "random walk", "small", "tiny"],
)
def test_eigenvalues_are_the_published_ones(values: np.ndarray) -> None:
    expected = published_eigenvalues(values)
    found = published_spectrum(values)
    assert len(found.eigenvalues) == len(expected)
    assert worst(found.eigenvalues, expected) < 1e-8
    assert found.record_every == 2
    assert len(found.rejected) == 0


def test_the_threshold_is_absolute() -> None:
    values = signal(SLOW, 300, 19, noise=1e-3)
    found = [len(published_spectrum(scale * values).eigenvalues) for scale in (1, 1e-9)]
    assert found[0] == 10
    assert found[1] < 10


def test_what_the_published_code_does_not_analyse_is_refused() -> None:
    with pytest.raises(ValueError, match="standard deviation of .* at least 1e-10"):
        published_spectrum(1e-11 * signal(SLOW, 100))
    with pytest.raises(ValueError, match="got 2 runs"):
        published_spectrum([signal(SLOW, 100)] * 2)
    with pytest.raises(ValueError, match="33 snapshots"):
        published_spectrum(signal(SLOW, 33))
