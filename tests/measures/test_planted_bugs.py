"""Every measure's check on a closed form passes, and turns red when a bug is planted in it."""

import importlib
import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence

import gromov
import numpy as np
import pytest
import torch
from measures import closed_forms as known
from measures.plants import PLANTS, plant
from measures.two_hop_checks import (
    check_bridge_lens,
    check_bridge_probe,
    check_bridge_swap,
    check_bridge_tracing,
    check_two_hop_cells,
)

from mechgrok import measures
from mechgrok.interventions.ablation import ablate_frequencies
from mechgrok.maths import fourier
from mechgrok.maths.statistics import Crossing
from mechgrok.measures.frequency_ablation import frequency_ablation
from mechgrok.measures.phases import Phases
from mechgrok.measures.recover_split import Split
from mechgrok.runs.result import NotApplicable

P = 23
ALPHA = {3: 2.0, 11: 1.0}


def near(value: float, expected: float, tolerance: float = 1e-9) -> None:
    """Assert that a value is finite and as expected."""
    assert math.isfinite(value)
    assert abs(value - expected) <= tolerance


def check_spectra() -> None:
    x = torch.arange(P).double()
    wave = 2 * torch.pi / P * x
    matrix = torch.stack([torch.cos(3 * wave), torch.cos(11 * wave), torch.ones(P)], dim=1)
    found = measures.spectra({"W_E": matrix})["W_E"]
    assert found.top5_freqs[:2] in {(3, 11), (11, 3)}
    assert found.power_shares.shape == (11,)
    near(found.top5_share, 0.5)
    norms = dict(zip(fourier.component_names(P), found.component_norms.tolist(), strict=True))
    near(norms["cos 3"], math.sqrt(P / 2))


def check_gini() -> None:
    x = torch.arange(P).double()
    matrix = torch.cos(2 * torch.pi / P * 5 * x)[:, None]
    near(measures.gini(matrix).components, 1 - 1 / P)
    near(measures.gini(matrix).freqs, 1 - 1 / 11)


def check_logit_cosines() -> None:
    for p, alpha in ((P, ALPHA), (8, {1: 2.0, 4: 1.0})):
        logits = known.cosine_logits(p, alpha)
        found = measures.logit_cosines(logits + 10 * known.noise(p * p, 1), p, list(alpha))
        near(float(found.cosines.square().sum()), 1)
        near(found.fve_rows, 1)
        near(found.fve_both, 1)
        assert int(found.profile.argmax()) == 0  # the right answer
        near(float(found.profile[0]), sum(alpha.values()))
        late = measures.logit_cosines(known.cosine_logits(p, alpha).roll(1, dims=1), p, list(alpha))
        assert int(late.profile.argmax()) == p - 1  # the class after the right one: d = -1


def check_key_frequencies() -> None:
    logits = known.cosine_logits(P, ALPHA) + 300 * known.noise(P * P, 1)
    acts = torch.cat([known.pure_neurons(P, [9, 9]), torch.ones(P * P, 1)], dim=1)
    found = measures.key_frequencies(logits, acts, p=P)
    assert found.freqs == (3, 9, 11)
    assert found.unique_best == (9,)


def check_neuron_clusters() -> None:
    acts = torch.cat([known.pure_neurons(P, [9, 11]) + 3, torch.ones(P * P, 1)], dim=1)
    found = measures.neuron_clusters(acts, P)
    assert found.cluster.tolist() == [9, 11, -1]
    for fraction, expected in zip(found.fraction.tolist(), (1, 1, 0), strict=True):
        near(fraction, expected)
    examples = importlib.import_module("mechgrok.measures.neuron_clusters").examples
    acts = known.pure_neurons(P, [9] * 20 + [2])
    acts[:, 20] += 0.1 * known.noise(P * P)  # the least pure, but the first of its frequency
    many = measures.neuron_clusters(acts, P)
    assert examples(many).tolist()[0] == 20
    assert len(examples(many)) == 12


