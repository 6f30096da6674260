"""Measures of the logits on sums of cosines, where every value is known."""

import math

import pytest
import torch
from measures.closed_forms import cosine_logits, cross_entropy, noise, pure_neurons, sums

from mechgrok import measures
from mechgrok.maths.fourier import to_fourier_2d

ALPHA = {14: 3.0, 35: 2.0, 52: 1.5}
P = 113


@pytest.mark.parametrize(("p", "alpha"), [(P, ALPHA), (23, {11: 2.0, 3: 1.0}), (8, {1: 3.0})])
def test_coefficients_are_alpha(p: int, alpha: dict[int, float]) -> None:
    found = measures.logit_cosines(cosine_logits(p, alpha), p, list(alpha))
    expected = torch.tensor([alpha.get(k, 0.0) for k in range(1, p // 2 + 1)]).double()
    assert torch.allclose(found.coefficients, expected * math.sqrt(p**3 / 2), atol=1e-9)
    assert found.cosines.square().sum() == pytest.approx(1, abs=1e-12)
    for fve in (found.fve_raw, found.fve_rows, found.fve_both):
        assert fve == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("p", "alpha"), [(P, ALPHA), (8, {1: 3.0, 4: 1.0})])
def test_restricted_is_the_loss_and_excluded_is_ln_p(p: int, alpha: dict[int, float]) -> None:
    logits, keys = cosine_logits(p, alpha), list(alpha)
    restricted = measures.restricted_loss(logits, p, keys)
    assert float(restricted) == pytest.approx(cross_entropy(logits, sums(p)), abs=1e-10)
    assert restricted.accuracy == 1
    assert float(measures.excluded_loss(logits, p, keys)) == pytest.approx(math.log(p), abs=1e-10)


def test_bias_correction_keeps_a_class_bias() -> None:
    logits = cosine_logits(23, {3: 4.0}) + noise(23)
    found = measures.restricted_loss(logits, 23, [3])
    assert found.all == pytest.approx(cross_entropy(logits, sums(23)), abs=1e-10)


def test_splits_are_means_over_their_rows() -> None:
    logits, splits = noise(49, 7), {"train": torch.arange(10), "test": torch.arange(10, 49)}
    restricted = measures.restricted_loss(logits, 7, [2], splits=splits)
    weighted = (10 * restricted.splits["train"] + 39 * restricted.splits["test"]) / 49
    assert weighted == pytest.approx(restricted.all, abs=1e-12)
    excluded = measures.excluded_loss(logits, 7, [2], splits=splits)
    assert excluded.split == "train"
    assert excluded.loss == excluded.splits["train"]
    assert measures.excluded_loss(logits, 7, [2]).split == "all"


def test_removing_one_of_one_key_is_removing_all() -> None:
    found = measures.excluded_loss(noise(49, 7), 7, [3])
    assert found.per_key[3] == pytest.approx(found.loss, abs=1e-12)
    assert found.per_key_accuracy[3] == found.accuracy


def test_all_frequencies_restrict_to_functions_of_the_sum() -> None:
    p = 7
    by_sum = noise(p, p)[sums(p)]
    found = measures.restricted_loss(by_sum, p, [1, 2, 3])
    assert found.all == pytest.approx(cross_entropy(by_sum, sums(p)), abs=1e-12)


def test_centred_measures_ignore_a_shift_per_row() -> None:
    p = 23
    logits = cosine_logits(p, {3: 1.0, 7: 0.5}) + noise(p * p, p)
    shifted = logits + 10 * noise(p * p, 1, seed=1)
    before, after = (measures.logit_cosines(x, p, [3, 7]) for x in (logits, shifted))
    assert torch.allclose(before.cosines, after.cosines, atol=1e-12)
    assert before.fve_rows == pytest.approx(after.fve_rows, abs=1e-12)
    assert before.fve_both == pytest.approx(after.fve_both, abs=1e-12)
    assert before.fve_raw > 2 * after.fve_raw  # the control: the raw fraction does see the shift
    keys = [measures.key_frequencies(x, p=p) for x in (logits, shifted)]
    assert keys[0].freqs == keys[1].freqs
    assert keys[0].evidence[3]["cosine"] == pytest.approx(keys[1].evidence[3]["cosine"])


def test_neurons_have_the_definition_of_their_power() -> None:
    p, acts = 8, noise(64, 5)
    spectrum = to_fourier_2d(acts.unflatten(0, (p, p))).square()
    found = measures.neuron_clusters(acts, p, threshold=0.0)
    blocks = {1: [0, 1, 2], 2: [0, 3, 4], 3: [0, 5, 6], 4: [0, 7]}
    power = torch.stack([spectrum[rows][:, rows].sum(dim=(0, 1)) for rows in blocks.values()])
    power -= spectrum[0, 0]
    fraction, best = (power / (spectrum.sum(dim=(0, 1)) - spectrum[0, 0])).max(dim=0)
    assert torch.allclose(found.fraction, fraction, atol=1e-12)
    assert torch.equal(found.freq, best + 1)


def test_pure_neurons_cluster_and_dead_ones_do_not() -> None:
    acts = torch.cat([pure_neurons(11, [2, 2, 5]), torch.full((121, 2), 0.1)], dim=1)
    found = measures.neuron_clusters(acts, 11)
    assert found.cluster.tolist() == [2, 2, 5, -1, -1]
    assert found.fraction.tolist() == pytest.approx([1, 1, 1, 0, 0], abs=1e-12)
    assert found.sizes == {2: 2, 5: 1}
    assert (found.n_live, found.dead.tolist()) == (3, [False] * 3 + [True] * 2)


def test_keys_come_from_clusters_and_from_logits() -> None:
    p = 23
    logits = cosine_logits(p, {4: 1.0})
    found = measures.key_frequencies(logits, pure_neurons(p, [9, 9]), noise(p, 3), p=p)
    assert found.freqs == (4, 9)
    assert found.unique_best == (9,)
    assert found.evidence[9]["cluster_size"] == 2
    assert found.evidence[9]["cosine"] == pytest.approx(0, abs=1e-12)
    assert sum(e["embedding_share"] for e in found.evidence.values()) <= 1


def test_a_weak_cosine_or_a_tiny_cluster_is_no_key() -> None:
    p = 23
    weak = cosine_logits(p, {4: 1.0, 6: 0.01})
    acts = torch.cat([pure_neurons(p, [9]), noise(p * p, 120)], dim=1)
    found = measures.key_frequencies(weak, acts, p=p)
    assert found.freqs == (4,)
    assert found.evidence[6]["cosine"] == pytest.approx(0.01, rel=1e-3)
    assert found.evidence[9]["cluster_share"] == pytest.approx(1 / 121)


def test_dead_networks_have_no_keys() -> None:
    found = measures.key_frequencies(torch.zeros(49, 7), torch.zeros(49, 4), p=7)
    assert found.freqs == ()
    assert all(math.isfinite(x) for e in found.evidence.values() for x in e.values())


def test_one_frequency_holds_the_whole_spectrum() -> None:
    x = torch.arange(P).double()
    matrix = torch.stack(
        [torch.cos(2 * torch.pi * 56 * x / P), 3 * torch.sin(2 * torch.pi * 56 * x / P)]
    )
    found = measures.spectra({"W_E": matrix.T})["W_E"]
    assert found.top5_freqs[0] == 56
    assert float(found.power_shares[55]) == pytest.approx(1, abs=1e-12)
    assert found.top5_share == pytest.approx(1, abs=1e-12)
    assert measures.gini(matrix.T).freqs == pytest.approx(1 - 1 / 56, abs=1e-9)


def test_a_random_embedding_is_flat() -> None:
    matrix = noise(P, 128)
    # Null at Nanda's initialisation, 5 seeds: .1004-.1041 and .032-.037 (each widened by half).
    assert 0.098 < measures.spectra({"W_E": matrix})["W_E"].top5_share < 0.106
    assert 0.029 < measures.gini(matrix).components < 0.040


def test_bad_input_is_refused() -> None:
    logits = noise(49, 7)
    with pytest.raises(ValueError, match=r"drop the '=' class: logits\[:, :7\]"):
        measures.restricted_loss(noise(49, 8), 7, [1])
    with pytest.raises(ValueError, match="all p\\*p = 49"):
        measures.excluded_loss(noise(42, 7), 7, [1])
    with pytest.raises(ValueError, match="without rows"):
        measures.restricted_loss(logits, 7, [1], splits={"test": torch.arange(0)})
    with pytest.raises(ValueError, match=r"1\.\.3"):
        measures.logit_cosines(logits, 7, [4])
    with pytest.raises(ValueError, match="do not depend"):
        measures.logit_cosines(torch.ones(49, 7), 7, [1])
    with pytest.raises(ValueError, match="all p\\*p = 49"):
        measures.neuron_clusters(noise(48, 3), 7)
