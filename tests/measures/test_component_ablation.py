"""Component ablation: every edit equals the hooked forward with the hook that its name says."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from measures.closed_forms import cross_entropy
from measures.stand_in import StandIn, model, task, untrained
from torch import Tensor

import mechgrok as mg
from mechgrok.measures import _last_block
from mechgrok.runs.result import NotApplicable

QUICK = Path(__file__).parents[1] / "data" / "quick_grokked"
measure = mg.discovery.load("measures", "component_ablation")


def hooked(checkpoint: StandIn, name: str, edit: Callable[[Tensor], Tensor]) -> Tensor:
    """Logits at the answer of the training rows, all of them in one hooked forward."""
    tokens = checkpoint.task.tokens[checkpoint.task.splits["train"]]
    hook = (name, lambda activation, hook: edit(activation))
    with torch.no_grad():
        return checkpoint.model.run_with_hooks(tokens, fwd_hooks=[hook])[:, -1].double()


def without_head(z: Tensor, head: int, mean: bool) -> Tensor:
    """The mixed values with one head's at zero or at their mean."""
    z = z.clone()
    z[:, :, head] = z[:, :, head].mean(dim=0, keepdim=True) if mean else 0
    return z


@pytest.mark.parametrize("n_layers", [1, 2])
def test_edits_equal_the_hooked_forward(n_layers: int) -> None:
    of = task(7)
    checkpoint = StandIn(of, model(of, n_layers=n_layers).double())
    checkpoint.model.cfg.dtype = torch.float64  # .double() leaves it stale (TransformerLens)
    with torch.no_grad():
        for parameter in checkpoint.model.parameters():
            parameter.add_(0.1)  # biases start at 0 and would hide
    found = measure(checkpoint)
    assert "train" in found.definition["split"]
    labels = of.labels[of.splits["train"], 0]
    last = n_layers - 1
    edits: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
        "original": ("hook_embed", lambda x: x),
        "position zero": ("hook_pos_embed", lambda x: 0 * x),
    }
    for layer in range(n_layers):
        z, pattern = f"blocks.{layer}.attn.hook_z", f"blocks.{layer}.attn.hook_pattern"
        edits[f"L{layer}H1 zero"] = (z, lambda x: without_head(x, 1, mean=False))
        edits[f"L{layer}H0 mean"] = (z, lambda x: without_head(x, 0, mean=True))
        edits[f"L{layer} mean attention"] = (
            pattern,
            lambda x: x.mean(dim=0, keepdim=True).expand_as(x),
        )
    losses = {}
    for name, (hook, edit) in edits.items():
        losses[name] = cross_entropy(hooked(checkpoint, hook, edit), labels)
        assert found[f"{name}_loss"] == pytest.approx(losses[name], abs=1e-10), name
    assert len({round(loss, 7) for loss in losses.values()}) == len(losses), "edits that do nothing"
    _, cache = checkpoint.model.run_with_cache(of.tokens[of.splits["train"]])
    net = checkpoint.model
    alone = cache[f"blocks.{last}.hook_mlp_out"][:, -1] @ net.unembed.W_U + net.unembed.b_U
    expected = cross_entropy(alone.detach().double(), labels)
    assert found["no skip path_loss"] == pytest.approx(expected, abs=1e-10)


def test_the_recorded_block_gives_the_hooked_neurons() -> None:
    checkpoint = untrained(7)
    block = _last_block.record(checkpoint, torch.arange(49))
    _, cache = checkpoint.model.run_with_cache(checkpoint.task.tokens)
    acts = block.neurons(block.mid(block.z()))
    assert torch.allclose(acts, cache["blocks.0.mlp.hook_post"][:, -1], atol=1e-6)
    assert torch.allclose(block.logits(), checkpoint.answer_logits[:, 0], atol=1e-6)


def test_a_grokked_model(tmp_path: Path) -> None:
    found = mg.load_run(shutil.copytree(QUICK, tmp_path / "quick")).measure("component_ablation")
    assert found.definition["split"].startswith("test")
    values = {name: x for name, x in found.values.items() if isinstance(x, float)}
    assert values["original_accuracy"] > 0.99
    assert values["no skip path_accuracy"] > 0.9
    assert values["position zero_loss"] > values["original_loss"]
    assert values["L0 mean attention_loss"] > 10 * values["original_loss"]


def test_what_does_not_apply_is_typed() -> None:
    normalised = StandIn(task(7), model(task(7), normalization="LN"))
    assert isinstance(measure(normalised).headline, NotApplicable)
    assert isinstance(measure(untrained(7, operation="divide")).headline, NotApplicable)
    net = model(task(7))
    net.cfg.attn_only = True
    assert isinstance(measure(StandIn(task(7), net)).headline, NotApplicable)
