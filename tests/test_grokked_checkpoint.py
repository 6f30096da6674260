"""Everything at once on a model that has grokked: `quick`, seed 4 (data/quick_grokked).

Made by `python experiments/grok_modadd.py --preset quick --seed 4`, of which the first and the last
checkpoint are kept. What is asserted is structure that every grokked model of the task has.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import mechgrok as mg
from mechgrok.models.shared_prefix import answer_logits, answer_neurons, refusal
from mechgrok.runs.checkpoint import Checkpoint
from mechgrok.runs.storage import RunError
from mechgrok.training import losses

RUN = Path(__file__).parent / "data" / "quick_grokked"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> mg.Run:
    return mg.load_run(shutil.copytree(RUN, tmp_path_factory.mktemp("runs") / "quick_grokked"))


@pytest.fixture(scope="module")
def grokked(run: mg.Run) -> Checkpoint:
    return run[-1]


@pytest.fixture(scope="module")
def untrained(run: mg.Run) -> Checkpoint:
    return run[0]


def gradients(model: torch.nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_fast_and_hooked_forward_agree(
    grokked: Checkpoint, dtype: torch.dtype, tolerance: float
) -> None:
    """Logits relative to the largest; gradients of the loss relative to the largest of each.

    The hooked forward is in float64 both times: in float32 its own gradients are up to 1.6e-3 off
    on some processors, ours 5e-7.
    """
    model, reference = in_dtype(grokked, dtype), in_dtype(grokked, torch.float64)
    assert refusal(model) is None
    tokens = grokked.task.tokens
    with torch.no_grad():
        fast, hooked = answer_logits(model, tokens), reference(tokens)[:, -1]
    assert float((fast - hooked).abs().max()) <= tolerance * float(hooked.abs().max())
    labels = torch.randint(59, (len(tokens), 1), generator=torch.Generator().manual_seed(0))
    ours = gradients(model, losses.cross_entropy(answer_logits(model, tokens, (-1,)), labels)[0])
    plain = gradients(reference, losses.cross_entropy(reference(tokens)[:, [-1]], labels)[0])
    assert ours.keys() == plain.keys()
    for name, gradient in plain.items():
        largest = float(gradient.abs().max())
        assert float((ours[name] - gradient).abs().max()) <= tolerance * largest, name


def in_dtype(checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    model = Checkpoint(checkpoint.config, checkpoint.step, checkpoint.weights).model.to(dtype)
    model.cfg.dtype = dtype  # .to() leaves it stale (TransformerLens)
    return model


def test_it_has_grokked(run: mg.Run, grokked: Checkpoint) -> None:
    assert run.measure("times")["grokked"]
    assert mg.evaluate(grokked.model, grokked.task)["correct"] >= 0.99


def test_key_frequencies_are_few_and_hold_the_embedding(
    grokked: Checkpoint, untrained: Checkpoint
) -> None:
    keys = mg.key_frequencies(grokked)
    assert 2 <= len(keys.freqs) <= 8
    assert mg.key_frequencies(untrained).freqs == ()
    assert mg.discovery.load("measures", "spectra")(grokked).headline >= 0.6
    assert mg.discovery.load("measures", "spectra")(untrained).headline < 0.35


def test_the_ablation_check_passes_only_after_training(
    grokked: Checkpoint, untrained: Checkpoint
) -> None:
    assert mg.frequency_ablation(grokked)["passed"] is True
    failed = mg.frequency_ablation(untrained)
    assert failed["passed"] is False
    assert "keys removed" in str(failed["failed_lines"])
    assert failed.definition["split"].startswith("train")


def test_restricted_loss_is_low_and_excluded_loss_high(grokked: Checkpoint) -> None:
    """Restricted below the loss itself; excluded above chance, since the circuit then misleads."""
    keys = mg.key_frequencies(grokked).freqs
    logits = grokked.answer_logits[:, 0, :59].double()
    restricted = float(mg.measures.restricted_loss(logits.numpy(), p=59, keys=keys))
    excluded = float(mg.measures.excluded_loss(logits, p=59, keys=keys))
    assert restricted < mg.evaluate(grokked.model, grokked.task)["loss"]
    assert excluded > 1
    random = [k for k in range(1, 30) if k not in keys][: len(keys)]
    assert float(mg.measures.restricted_loss(logits, p=59, keys=random)) > 100 * restricted


def test_numpy_and_torch_give_the_same(grokked: Checkpoint) -> None:
    logits = grokked.answer_logits[:, 0, :59].double()
    from_torch = mg.measures.logit_cosines(logits, 59, [4])
    from_numpy = mg.measures.logit_cosines(logits.numpy(), 59, [4])
    assert torch.equal(from_torch.cosines, from_numpy.cosines)


def test_answer_neurons_equal_the_hooked_ones(grokked: Checkpoint) -> None:
    tokens = grokked.task.tokens[:200]
    name = "blocks.0.mlp.hook_post"
    with torch.no_grad():
        _, cache = grokked.model.run_with_cache(tokens, names_filter=name)
        fast = answer_neurons(grokked.model, tokens)
    assert float((fast - cache[name][:, -1]).abs().max()) <= 1e-5 * float(cache[name].abs().max())


def test_delay_over_a_set_of_runs(run: mg.Run, tmp_path: Path) -> None:
    other = mg.load_run(shutil.copytree(RUN, tmp_path / "other"))
    runs = mg.Runs([run, other])
    found = runs.measure("delay")
    assert found["mean"] == found[run.name] == found["other"]
    assert isinstance(found["low"], mg.NotApplicable), "two runs give no interval"
    assert len(runs.series("test_acc").table().groupby("run")) == 2
    with pytest.raises(RunError, match="twice"):
        mg.Runs([run, run])


def test_neurons_leave_the_gradient_they_are_given_alone(grokked: Checkpoint) -> None:
    """A sum's gradient is one number seen many times, and a given one belongs to the caller."""
    tokens = grokked.task.tokens[:50]
    ours = gradients(grokked.model, answer_neurons(grokked.model, tokens).sum())
    kept: list[torch.Tensor] = []  # the cache would detach it
    hook = ("blocks.0.mlp.hook_post", lambda post, hook: kept.append(post))
    grokked.model.run_with_hooks(tokens, fwd_hooks=[hook])
    plain = gradients(grokked.model, kept[0][:, -1].sum())
    for parameter, gradient in plain.items():
        torch.testing.assert_close(ours[parameter], gradient, rtol=1e-4, atol=1e-3)
    neurons = answer_neurons(grokked.model, tokens)
    given = torch.ones_like(neurons)
    neurons.backward(given)
    assert bool((given == 1).all())
