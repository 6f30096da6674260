"""What every model must let interventions do: one suite, each model found by its file name.

A file in models/ with a config in config/models.py is tested by existing. Every hook point that
fires is tried, and none is assumed, except one that the unembedding alone reads.
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mechgrok import discovery
from mechgrok import interventions as ours
from mechgrok.config import models as configs
from mechgrok.interventions import variants
from mechgrok.interventions.ablation import record
from mechgrok.interventions.coverage import has_hooks
from mechgrok.interventions.node import Node, nodes
from mechgrok.interventions.patches import Patch, hooks, patches_from
from mechgrok.interventions.weight_parts import CLOSED_BY, UNITS

P = 5
PAIRS = torch.cartesian_prod(torch.arange(P), torch.arange(P))
TOKENS = torch.cat([PAIRS, torch.full((P * P, 1), P)], dim=1)
LABELS = PAIRS.sum(dim=1) % P
ROWS = ours.derangement(P * P, torch.Generator().manual_seed(1))
SMALL = {"d_model": 8, "n_heads": 2, "d_head": 4, "d_mlp": 16, "n_layers": 2, "L_cycles": 1}
MODELS = discovery.names("models")


def config_of(name: str) -> Any:
    """The config whose default `name` is this model's, made small and float64 where it can be."""
    kinds = {c for c in vars(configs).values() if isinstance(c, type) and hasattr(c, "name")}
    [kind] = [c for c in kinds if c().name == name]
    known = {field.name for field in fields(kind)}
    given = {**SMALL, "dtype": "float64"}
    return replace(kind(), **{key: value for key, value in given.items() if key in known})


def built(name: str, seed: int) -> Any:
    build = discovery.load("models", name)
    made = build(config_of(name), d_vocab=P + 1, n_ctx=3, d_vocab_out=P, seed=seed)
    return made.double().eval()


