"""Wrappers: definitions, absences and agreement with the pure functions, on real small models."""

import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from measures.closed_forms import cross_entropy
from measures.stand_in import StandIn, StandInRun, model, task, untrained
from measures.two_hop_models import by_hand

from mechgrok import measures
from mechgrok.measures import _modular
from mechgrok.runs.result import NotApplicable, Result

OF_CHECKPOINT = [
    name
    for name in measures.__all__
    if importlib.import_module(f"mechgrok.measures.{name}").SUBJECT == "checkpoint"
]
NEEDS_KEYS = {
    "frequency_removal",
    "loss_variants",
    "restricted_loss",
    "excluded_loss",
    "logit_cosines",
    "frequency_ablation",
    "attribution",
    "spectra_2d",
    "rank_2k",
    "embedding_circles",
}
TWO_HOP = {"bridge_lens", "bridge_probe", "bridge_swap", "bridge_tracing", "two_hop_cells"}

KEYS = {"keys": [1, 2]}


def options(name: str) -> dict[str, Any]:
    """What a measure has to be told about an untrained model, which has no keys and clusters."""
    return {"neuron_ablation": {"threshold": 0.3}}.get(name, KEYS if name in NEEDS_KEYS else {})


def measure(name: str, checkpoint: StandIn, **options: Any) -> Result:
    """The wrapper of a measure."""
    return importlib.import_module(f"mechgrok.measures.{name}").measure(checkpoint, **options)


@pytest.fixture(scope="module")
def checkpoint() -> StandIn:
    """An untrained model of addition mod 11."""
    return untrained(11)


@pytest.fixture
def subject(name: str, checkpoint: StandIn) -> StandIn:
    """A checkpoint that the measure applies to."""
    return by_hand("sequential") if name in TWO_HOP else checkpoint


@pytest.mark.parametrize("name", OF_CHECKPOINT)
def test_every_result_is_defined_finite_and_numpy(name: str, subject: StandIn) -> None:
    result = measure(name, subject, **options(name))
    assert result.measure == name
    assert {"operator", "dtype"} <= set(result.definition)
    assert all(isinstance(array, np.ndarray) for array in result.arrays.values())
    numbers = [x for x in result.values.values() if isinstance(x, float | int)]
    assert numbers
    assert all(math.isfinite(x) for x in numbers)
    assert all(np.isfinite(array).all() for array in result.arrays.values())
    assert len(result.table()) == len(result.values)


@pytest.mark.parametrize("name", OF_CHECKPOINT)
def test_measuring_changes_no_weight_and_leaves_no_hook(name: str, subject: StandIn) -> None:
    before = {k: x.detach().clone() for k, x in subject.model.named_parameters()}
    measure(name, subject, **options(name))
    for k, x in subject.model.named_parameters():
        assert torch.equal(x, before[k])
    assert not any(point.fwd_hooks for point in subject.model.hook_points())


def test_file_and_function_share_a_name() -> None:
    files = {p.stem for p in Path(measures.__file__ or "").parent.glob("[!_]*.py")}
    assert set(measures.__all__) == files
    assert all(callable(getattr(measures, name)) for name in files)


def test_an_incomplete_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_done.py").write_text("def half_done() -> int:\n    return 1\n")
    monkeypatch.setattr(measures, "__path__", [*measures.__path__, str(tmp_path)])
    with pytest.raises(measures.MeasureError, match="'measure'"):
        measures._pure_function("half_done")
    (tmp_path / "empty_one.py").write_text("measure = None\n")
    with pytest.raises(measures.MeasureError, match="'empty_one'"):
        measures._pure_function("empty_one")


@pytest.mark.parametrize("n_layers", [1, 2])
def test_neurons_and_attention_are_the_hooked_forwards(n_layers: int) -> None:
    of = task(7)
    checkpoint = StandIn(of, model(of, n_layers=n_layers))
    _, cache = checkpoint.model.run_with_cache(of.tokens)
    expected = cache[f"blocks.{n_layers - 1}.mlp.hook_post"][:, -1]
    assert torch.allclose(_modular.neurons(checkpoint), expected, atol=1e-6)
    found = measure("mean_attention", checkpoint)
    patterns = [cache[f"blocks.{i}.attn.hook_pattern"][:, :, -1] for i in range(n_layers)]
    mean = torch.stack(patterns).double().mean(dim=1)
    assert np.allclose(found.arrays["mean"], mean.detach().numpy(), atol=1e-6)


def test_attention_varies_as_computed() -> None:
    pattern = torch.tensor([[[[0.0, 1.0]]], [[[1.0, 0.0]]], [[[0.5, 0.5]]]])
    found = measures.mean_attention(pattern)
    assert found.mean.flatten().tolist() == [0.5, 0.5]
    assert found.std.flatten().tolist() == pytest.approx([math.sqrt(1 / 6)] * 2)
    with pytest.raises(ValueError, match="no rows"):
        measures.mean_attention(pattern[:0])


def test_losses_count_the_equals_class(checkpoint: StandIn) -> None:
    logits = checkpoint.answer_logits[:, 0].double()
    assert logits.shape[1] == 12
    found = measure("losses", checkpoint)
    labels = checkpoint.task.labels[:, 0]
    assert found["all_loss"] == pytest.approx(cross_entropy(logits, labels), abs=1e-12)
    train = checkpoint.task.splits["train"]
    expected = cross_entropy(logits[train], labels[train])
    assert found["train_loss"] == pytest.approx(expected, abs=1e-12)


