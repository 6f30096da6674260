"""Hooks that cannot fail silently, models that are built alike, and sums that are exact."""

import math
import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformer_lens import HookedTransformer

from mechgrok.config import ConfigError, TransformerModel
from mechgrok.models.hooked import MEANINGS, HookError, has_hooks, hook_names, hook_table
from mechgrok.models.transformer import Transformer, build, n_parameters
from mechgrok.presets import preset
from mechgrok.tasks.binary import Task

TOKENS = torch.cartesian_prod(torch.arange(7), torch.arange(7), torch.tensor([7]))


def small(seed: int = 0, **fields: Any) -> Transformer:
    """A model of a few hundred parameters."""
    sizes = {"d_model": 8, "n_heads": 2, "d_head": 4, "d_mlp": 16, **fields}
    return build(TransformerModel(**sizes), d_vocab=8, n_ctx=3, d_vocab_out=8, seed=seed)


def keep(value: Tensor, hook: Any) -> None:
    """A hook that changes nothing."""


def test_the_cache_is_transformer_lenss_own() -> None:
    model = small(n_layers=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        reference = HookedTransformer(model.cfg)
    reference.load_state_dict(model.state_dict())
    plain = reference.run_with_cache(TOKENS)[1]
    logits, cache = model.run_with_cache(TOKENS)
    assert list(cache.keys()) == list(plain.keys())
    assert all(torch.equal(cache[name], plain[name]) for name in plain)
    assert torch.equal(logits, model(TOKENS))
    assert cache["resid_post", 1].shape == (49, 3, 8)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("blocks.0.hook_resid_mid", ["blocks.0.hook_resid_mid"]),
        (["hook_embed", "blocks.0.mlp.hook_post"], ["hook_embed", "blocks.0.mlp.hook_post"]),
        (lambda name: name.endswith("hook_pattern"), ["blocks.0.attn.hook_pattern"]),
    ],
)
def test_a_filter_keeps_what_it_names(names: Any, expected: list[str]) -> None:
    _, cache = small().run_with_cache(TOKENS, names_filter=names)
    assert sorted(cache.keys()) == sorted(expected)


def test_backward_caches_pass_the_filter() -> None:
    model = small()
    _, cache = model.run_with_cache(
        TOKENS, names_filter=["hook_embed"], return_type="loss", loss_per_token=False, incl_bwd=True
    )
    assert sorted(cache.keys()) == ["hook_embed", "hook_embed_grad"]


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("blocks.0.hook_resid_pst", "blocks.0.hook_resid_post"),
        ("blocks.1.hook_resid_post", "blocks.0.hook_resid_post"),
        ("hook_embd", "hook_embed"),
        ("blocks.0.attn.hook_patern", "blocks.0.attn.hook_pattern"),
    ],
)
def test_an_unknown_name_lists_the_nearest(wrong: str, nearest: str) -> None:
    model = small()
    attempts: list[Callable[[], Any]] = [
        lambda: model.run_with_cache(TOKENS, names_filter=wrong),
        lambda: model.run_with_cache(TOKENS, names_filter=["hook_embed", wrong]),
        lambda: model.run_with_hooks(TOKENS, fwd_hooks=[(wrong, keep)]),
        lambda: model.run_with_hooks(TOKENS, bwd_hooks=[(wrong, keep)]),
        lambda: model.hooks(fwd_hooks=[(wrong, keep)]).__enter__(),
    ]
    for attempt in attempts:
        with pytest.raises(HookError, match=re.escape(repr(nearest))):
            attempt()
        assert not has_hooks(model)


def test_a_filter_that_selects_nothing_is_an_error() -> None:
    model = small()
    with pytest.raises(HookError, match="selects none"):
        model.run_with_cache(TOKENS, names_filter=lambda name: "hook_rezid" in name)
    with pytest.raises(HookError, match="selects none"):
        model.run_with_hooks(TOKENS, fwd_hooks=[(lambda name: False, keep)])


def test_an_empty_list_of_names_is_not_all_of_them() -> None:
    """TransformerLens keeps nothing for []; it must not become every hook point."""
    _, cache = small().run_with_cache(TOKENS, names_filter=[])
    assert list(cache.keys()) == []