@pytest.fixture(scope="module", params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(name: str) -> Any:
    return built(name, seed=0)


@pytest.fixture(scope="module")
def donor(name: str) -> Any:
    """The same model at another initialisation."""
    return built(name, seed=1)


def everything(model: Any) -> list[Node]:
    """A node for every hook point that fires."""
    _, cache = model.run_with_cache(TOKENS)
    names = [name for name in model.hook_dict if name in cache.keys()]  # noqa: SIM118
    return [node for name in names for node in nodes(name).of(model, 3)]


def logits(model: Any, variant: Sequence[Patch] = (), tokens: Tensor = TOKENS) -> Tensor:
    """Logits at all positions of one variant, by the engine."""
    with torch.no_grad():
        return next(iter(variants.logits(model, tokens, [variant], (0, 1, 2))))


def plain(model: Any, tokens: Tensor = TOKENS) -> Tensor:
    with torch.no_grad():
        return model(tokens)


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_every_model_is_found() -> None:
    assert {"transformer"} <= set(MODELS)
    assert all(config_of(name).name == name for name in MODELS)


def test_no_patch_is_the_model_itself(model: Any) -> None:
    same(logits(model), plain(model))


def test_clean_into_clean_changes_nothing(model: Any) -> None:
    for node in everything(model):
        [patch] = patches_from(model, [node], TOKENS, TOKENS)
        same(logits(model, [patch]), plain(model))


def test_everything_patched_is_the_clean_run(model: Any) -> None:
    corrupted = TOKENS[ROWS]
    assert not torch.allclose(plain(model, corrupted), plain(model))  # the control
    patches = patches_from(model, everything(model), TOKENS, corrupted)
    same(logits(model, patches, corrupted), plain(model))


def test_each_patch_is_the_hooked_forward(model: Any) -> None:
    corrupted = TOKENS[ROWS]
    changed = 0
    for node in everything(model):
        [patch] = patches_from(model, [node], TOKENS, corrupted)
        found = logits(model, [patch], corrupted)
        with torch.no_grad(), model.hooks(fwd_hooks=hooks([patch])):
            same(found, model(corrupted))
        changed += not torch.allclose(found, plain(model, corrupted))
    assert changed > 5  # patches do something


SUMS = {
    "resid_mid": ("resid_pre", ("attn_out", "mix_out")),
    "resid_post": ("resid_mid", ("mlp_out",)),
}
"""What each stream is made of, the stream before and one sub-layer's output, in every family."""


def test_a_stream_is_made_of_the_sum_of_its_parts_alone(model: Any) -> None:
    """Moving one part by a step and the other back leaves it, in pre-LN, post-LN and TRM alike.

    That it is the sum itself, or which norm of it, is tested with each model.
    """
    _, cache = model.run_with_cache(TOKENS)
    names = [n for n in cache.keys() if n.rsplit("hook_", 1)[-1] in SUMS]  # noqa: SIM118
    assert {n.rsplit("hook_", 1)[-1] for n in names} == set(SUMS)
    for name in names:
        block, stream = name.rsplit("hook_", 1)
        before, words = SUMS[stream]
        [write] = [f"{block}hook_{w}" for w in words if f"{block}hook_{w}" in model.hook_dict]
        step = torch.randn(cache[name].shape, generator=torch.Generator().manual_seed(0)).double()
        moved = (f"{block}hook_{before}", lambda value, hook, step=step: value + step)
        given = cache[write] - step
        back = (write, lambda value, hook, given=given: given)
        same(streamed(model, name, [moved, back]), cache[name])
        assert not torch.allclose(streamed(model, name, [moved]), cache[name])  # the control


def streamed(model: Any, name: str, edits: Sequence[tuple[str, Any]]) -> Tensor:
    """An activation under edits."""
    seen: list[Tensor] = []
    with torch.no_grad(), model.hooks(fwd_hooks=[*edits, (name, lambda x, hook: seen.append(x))]):
        model(TOKENS)
    return seen[0]


def test_nothing_ablated_is_the_identity(model: Any) -> None:
    before = plain(model)
    with ours.ablate(model, [], "zero") as same_model:
        assert same_model is model
        assert torch.equal(plain(model), before)
    with ours.edit_frequencies(model, everything(model)[:1], [1, 2], "scale", scale=1.0):
        same(plain(model), before)


def test_a_predicted_linear_effect_is_the_hooked_one(model: Any) -> None:
    """What the unembedding reads is moved by a step; its weights say what that does to logits."""
    before, last = plain(model), last_stream(model)
    own = last.read(record(model, TOKENS, [last])[last.hook])
    step = torch.randn(own.shape, generator=torch.Generator().manual_seed(0), dtype=own.dtype)
    predicted = step @ model.unembed.W_U
    assert float(predicted.detach().abs().max()) > 0.1
    same(logits(model, [Patch(last, own + step)]) - before, predicted)


def units(model: Any) -> list[str]:
    """The groups, and the closed units that a model has: one may be without attention."""
    here = {name.rsplit(".", 1)[-1] for name, _ in model.named_parameters()}
    return ["embedding", "body", *(unit for unit in UNITS if here & set(UNITS[unit]))]


def test_a_transplanted_into_a_is_the_identity(model: Any) -> None:
    before = plain(model)
    assert "neuron" in units(model)
    for parts in [*units(model), "everything"]:
        with ours.transplant(model, from_=model, parts=parts) as same_model:
            assert same_model is model
            assert torch.equal(plain(model), before)


def test_everything_transplanted_is_the_donor(model: Any, donor: Any) -> None:
    assert not torch.allclose(plain(model), plain(donor))  # the control
    with ours.transplant(model, from_=donor, parts="everything"):
        assert torch.equal(plain(model), plain(donor))
    with ours.transplant(model, from_=donor, parts="embedding,body"):
        assert torch.equal(plain(model), plain(donor))


def test_there_and_back_restores_every_bit(model: Any, donor: Any) -> None:
    own = {name: p.detach().clone() for name, p in model.named_parameters()}
    before = plain(model)
    for parts in units(model):
        with ours.transplant(model, from_=donor, parts=parts):
            assert not torch.equal(plain(model), before)
            with ours.transplant(donor, from_=model, parts=parts):
                pass
        with pytest.raises(ZeroDivisionError), ours.transplant(model, from_=donor, parts=parts):
            raise ZeroDivisionError
        assert all(torch.equal(own[name], p) for name, p in model.named_parameters())
    assert torch.equal(plain(model), before)


def test_a_part_that_its_gauge_does_not_close_is_refused(model: Any, donor: Any) -> None:
    refused = {name.rsplit(".", 1)[-1] for name, _ in model.named_parameters()} & set(CLOSED_BY)
    assert {"W_in", "W_out"} <= refused
    for name in refused:
        with pytest.raises(ValueError, match=rf"take \(.*{name}.*\) together"):
            ours.transplant(model, from_=donor, parts=name)


def last_stream(model: Any) -> Node:
    """The last hook point before the unembedding."""
    for name in ("unembed.hook_in", "ln_final.hook_normalized"):
        if name in model.hook_dict:
            return nodes(name).of(model, 3)[0]
    return nodes("resid_post", layer=int(model.cfg.n_layers) - 1).of(model, 3)[0]


@pytest.mark.parametrize("kind", ["zero", "mean", "resample", "counterfactual"])
def test_no_hook_survives_a_with_also_after_an_exception(model: Any, kind: str) -> None:
    before = plain(model)
    given: dict[str, Any] = {}
    if kind == "resample":
        given["generator"] = torch.Generator().manual_seed(0)
    if kind == "counterfactual":
        given["source"] = TOKENS[ROWS]
    with ours.ablate(model, "embed", kind, **given):
        assert has_hooks(model)
        assert not torch.allclose(plain(model), before)
    assert not has_hooks(model)
    with pytest.raises(ZeroDivisionError), ours.ablate(model, "embed", kind, **given):
        raise ZeroDivisionError
    assert not has_hooks(model)
    with (
        pytest.raises(ValueError),
        ours.ablate(model, "embed", "counterfactual", source=TOKENS[:2]),
    ):
        plain(model)
    assert not has_hooks(model)
    assert torch.equal(plain(model), before)


def test_no_hook_survives_a_call_that_fails(model: Any) -> None:
    def fail(logits: Tensor) -> Tensor:
        raise ZeroDivisionError

    for at in (everything(model)[:3], everything(model)[-3:]):
        with pytest.raises(ZeroDivisionError):
            ours.patch(model, at, TOKENS, TOKENS[ROWS], fail)
        assert not has_hooks(model)
