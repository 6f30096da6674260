"""What every model file owes: found by name, so that a new file is held to it by being there."""

import typing
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformer_lens import HookedRootModule

from mechgrok import discovery
from mechgrok.config import ModelConfig
from mechgrok.models.hooked import HookError, has_hooks, hook_names, hook_table
from mechgrok.models.shared_prefix import answer_logits

KINDS = {kind().name: kind for kind in typing.get_args(ModelConfig)}
TOKENS = torch.cartesian_prod(torch.arange(5), torch.arange(5), torch.tensor([5]))
FLAGS = ("attn_result", "attn_in", "split_qkv_input", "hook_mlp_in")
"""TransformerLens's switches of hook points that are off by default."""
UNREAD = ("halt.hook_halt",)
"""Hook points behind which no logit is computed."""


def model(name: str, seed: int = 0) -> Any:
    """The smallest sensible model of a file, in float64."""
    wanted = {"d_model": 8, "n_heads": 2, "d_head": 4, "d_mlp": 12, "n_layers": 2, "L_cycles": 1}
    known = KINDS[name].__dataclass_fields__
    sizes = {field: size for field, size in wanted.items() if field in known}
    config = KINDS[name](**sizes, dtype="float64")
    build = discovery.load("models", name)
    return build(config, d_vocab=6, n_ctx=3, d_vocab_out=6, seed=seed)


NAMES = discovery.names("models")
every_model = pytest.mark.parametrize("name", NAMES)


def test_every_model_file_has_settings_and_the_other_way_round() -> None:
    assert set(NAMES) == set(KINDS)
    assert {"transformer", "post_ln"} <= set(NAMES)


@every_model
def test_the_same_seed_builds_the_same_weights(name: str) -> None:
    one, two, other = (dict(model(name, seed).named_parameters()) for seed in (3, 3, 4))
    assert all(torch.equal(one[n], two[n]) for n in one)
    random = [n for n in one if ".W_" in n]
    assert random
    assert not any(torch.equal(one[n], other[n]) for n in random)


@every_model
def test_nothing_global_is_reseeded_or_drawn_from(name: str) -> None:
    def state() -> tuple[list[int], str]:
        return torch.get_rng_state().tolist(), str(np.random.get_state())

    before = state()
    built = model(name)
    built(TOKENS)
    built.run_with_cache(TOKENS)
    answer_logits(built, TOKENS)
    assert state() == before


@every_model
def test_every_hook_point_is_cached_and_has_a_meaning(name: str) -> None:
    built = model(name)
    assert isinstance(built, HookedRootModule)
    seen: set[str] = set()
    for flags in (FLAGS[:1], FLAGS[1:2], FLAGS[2:]):  # some exclude each other
        for flag in FLAGS:
            if (switch := getattr(built, f"set_use_{flag}", None)) is not None:
                switch(flag in flags)
        logits, cache = built.run_with_cache(TOKENS)
        torch.testing.assert_close(logits, built(TOKENS), rtol=1e-12, atol=1e-12)
        seen |= set(cache.keys())
    assert seen == set(built.hook_dict) == set(hook_names(built, None))
    assert all(meaning for _, _, meaning in hook_table(built, TOKENS))


@every_model
def test_an_unknown_hook_is_refused_with_the_nearest(name: str) -> None:
    built = model(name)
    for attempt in (
        lambda: built.run_with_cache(TOKENS, names_filter="blocks.0.hook_resid_pst"),
        lambda: built.run_with_hooks(TOKENS, fwd_hooks=[("hook_embd", lambda x, hook: None)]),
        lambda: built.add_hook("nothing", lambda x, hook: None),
    ):
        with pytest.raises(HookError, match=r"unknown hook .*nearest"):
            attempt()
        assert not has_hooks(built)


@every_model
def test_a_hook_fires_acts_and_is_gone_afterwards(name: str) -> None:
    built = model(name)
    before, cached = built(TOKENS), built.run_with_cache(TOKENS)[1]
    for point in hook_names(built, lambda n: n in cached and n not in UNREAD):
        fired: list[str] = []

        def shift(value: Tensor, hook: Any, fired: list[str] = fired) -> Tensor:
            fired.append(hook.name)
            return value + torch.arange(value.numel(), dtype=value.dtype).view(value.shape) % 3

        with built.hooks(fwd_hooks=[(point, shift)]):
            inside = answer_logits(built, TOKENS)
        assert fired == [point]
        assert not torch.allclose(inside, before[:, -1]), point
        assert not has_hooks(built)
    assert torch.equal(built(TOKENS), before)


@every_model
def test_a_hook_that_must_fire_and_does_not_is_an_error(name: str) -> None:
    built = model(name)
    off = set(built.hook_dict) - set(built.run_with_cache(TOKENS)[1].keys())
    for point in off:
        with pytest.raises(HookError, match="never fired"):
            built.run_with_hooks(TOKENS, fwd_hooks=[(point, lambda x, hook: None)])
        with pytest.raises(HookError, match="never fired"):
            built.run_with_cache(TOKENS, names_filter=point)


@every_model
@pytest.mark.parametrize("positions", [-1, [0, 2]])
def test_answer_logits_are_the_hooked_forwards(name: str, positions: Any) -> None:
    built = model(name)
    expected, found = built(TOKENS)[:, positions], answer_logits(built, TOKENS, positions)
    # float64 sums of tens of terms in another order
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    weights = [p for p in built.parameters() if p.requires_grad]
    way = torch.randn(expected.shape, generator=torch.Generator().manual_seed(0)).double()
    slow = torch.autograd.grad((expected * way).sum(), weights, materialize_grads=True)
    fast = torch.autograd.grad((found * way).sum(), weights, materialize_grads=True)
    assert sum(bool(gradient.any()) for gradient in slow) > len(weights) / 2
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@every_model
@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (torch.tensor([[0, 1, 6]]), "expected 0..5"),
        (torch.tensor([[0, 1, 2, 3]]), "at most 3"),
        (torch.zeros(0, 3, dtype=torch.long), "empty"),
    ],
)
def test_tokens_that_do_not_fit_are_named(name: str, tokens: Tensor, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        model(name)(tokens)