def test_a_hook_behind_a_flag_that_is_off_is_an_error() -> None:
    model = small()
    name = "blocks.0.attn.hook_result"
    with pytest.raises(HookError, match=r"never fired.*set_use_attn_result"):
        model.run_with_cache(TOKENS, names_filter=name)
    with pytest.raises(HookError, match=r"never fired.*hook_result"):
        model.run_with_hooks(TOKENS, fwd_hooks=[("hook_embed", keep), (name, keep)])
    with pytest.raises(HookError, match="never fired"):
        with model.hooks(fwd_hooks=[("hook_embed", keep)]):
            pass
    assert not has_hooks(model)
    model.set_use_attn_result(True)
    assert model.run_with_cache(TOKENS, names_filter=name)[1][name].shape == (49, 3, 2, 8)
    model.run_with_hooks(TOKENS, fwd_hooks=[(name, keep)])


def test_a_hook_changes_the_output_and_is_gone_afterwards() -> None:
    model = small()
    before = model(TOKENS)
    zero: Any = lambda value, hook: torch.zeros_like(value)  # noqa: E731
    changed = model.run_with_hooks(TOKENS, fwd_hooks=[("hook_embed", zero)])
    # without embeddings every row of a position is alike
    assert torch.equal(changed, changed[:1].expand_as(changed))
    assert not torch.equal(changed, before)
    assert torch.equal(model(TOKENS), before)