def check_restricted_loss() -> None:
    logits = known.cosine_logits(P, ALPHA) + known.noise(P)
    found = measures.restricted_loss(logits, P, list(ALPHA))
    expected = known.cross_entropy(logits, known.sums(P))
    near(float(found), expected)
    element = torch.arange(P)
    minus = (element[:, None] - element).flatten().double()
    products = torch.cos(2 * torch.pi / P * 3 * minus)[:, None] * known.noise(P, seed=1)
    whole = known.cross_entropy(logits + products, known.sums(P))
    near(
        float(measures.restricted_loss(logits + products, P, list(ALPHA), variant="20 terms")),
        whole,
    )
    arrays = {"acts": known.cosine_logits(P, ALPHA) + products, "W_L": torch.eye(P).double()}
    found = measures.restricted_loss(logits, P, list(ALPHA), variant="activation", **arrays)
    near(float(found), expected)


def check_excluded_loss() -> None:
    element = torch.arange(P)
    minus = (element[:, None] - element).flatten().double()
    # A function of a - b is orthogonal to every sum direction, so it is all that stays.
    stays = torch.cos(2 * torch.pi / P * 5 * minus)[:, None] * known.noise(P)
    rows, right = {"train": torch.arange(100)}, known.sums(P)[:100]
    logits = known.cosine_logits(P, ALPHA) + stays
    found = measures.excluded_loss(logits, P, list(ALPHA), splits=rows)
    near(float(found), known.cross_entropy(stays[:100], right))
    without_11 = known.cosine_logits(P, {3: 2.0}) + stays
    near(found.per_key[11], known.cross_entropy(without_11[:100], right))
    of_sums = torch.cos(2 * torch.pi / P * 3 * known.sums(P).double())[:, None] * known.noise(
        P, seed=1
    )
    of_sums -= fourier.project_sums(known.cosine_logits(P, {3: 1.0}), P, [3]) * _cosine(of_sums, 3)
    found = measures.excluded_loss(logits + of_sums, P, list(ALPHA), splits=rows, variant="3-D")
    near(float(found), known.cross_entropy((stays + of_sums)[:100], right))
    arrays = {"acts": known.cosine_logits(P, ALPHA), "W_L": torch.eye(P).double()}
    for variant, rest in (("with", stays), ("without", 0 * stays)):
        found = measures.excluded_loss(
            logits, P, list(ALPHA), splits=rows, variant=f"activation {variant} skip", **arrays
        )
        near(float(found), known.cross_entropy(rest[:100], right))


def _cosine(table: torch.Tensor, k: int) -> float:
    """Least-squares amplitude of cos w_k(a+b-c) in a table."""
    wave = known.cosine_logits(P, {k: 1.0})
    return float((table * wave).sum() / wave.square().sum())