def test_losses_are_float64_and_skip_missing_answers() -> None:
    logits = torch.tensor([[[20.0, 0.0], [0.0, 0.0]], [[0.0, 40.0], [3.0, 3.0]]])
    labels = torch.tensor([[0, -100], [1, -100]])
    found = measures.losses(logits, labels)
    assert found.loss["all"] == pytest.approx((math.exp(-20) + math.exp(-40)) / 2, rel=1e-6)
    assert found.zero_share["all"] == 0.5  # exp(-40) is below the resolution of float64 at 40
    assert found.zero_share_float32["all"] == 1
    assert found.accuracy["all"] == 1
    with pytest.raises(ValueError, match="'none' has no answers"):
        measures.losses(logits, labels, {"none": torch.arange(0)})


def test_an_untrained_model_has_no_keys_and_a_flat_spectrum() -> None:
    wide = task(59)
    net = model(wide, d_model=64, n_heads=4, d_head=16, d_mlp=128)
    checkpoint = StandIn(wide, net)
    assert measure("key_frequencies", checkpoint)["freqs"] == ()
    share = measure("spectra", checkpoint)["top5_share_W_E"]
    assert isinstance(share, float)
    assert share < 0.25  # 10 of 59 components hold .17 on average
    for name in ("restricted_loss", "excluded_loss", "logit_cosines"):
        headline = measure(name, checkpoint).headline
        assert isinstance(headline, NotApplicable)
        assert "no key frequencies" in headline.reason
    ablation = measure("frequency_ablation", checkpoint)
    assert "most embedding power" in ablation.definition["selection"]
    assert ablation["passed"] is False


def test_final_keys_are_found_once_per_run(checkpoint: StandIn) -> None:
    run = StandInRun([checkpoint])
    early = [StandIn(checkpoint.task, checkpoint.model, step, run=run) for step in (0, 1, 2)]
    keys = importlib.import_module("mechgrok.measures.key_frequencies")
    found = [keys.resolve_keys(one) for one in early]
    assert run.read == 1
    assert len({freqs for freqs, _ in found}) == 1
    assert "last checkpoint" in found[0][1]
    assert "this checkpoint" in keys.resolve_keys(early[0], "own")[1]
    assert "no run" in keys.resolve_keys(checkpoint)[1]
    assert keys.resolve_keys(checkpoint, [2, 5]) == ((2, 5), "given")
    with pytest.raises(ValueError, match="'own'"):
        keys.resolve_keys(checkpoint, "lots")


def test_renamed_tokens_are_measured_in_order_of_the_group() -> None:
    plain, renamed = task(7), task(7, relabel=True)
    net, permuted = model(plain), model(plain)
    with torch.no_grad():
        permuted.embed.W_E[renamed.renamed] = net.embed.W_E[:7]
        permuted.unembed.W_U[:, renamed.renamed] = net.unembed.W_U[:, :7]
    a, b = StandIn(plain, net), StandIn(renamed, permuted)
    for name in ("gini", "spectra", "restricted_loss", "neuron_clusters"):
        options = {"keys": [1]} if name == "restricted_loss" else {}
        x, y = measure(name, a, **options).headline, measure(name, b, **options).headline
        assert x == pytest.approx(y, abs=1e-5)


def test_what_does_not_apply_says_why() -> None:
    other = untrained(7, operation="multiply")
    result = measure("restricted_loss", other, keys=[1])
    assert isinstance(result.headline, NotApplicable)
    assert "not (a+b) mod 7" in result.headline.reason
    quotient = untrained(7, operation="divide")
    assert "42 rows, not all 49" in str(measure("gini", quotient).headline)
    assert isinstance(measure("losses", quotient).headline, float)


def test_attention_only_models_have_no_neurons() -> None:
    of = task(7)
    net = model(of)
    net.cfg.attn_only = True
    checkpoint = StandIn(of, net)
    assert "attention only" in str(measure("neuron_clusters", checkpoint).headline)
    assert isinstance(measure("gini", checkpoint)["W_L"], NotApplicable)


def test_weight_norm_and_change() -> None:
    before, after = untrained(7, seed=0), untrained(7, seed=0)
    total = sum(float(x.detach().double().square().sum()) for x in before.model.parameters())
    assert measure("weight_norm", before)["total"] == pytest.approx(total, rel=1e-12)
    with torch.no_grad():
        for x in after.model.parameters():
            x.mul_(1.25)
    module = importlib.import_module("mechgrok.measures.weight_change")
    change = module.measure(before, after)
    assert change["total"] == pytest.approx(0.25, rel=1e-6)
    assert change["blocks.0.mlp.b_in"] == 0
    assert module.measure(before, before)["total"] == 0
    with torch.no_grad():
        after.model.blocks[0].mlp.b_in.add_(1)
    assert isinstance(module.measure(before, after)["blocks.0.mlp.b_in"], NotApplicable)
    with pytest.raises(ValueError, match="one shape"):
        module.measure(before, untrained(11))
    with pytest.raises(ValueError, match="all zero"):
        measures.weight_change({"w": torch.zeros(2)}, {"w": torch.ones(2)})