def test_an_exception_removes_the_hook() -> None:
    model = small()

    def fail(value: Tensor, hook: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        model.run_with_hooks(TOKENS, fwd_hooks=[("hook_embed", fail)])
    assert not has_hooks(model)
    with pytest.raises(ZeroDivisionError):
        with model.hooks(fwd_hooks=[("hook_embed", keep)]):
            raise ZeroDivisionError
    assert not has_hooks(model)
    model.run_with_cache(TOKENS)


def test_has_hooks_sees_every_kind() -> None:
    attachments: list[Callable[[Transformer], Any]] = [
        lambda m: m.add_hook("blocks.0.mlp.hook_post", keep),
        lambda m: m.add_hook("blocks.0.mlp.hook_post", keep, dir="bwd"),
        lambda m: m.blocks[0].mlp.register_forward_hook(lambda *_: None),
        lambda m: m.embed.register_forward_pre_hook(lambda *_: None),
        lambda m: m.unembed.register_full_backward_hook(lambda *_: None),
        lambda m: m.unembed.register_full_backward_pre_hook(lambda *_: None),
    ]
    for attach in attachments:
        model = small()
        assert not has_hooks(model)
        attach(model)
        assert has_hooks(model)


def test_the_hook_table_names_every_point_with_shape_and_meaning() -> None:
    model = small()
    table = {name: (shape, meaning) for name, shape, meaning in hook_table(model, TOKENS)}
    assert list(table) == list(model.hook_dict) == hook_names(model, None)
    assert table["blocks.0.hook_resid_mid"] == ("[49, 3, 8]", MEANINGS["hook_resid_mid"])
    assert "flag" in table["blocks.0.attn.hook_result"][0]
    of_blocks = [meaning for name, (_, meaning) in table.items() if name.startswith("blocks")]
    assert all(of_blocks)


@pytest.mark.parametrize("normalization", [None, "LN", "LNPre", "RMS", "RMSPre"])
def test_same_seed_same_model(normalization: str | None) -> None:
    def weights(seed: int) -> dict[str, Tensor]:
        return dict(
            small(seed, normalization=normalization, trained_biases="all").named_parameters()
        )

    one, two, other = weights(3), weights(3), weights(4)
    assert all(torch.equal(one[name], two[name]) for name in one)
    random = [name for name in one if ".W_" in name]
    assert not any(torch.equal(one[name], other[name]) for name in random)
    assert all(torch.equal(one[name], other[name]) for name in one if name not in random)


def test_float64_weights_are_the_float32_draws() -> None:
    single, double = small(), small(dtype="float64")
    for (name, a), (_, b) in zip(single.named_parameters(), double.named_parameters(), strict=True):
        assert b.dtype == torch.float64, name
        assert torch.equal(a.double().float(), b.float()), name


@pytest.mark.parametrize(
    ("name", "count"),
    [
        # by hand: W_E 114*128, W_U 128*114, W_pos 3*128, attention 4*128*128, W_in and W_out
        # 2*128*512, b_in 512, b_out 128
        ("nanda2023_mainline", 114 * 128 * 2 + 384 + 65_536 + 131_072 + 640),
        # by hand: all biases frozen, 113 output classes
        ("tl_grokking_demo", 114 * 128 + 128 * 113 + 384 + 65_536 + 131_072),
    ],
)
def test_trained_parameters_are_counted(name: str, count: int) -> None:
    config = preset(name)
    task = Task.make(config.task, config.seeds)
    model = build(
        config.model, d_vocab=task.d_vocab, n_ctx=task.n_ctx, d_vocab_out=task.d_vocab_out, seed=0
    )
    assert n_parameters(model) == count
    assert count == {"nanda2023_mainline": 226_816, "tl_grokking_demo": 226_048}[name]  # published


@pytest.mark.parametrize(
    ("biases", "frozen"),
    [("none", r"\.b_"), ("mlp", r"attn\.b_|unembed\.b_"), ("all", r"$^")],
)
def test_biases_start_at_zero_and_are_frozen_by_name(biases: str, frozen: str) -> None:
    for name, parameter in small(trained_biases=biases).named_parameters():
        assert parameter.requires_grad == (re.search(frozen, name) is None), name
        if ".b_" in name:
            assert not parameter.any(), name


@pytest.mark.parametrize("init", ["nanda2023", "tl3"])
def test_initial_weights_have_the_published_spread(init: str) -> None:
    model = build(TransformerModel(init=init), d_vocab=114, n_ctx=3, d_vocab_out=113, seed=0)
    published = {"nanda2023": 1 / math.sqrt(128), "tl3": 0.8 / math.sqrt(128)}[init]
    for name, weight in model.state_dict().items():
        if ".W_" in name:
            expected = published
            if init == "nanda2023" and name == "unembed.W_U":
                expected = 1 / math.sqrt(114)  # of the input vocabulary, as released
            n = weight.numel()
            # a sample standard deviation of n draws has relative error 1/sqrt(2n); five of them
            assert abs(float(weight.std()) / expected - 1) < 5 / math.sqrt(2 * n), name
            assert abs(float(weight.mean())) < 5 * expected / math.sqrt(n), name


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"init": "gpt3"}, "expected one of"),
        ({"act_fn": "rleu"}, "expected one of"),
        ({"act_fn": "solu_ln"}, "expected one of"),
        ({"n_layers": 0}, "at least 1"),
        ({"d_head": 0}, "at least 1"),
        ({"d_mlp": -1}, "at least 1"),
    ],
)
def test_impossible_models_are_named(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        small(**fields)


def test_mps_is_refused() -> None:
    with pytest.raises(ConfigError, match="silently wrong"):
        build(TransformerModel(), d_vocab=8, n_ctx=3, d_vocab_out=8, seed=0, device="mps")


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (torch.tensor([[0, 1, 8]]), "expected 0..7"),
        (torch.tensor([[0, -1, 7]]), "from -1"),
        (torch.tensor([[0, 1, 2, 3]]), "at most 3"),
        (torch.zeros(0, 3, dtype=torch.long), "empty"),
    ],
)
def test_tokens_that_do_not_fit_are_named(tokens: Tensor, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        small()(tokens)


def test_residual_parts_sum_to_the_stream_and_the_logits() -> None:
    model = small(n_layers=2, dtype="float64", trained_biases="all")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(parameter.numel()))
    logits, cache = model.run_with_cache(TOKENS)
    stream = cache["hook_embed"] + cache["hook_pos_embed"]
    for layer in range(2):
        assert torch.equal(cache["resid_pre", layer], stream)
        stream = stream + cache["attn_out", layer]
        assert torch.equal(cache["resid_mid", layer], stream)
        stream = stream + cache["mlp_out", layer]
        assert torch.equal(
            cache["resid_post", layer], stream
        )  # the same additions: not a bit differs
    # a matrix product, summed in another order: float64 rounding of sums of 8 terms
    torch.testing.assert_close(logits, stream @ model.W_U + model.b_U, rtol=1e-12, atol=1e-12)
    without_mlp = stream - cache["mlp_out", 1]
    assert not torch.allclose(logits, without_mlp @ model.W_U + model.b_U)  # the control


@pytest.mark.parametrize("normalization", ["LN", "LNPre", "RMS", "RMSPre"])
def test_pre_norm_parts_sum_to_the_stream(normalization: str) -> None:
    model = small(n_layers=2, dtype="float64", normalization=normalization)
    _, cache = model.run_with_cache(TOKENS)
    parts = cache["hook_embed"] + cache["hook_pos_embed"]
    for layer in range(2):
        parts = parts + cache["attn_out", layer] + cache["mlp_out", layer]
    # five terms added in another order
    torch.testing.assert_close(parts, cache["resid_post", 1], rtol=1e-13, atol=1e-13)