def check_losses() -> None:
    logits = torch.tensor([[25.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    found = measures.losses(logits, torch.tensor([0, 1]), {"train": torch.tensor([0])})
    near(found.loss["train"], 2 * math.exp(-25), 1e-14)
    assert found.accuracy == {"train": 1.0, "all": 1.0}


def check_weight_norm() -> None:
    near(measures.weight_norm({"w": torch.tensor([3.0, -4.0])}).total, 25)


def check_weight_change() -> None:
    before, after = {"w": torch.tensor([3.0, 4.0])}, {"w": torch.tensor([3.0, 6.0])}
    found = measures.weight_change(before, after)
    near(found.total, 0.4)
    assert found.by_parameter == {"w": pytest.approx(0.4)}


def check_mean_attention() -> None:
    pattern = torch.tensor([[[[0.0, 1.0]]], [[[1.0, 0.0]]]])
    near(float(measures.mean_attention(pattern).std.max()), 0.5)


def check_attribution() -> None:
    bias = (10 + known.noise(P)).expand(P * P, P)
    parts = torch.stack([known.cosine_logits(P, ALPHA), bias])
    found = measures.attribution(parts, known.sums(P), p=P, keys=list(ALPHA))
    assert found.frequencies == ("const", "sum 3", "sum 11", "other key terms", "non-key")
    for value, expected in zip(found.mean.flatten().tolist(), (0, 2, 1, *[0] * 7), strict=True):
        near(value, expected)
    near(found.total, 3)


def check_spectra_2d() -> None:
    element = torch.arange(P).double()
    only_a = torch.cos(2 * torch.pi / P * 5 * element)[:, None].expand(P, P).flatten()
    table = known.cosine_logits(P, ALPHA) + only_a[:, None] + 3
    found = measures.spectra_2d({"logits": table}, P, list(ALPHA))["logits"]
    assert (found.n_large, found.n_large_key_products, found.n_key_products) == (9, 8, 8)
    assert "cos 5 x const" in found.top[:9]
    # Row sums of squares p / 2 * (2^2 + 1^2) against p / 2 of the wave in a.
    assert isinstance(found.product_share, float)
    near(found.product_share, 5 / 6)


def check_rank_2k() -> None:
    wave = 2 * torch.pi / P * 3 * torch.arange(P).double()
    by_sum = torch.stack([torch.cos(wave), torch.sin(wave), torch.ones(P)], dim=1)
    acts = by_sum[known.sums(P)]
    W_L = torch.cat([by_sum[:, :2], torch.cos(wave * 2)[:, None]], dim=1)
    found = measures.rank_2k(W_L, acts, P, [3])
    near(found.residual, math.sqrt(1 / 3))
    near(found.residual_squared, 1 / 3)
    for name in ("cos 3", "sin 3"):
        fve = found.fve[name]
        assert isinstance(fve, float)
        near(fve, 1)
        near(found.amplitude[name], math.sqrt(P / 2))
    near(found.loss["rank_2k"], known.cross_entropy(known.cosine_logits(P, {3: 1}), known.sums(P)))
    assert found.loss["complement"] > found.loss["rank_2k"]


def check_embedding_rank() -> None:
    matrix = torch.diag(torch.tensor([2.0, 1.0, 1.0])).double()
    chance = torch.Generator().manual_seed(0)
    found = measures.embedding_rank(matrix, generator=chance, n_controls=3)
    near(found.found.participation_ratio, 36 / 18)
    near(found.found.effective_rank, math.exp(1.5 * math.log(2)))
    assert len({control.effective_rank for control in found.controls}) == 3
    for control in found.controls:
        near(float(control.singular.square().sum()), 6)


def check_attention_spectra() -> None:
    wave = 2 * torch.pi / P * torch.arange(P).double()
    table = 7 + 2 * torch.cos(3 * wave) + torch.sin(11 * wave)
    found = measures.attention_spectra({"C_0": table[:, None]})["C_0"]
    assert found.freq == 3
    near(found.top_share, 0.8)
    near(float(found.shares.sum()), 1)


def check_embedding_circles() -> None:
    angle = 2 * torch.pi / P * torch.arange(P).double()
    waves = [torch.cos(3 * angle), 0.5 * torch.sin(3 * angle), torch.cos(11 * angle)]
    matrix = torch.stack([waves[0] + waves[2], waves[1], torch.ones(P)], dim=1) + 4
    found = measures.embedding_circles(matrix, [3])[3]
    near(found.roundness, 0.5)
    near(found.share, 1.25 / 2.25)  # cos 11 lies in the plane of 3
    near(float(found.points[0, 0]), 2)
    near(float(found.points[:, 1].abs().max()), float(waves[1].max()))


def check_dose_response() -> None:
    def evaluate(freqs: Sequence[int], scale: float) -> tuple[float, float]:
        return 1 - scale, 0.8 * scale if set(freqs) & set(ALPHA) else 0.8

    chance = torch.Generator().manual_seed(0)
    found = measures.dose_response(evaluate, list(ALPHA), p=P, generator=chance)
    assert isinstance(found.half, float)
    near(found.half, 0.5)
    assert found.controls.shape == (5, 11, 2)
    assert bool((found.controls[..., 1] == 0.8).all())
    assert found.keys[-1].tolist() == found.controls[0, -1].tolist() == [0, 0.8]


def check_component_ablation() -> None:
    module = importlib.import_module("mechgrok.measures.component_ablation")
    x = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    for mode, expected in (("zero", [0, 0]), ("mean", [4, 4])):
        changed = module.replace(x, (slice(None), 1), mode)
        assert changed[:, 1].tolist() == expected
        assert changed[:, 0].tolist() == [1, 3]
    found = measures.component_ablation({"flat": x * 0, "right": x}, torch.tensor([1, 1]))
    near(found["flat"].loss, math.log(2))
    near(found["right"].loss, (math.log1p(math.exp(-1)) + math.log1p(math.exp(-3))) / 2)
    assert found["right"].accuracy == 1


def check_neuron_ablation() -> None:
    keys, chance = (3, 7), torch.Generator().manual_seed(0)
    net = gromov.network(P, 40, 0, keys)
    alone = {k: net.neurons[:, net.freqs == k] for k in keys}
    clusters = {k: (net.freqs == k).nonzero()[:, 0] for k in keys}
    W_L = net.W_L
    found = measures.neuron_ablation(
        net.logits, net.neurons, W_L, known.sums(P), clusters, generator=chance, n_controls=2
    )
    for k, other in (keys, keys[::-1]):
        left = alone[other] @ W_L[:, clusters[other]].T
        constant = (alone[k] @ W_L[:, clusters[k]].T).mean(dim=0)
        near(found[k].edits["zero"].loss, known.cross_entropy(left, known.sums(P)), 1e-6)
        near(found[k].edits["mean"].loss, known.cross_entropy(left + constant, known.sums(P)), 1e-6)
        whole = known.cross_entropy(net.logits, known.sums(P))
        assert abs(found[k].edits["resample"].loss - whole) > 0.1
        controls = found[k].controls
        assert isinstance(controls, Mapping)
        # As many neurons from outside the cluster are all of the other one.
        near(controls["zero"][1].loss, found[other].edits["zero"].loss, 1e-6)


def check_polynomial_replacement() -> None:
    net = gromov.network(P, 22, 0)
    exact = measures.polynomial_replacement(net.neurons, P, net.freqs, "12 terms")
    near(float((exact - net.neurons).abs().max()), 0)
    linear = measures.polynomial_replacement(net.neurons, P, net.freqs)
    # The squares hold 1/5 of each neuron's variance: 2 cos cos against two cos^2 terms at 2k.
    centred = net.neurons - net.neurons.mean(dim=0)
    near(float((net.neurons - linear).square().sum() / centred.square().sum()), 0.2)
    constant = measures.polynomial_replacement(net.neurons, P, net.freqs * 0)
    near(float((constant - 1).abs().max()), 0)


def check_loss_variants() -> None:
    element = torch.arange(P)
    minus = (element[:, None] - element).flatten().double()
    stays = torch.cos(2 * torch.pi / P * 5 * minus)[:, None] * known.noise(P)
    of_sums = torch.cos(2 * torch.pi / P * 7 * known.sums(P).double())[:, None] * known.noise(P)
    logits = known.cosine_logits(P, ALPHA) + stays + of_sums
    found = measures.loss_variants(logits, P, list(ALPHA))
    near(
        found["excluded non-keys 2-D"]["all"],
        known.cross_entropy(logits - of_sums, known.sums(P)),
    )
    rest = known.cross_entropy(stays + of_sums, known.sums(P))
    for name in ("excluded 2-D", "excluded 3-D", "restricted 10 directions"):
        kept = known.cross_entropy(known.cosine_logits(P, ALPHA), known.sums(P))
        near(found[name]["all"], kept if name.startswith("restricted") else rest)
    noisy = logits + 3 * torch.cos(2 * torch.pi / P * 3 * known.sums(P).double())[:, None] * (
        known.noise(P, seed=1)
    )
    other = measures.loss_variants(noisy, P, list(ALPHA))
    assert abs(other["excluded 2-D"]["all"] - other["excluded 3-D"]["all"]) > 0.1
    without_11 = logits - known.cosine_logits(P, {11: 1.0})
    near(found["excluded 11 2-D"]["all"], known.cross_entropy(without_11, known.sums(P)))


def check_update_norm() -> None:
    weights = [{"w": torch.tensor([3.0, x])} for x in (4.0, 6.0, 6.0)]
    found = measures.update_norm([0, 10, 30], weights)
    for row, expected in zip(found, ((10, 0.4, 0.04), (30, 0, 0)), strict=True):
        for value, right in zip(row, expected, strict=True):
            near(value, right)


def check_loss_crossings() -> None:
    test = [0.5, 0.5, 0.5, 9.0, 2.0, 0.9, 0.8, 0.7, 1e-3, 1e-3, 1e-3]
    found = measures.loss_crossings(list(range(0, 110, 10)), test, [1.0, 1e-2, 1e-5])
    assert (found.peak, found.peak_step) == (9, 30)
    assert [c and c.interval for c in found.below.values()] == [(40, 50), (70, 80), None]


def check_frequency_removal() -> None:
    logits = known.cosine_logits(P, ALPHA)
    arrays = {"acts": logits, "W_L": torch.eye(P).double()}
    chance = torch.Generator().manual_seed(0)
    found = measures.frequency_removal(logits, P, list(ALPHA), generator=chance, **arrays)
    whole = known.cross_entropy(logits, known.sums(P))
    half = known.cross_entropy(0.5 * logits, known.sums(P))
    assert list(found) == ["logits", "activations", "W_L"]
    for name, one in found.items():
        near(one.keys.loss, math.log(P))
        near(one.non_keys.loss, whole)
        near(max(edit.loss for edit in one.controls), whole)
        near(next(e.loss for e in one.key_doses if e.scale == 0.5), half)
        near(one.keys.power_removed, 4 / P if name == "W_L" else 1)


def check_lead() -> None:
    steps = range(0, 200, 10)
    test = [(s, 5.0 if s < 120 else 5.0 * 0.5 ** (s / 10 - 11)) for s in steps]
    restricted = [(s, 4.0 if s < 60 or s == 150 else 0.5 ** (s / 10)) for s in steps]
    restricted[3] = (30, 1.0)  # alone, so no movement
    restricted[0] = (0, 400.0)  # before memorisation
    found = measures.lead(restricted, test, ("falls", "falls"), since=10)
    assert found.moved[2] == Crossing(50, 60)
    assert found.reference[2] == Crossing(110, 120)
    assert found.steps(0.2) == 60
    assert found.interval(0.2) == (50, 70)
    behind = measures.lead(test, restricted, ("falls", "falls"), since=10)
    assert behind.steps(0.2) == -60
    assert not behind.leads(0.2)


class Embed(torch.nn.Module):
    """The only part of a model that the edit touches."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Module()
        self.embed.W_E = torch.nn.Parameter(known.noise(P + 1, 4))


def check_frequency_ablation() -> None:
    net = Embed()
    before = net.embed.W_E.detach().clone()

    def evaluate(freqs: Sequence[int], scale: float) -> tuple[float, float]:
        with ablate_frequencies(net, freqs, P, scale):
            norms = fourier.frequency_norms(net.embed.W_E.detach()[:P])
        removed = {k + 1 for k, norm in enumerate(norms.tolist()) if norm < 1e-9}
        return 0.0, 0.0 if removed & set(ALPHA) else 1.0

    found = frequency_ablation(
        evaluate,
        fourier.power_shares(before[:P]),
        list(ALPHA),
        p=P,
        generator=torch.Generator().manual_seed(0),
    )
    assert found.passed
    assert torch.equal(net.embed.W_E, before)


def check_delay() -> None:
    found = measures.delay([100, 100, 200, 100, 100], [1100, 1100, 1200, 1100, 1100])
    assert found.each == (1000,) * 5
    near(found.mean, 1000)
    assert found.interval == (1000, 1000)
    censored = measures.delay([100, 100], [1100, None])
    assert isinstance(censored.mean, NotApplicable)
    assert censored.each == (1000, None)
    assert isinstance(measures.delay([100], [1100]).interval, NotApplicable)


def check_times() -> None:
    steps = list(range(10, 200, 10))
    train = [float(s >= 20) for s in steps]
    test = [float(s in {40, 50} or s >= 100) for s in steps]
    assert not measures.times(steps, train, [float(s >= 100) for s in steps]).grokked
    found = measures.times(steps, [1.0] * len(steps), test)
    assert found.generalised is not None
    assert found.generalised.interval == (90, 100)
    assert found.grokked


def check_phases() -> None:
    test = [9.0, 3.0, 5.0, 2.0, 0.8, 1e-4, 1e-6, 1e-6, 1e-6]
    train = [4.0, 1e-3, 1e-4, *[1e-5] * 6]
    found = measures.phases(list(range(9)), train, test, P)
    assert isinstance(found, Phases)
    assert found.memorisation.interval == (1, 2)
    assert isinstance(found.circuit_formation, Crossing)
    assert found.circuit_formation.interval == (3, 4)
    assert found.cleanup.interval == (5, 6)


def check_recover_split() -> None:
    order = list(range(P * P))
    random.Random(5).shuffle(order)
    rows = known.noise(P * P).exp()
    rows[order[:158]] = 1e-3  # every smaller fraction has the same train loss
    train, test = rows[order[:158]].mean(), rows[order[158:]].mean()  # int(.3 * 529)
    found = measures.recover_split(rows, {"train": train, "test": test})
    assert isinstance(found, Split)
    assert (found.seed, found.frac_train) == (5, 0.3)
    near(found.train_error, 0)
    near(found.test_error, 0)
    other = measures.recover_split(rows, {"train": train, "test": 2 * test})
    assert isinstance(other, NotApplicable)
    nowhere = measures.recover_split(rows, {"train": 100 * train, "test": 100 * test})
    assert isinstance(nowhere, NotApplicable)
    assert "no nanda2023 split fits" in nowhere.reason


def check_sharpness() -> None:
    """A separable quadratic is largest in the corner away from its centre."""
    x, centre, curvature = known.noise(6), known.noise(6, seed=1), known.noise(6, seed=2).square()

    def loss(w: torch.Tensor) -> tuple[float, torch.Tensor]:
        slope = curvature * (w - centre)
        return float((slope * (w - centre)).sum() / 2), slope

    start, half = loss(x)[0], 0.01 * (x.abs() + 1)
    top = loss(x + half * torch.sign(x - centre))[0]
    found = measures.sharpness(loss, x, epsilon=0.01, directions=0)
    near(found.loss, start)
    near(found.sharpness, 100 * (top - start) / (1 + start))
    drawn = np.random.default_rng(0).uniform(-1, 1, (3, 6))
    rows = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    corners = np.array(list(itertools.product((-1, 1), repeat=3)))
    half = 0.01 * (np.abs(rows @ x.numpy()) + 1)
    ends = [x + torch.from_numpy(np.linalg.pinv(rows) @ (half * c)) for c in corners]
    found = measures.sharpness(loss, x, epsilon=0.01, directions=3, seed=0)
    near(found.largest_loss, max(loss(end)[0] for end in ends))


TWO_HOP = (
    check_bridge_lens,
    check_bridge_probe,
    check_bridge_swap,
    check_bridge_tracing,
    check_two_hop_cells,
)
"""Written in a file of their own; found below by name."""

CHECKS: dict[str, Callable[[], None]] = {
    name.removeprefix("check_"): check
    for name, check in list(globals().items())
    if name.startswith("check_")
}


@pytest.mark.parametrize("measure", sorted(CHECKS))
def test_checks_pass_without_a_bug(measure: str) -> None:
    assert CHECKS[measure]() is None


@pytest.mark.parametrize("name", sorted(PLANTS))
def test_a_planted_bug_turns_the_check_red(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(PLANTS[name], monkeypatch)
    with pytest.raises((AssertionError, ValueError)):
        CHECKS[PLANTS[name].measure]()


def test_every_measure_has_a_plant() -> None:
    assert {bug.measure for bug in PLANTS.values()} == set(measures.__all__) == set(CHECKS)
