"""Gromov's closed-form network: the Fourier measures find what it was built from."""

import gromov
import pytest
import torch

from mechgrok import measures


@pytest.mark.parametrize(
    ("p", "width", "expected", "band"),
    # Mean of 3 seeds in Gromov's construction; bands from the spread over other seeds.
    [
        (113, 56, 0.927, 0.04),
        (113, 112, 0.998, 0.01),
        (113, 224, 1.0, 0.0005),
        (97, 192, 1.0, 0.0005),
        (59, 29, 0.691, 0.15),
        (59, 58, 0.950, 0.04),
        (59, 116, 0.9998, 0.005),
        (23, 88, 1.0, 0.005),
    ],
)
def test_accuracy_of_the_closed_form(p: int, width: int, expected: float, band: float) -> None:
    found = sum(gromov.network(p, width, seed).accuracy for seed in range(3)) / 3
    assert found == pytest.approx(expected, abs=band)


def test_random_output_phases_know_no_sum() -> None:
    freqs = list(range(1, 30))
    null = gromov.network(59, 116, 0, freqs, aligned=False)
    assert null.accuracy < 0.1
    keys = [3, 7, 20]
    fve = [
        measures.logit_cosines(gromov.network(59, 480, 0, keys, aligned).logits, 59, keys).fve_rows
        for aligned in (True, False)
    ]
    assert fve[0] > 0.6
    assert fve[1] < 0.15


@pytest.mark.parametrize(("p", "keys"), [(59, (3, 7, 20)), (113, (14, 35, 56)), (23, (1, 11))])
def test_keys_are_exactly_those_built_in(p: int, keys: tuple[int, ...]) -> None:
    net = gromov.network(p, 120 * len(keys), 0, keys)
    found = measures.key_frequencies(net.logits, net.neurons, p=p)
    assert found.freqs == keys
    assert found.unique_best == keys
    off = [e["cosine"] for k, e in found.evidence.items() if k not in keys]
    assert max(map(abs, off)) < 1e-12


def test_neurons_have_their_frequency_and_the_known_fraction() -> None:
    net = gromov.network(59, 58, 1)
    found = measures.neuron_clusters(net.neurons, 59)
    assert torch.equal(found.freq, net.freqs)
    # 2 cos cos has 4 times the variance of the two cos^2 terms at 2k together: 1 / (1 + 1/4).
    assert torch.allclose(found.fraction, torch.full((58,), 0.8).double(), atol=1e-12)
    assert (found.cluster == -1).all()
    assert (measures.neuron_clusters(net.neurons, 59, 0.79).cluster == net.freqs).all()


def test_restricted_beats_and_excluded_destroys() -> None:
    keys = [3, 7, 20]
    net = gromov.network(59, 480, 0, keys)
    logits = net.logits / net.logits.std() * 4
    restricted = measures.restricted_loss(logits, 59, keys)
    assert restricted.accuracy == 1
    wrong = measures.restricted_loss(logits, 59, [4, 8, 21])
    assert wrong.accuracy < 0.05
    excluded = measures.excluded_loss(logits, 59, keys)
    assert excluded.accuracy < 0.1
    assert float(excluded) > float(wrong) > float(restricted)
