"""The post-LN model against an independent plain-torch reference, and its noise."""

import math
from collections.abc import Mapping
from typing import Any

import _plain_grok as reference
import pytest
import torch
from torch import Tensor

from mechgrok.config import ConfigError, PostLNModel
from mechgrok.models.hooked import HookError
from mechgrok.models.post_ln import PostLN, build
from mechgrok.models.shared_prefix import answer_logits, answer_neurons, refusal
from mechgrok.models.transformer import n_parameters

BOUNDS = {"float32": 1e-5, "float64": 1e-10}
"""The issue's bounds, relative to the largest of the kind that is compared."""


def small(seed: int = 0, spread: float = 0.4, **fields: Any) -> PostLN:
    """A model of a few thousand parameters, all random, the normalisations' too."""
    sizes: dict[str, Any] = {"d_model": 12, "n_heads": 3, "d_mlp": 20, "dtype": "float64", **fields}
    model = build(PostLNModel(**sizes), d_vocab=9, n_ctx=6, d_vocab_out=7, seed=seed)
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".ln" in name:
                parameter.add_(torch.randn(parameter.shape, generator=chance) * spread)
    return model


def rows(seed: int = 0, n: int = 20) -> Tensor:
    """Equations: the first, third and fifth token are the same in every row."""
    drawn = torch.randint(9, (n, 6), generator=torch.Generator().manual_seed(seed))
    drawn[:, [0, 2, 4]] = torch.tensor([0, 3, 1])
    return drawn


TOKENS = rows()


def gradients(logits: Tensor, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of a random linear function of the logits."""
    chance = torch.Generator().manual_seed(1)
    way = torch.randn(logits.shape, generator=chance, dtype=logits.dtype)
    found = torch.autograd.grad((logits * way).sum(), list(weights.values()))
    return dict(zip(weights, found, strict=True))


def difference(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Largest difference, relative to the largest value."""
    scale = max(float(x.detach().abs().max()) for x in expected.values())
    worst = max(float((found[n] - x).detach().abs().max()) for n, x in expected.items())
    return worst / scale


def our_names(theirs: Mapping[str, Tensor], model: Any) -> dict[str, Tensor]:
    """Tensors under the original's names under ours: for gradients."""
    found = {"embed.W_E": theirs["embedding.weight"], "unembed.W_U": theirs["linear.weight"].T}
    for layer in range(model.cfg.n_layers):
        block, own = f"decoder.blocks.{layer}.", f"blocks.{layer}."
        for ours, name in (("W_Q", "Wq"), ("W_K", "Wk"), ("W_V", "Wv")):
            heads = [
                theirs[f"{block}self_attn.attn_heads.{head}.{name}.weight"].T
                for head in range(model.cfg.n_heads)
            ]
            found[f"{own}attn.{ours}"] = torch.stack(heads)
        joint = theirs[f"{block}self_attn.Wo.weight"].T
        found[f"{own}attn.W_O"] = joint.unflatten(0, (model.cfg.n_heads, -1))
        found[f"{own}mlp.W_in"] = theirs[f"{block}ffn.ffn.0.weight"].T
        found[f"{own}mlp.W_out"] = theirs[f"{block}ffn.ffn.2.weight"].T
        for ours, name in (("ln1", "self_attn_norm"), ("ln2", "ffn_norm")):
            found[f"{own}{ours}.w"] = theirs[f"{block}{name}.weight"]
            found[f"{own}{ours}.b"] = theirs[f"{block}{name}.bias"]
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("act_fn", ["relu", "gelu"])
@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_values_and_gradients_are_the_references(dtype: str, act_fn: str, n_layers: int) -> None:
    model = small(n_layers=n_layers, act_fn=act_fn, dtype=dtype)
    theirs = {n: x.requires_grad_() for n, x in reference.their_names(model).items()}
    expected = reference.forward(theirs, TOKENS, act_fn)
    found = model(TOKENS)
    assert found.dtype == getattr(torch, dtype)
    assert difference({"": found}, {"": expected}) < BOUNDS[dtype]
    ours = gradients(found, dict(model.named_parameters()))
    turned = our_names(gradients(expected, theirs), model)
    assert set(turned) == set(ours)
    assert difference(ours, turned) < BOUNDS[dtype]


def test_the_reference_tells_activations_and_positions_apart() -> None:
    model = small()
    theirs = reference.their_names(model)
    assert difference({"": model(TOKENS)}, {"": reference.forward(theirs, TOKENS, "gelu")}) > 1e-3
    swapped = TOKENS[:, [0, 3, 2, 1, 4, 5]]
    assert difference({"": model(swapped)}, {"": reference.forward(theirs, TOKENS)}) > 1e-3


def test_the_published_size_has_the_published_number_of_parameters() -> None:
    model = build(PostLNModel(), d_vocab=239, n_ctx=6, d_vocab_out=239, seed=0)
    # by hand: two embeddings 239*128, per block 4*128*128 + 2*128*512 and two norms of 2*128
    assert n_parameters(model) == 2 * 239 * 128 + 2 * (65_536 + 131_072 + 512) == 455_424
    assert sum(p.numel() for p in model.parameters()) == 455_424
    assert not [name for name in model.state_dict() if ".b_" in name]


def test_initial_weights_follow_torchs_defaults() -> None:
    model = build(PostLNModel(), d_vocab=239, n_ctx=6, d_vocab_out=239, seed=3)
    for name, weight in model.named_parameters():
        n = weight.numel()
        if name == "embed.W_E":
            # a sample standard deviation of n normal draws has relative error 1/sqrt(2n)
            assert abs(float(weight.detach().std()) - 1) < 5 / math.sqrt(2 * n)
        elif ".W_" in name:
            bound = 1 / math.sqrt(512 if name.endswith("W_out") else 128)
            top = float(weight.detach().abs().max())
            # the largest of n uniform draws misses the bound by a share of about 1/n
            assert bound * (1 - 20 / n) < top <= bound, name
            # a uniform law's standard deviation; its sample has relative error below 1/sqrt(2n)
            spread = float(weight.detach().std())
            assert abs(spread * math.sqrt(3) / bound - 1) < 5 / math.sqrt(2 * n), name
        else:
            assert bool((weight == (1.0 if name.endswith(".w") else 0.0)).all()), name


def test_every_block_normalises_what_it_adds_up() -> None:
    model = small(n_layers=2)
    model.set_use_attn_result(True)
    logits, cache = model.run_with_cache(TOKENS)

    def norm(layer: int, which: str, x: Tensor) -> Tensor:
        weights = dict(model.named_parameters())
        w, b = (weights[f"blocks.{layer}.{which}.{part}"] for part in "wb")
        scaled = (x - x.mean(-1, keepdim=True)) / cache["scale", layer, which]
        return scaled * w + b

    stream = cache["hook_embed"] + cache["hook_pos_embed"]
    for layer in range(2):
        assert torch.equal(cache["resid_pre", layer], stream)
        added = cache["resid_pre", layer] + cache["attn_out", layer]
        assert torch.equal(cache["resid_mid", layer], norm(layer, "ln1", added))
        heads = cache["result", layer].sum(2)
        torch.testing.assert_close(heads, cache["attn_out", layer], rtol=1e-12, atol=1e-12)
        added = cache["resid_mid", layer] + cache["mlp_out", layer]
        stream = norm(layer, "ln2", added)
        assert torch.equal(cache["resid_post", layer], stream)
        assert not torch.allclose(stream, added)  # the control: parts do not sum to the stream
    torch.testing.assert_close(logits, stream @ model.unembed.W_U, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "name", ["decompose_resid", "get_full_resid_decomposition", "apply_ln_to_stack", "logit_attrs"]
)
def test_sums_that_do_not_hold_are_refused(name: str) -> None:
    _, cache = small().run_with_cache(TOKENS)
    with pytest.raises(HookError, match="do not sum"):
        getattr(cache, name)()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("positions", [-1, [4, 5], [0, 3, 3]])
@pytest.mark.parametrize("act_fn", ["relu", "gelu"])
def test_answer_logits_are_the_hooked_forwards(
    dtype: str, n_layers: int, positions: Any, act_fn: str
) -> None:
    model = small(n_layers=n_layers, dtype=dtype, act_fn=act_fn)
    assert refusal(model) is None
    for tokens in (TOKENS, TOKENS[:1], TOKENS.repeat(2, 1)[torch.randperm(40)]):
        slow, fast = model(tokens)[:, positions], answer_logits(model, tokens, positions)
        assert fast.shape == slow.shape
        assert difference({"": fast}, {"": slow}) < BOUNDS[dtype]
        weights = dict(model.named_parameters())
        found, expected = gradients(fast, weights), gradients(slow, weights)
        assert difference(found, expected) < BOUNDS[dtype]
        neurons = model.run_with_cache(tokens)[1][f"blocks.{n_layers - 1}.mlp.hook_post"][:, 4]
        assert difference({"": answer_neurons(model, tokens, 4)}, {"": neurons}) < BOUNDS[dtype]


def test_a_planted_bug_in_the_fast_logits_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from mechgrok.models import post_ln_prefix

    model = small()
    slow = model(TOKENS)[:, -1]
    monkeypatch.setattr(post_ln_prefix, "_norm", lambda ln, x: ln(x) + ln.b)
    assert difference({"": answer_logits(model, TOKENS)}, {"": slow}) > 1e-3


NOISES: dict[str, dict[str, Any]] = {
    "dropout": {"dropout": 0.3},
    "weight noise": {"weight_noise": 0.1},
}


@pytest.mark.parametrize("kind", NOISES)
def test_noise_comes_from_the_given_generator_alone(kind: str) -> None:
    model, quiet = small(**NOISES[kind]), small()
    assert "training" in str(refusal(model))

    def logits(seed: int) -> Tensor:
        return answer_logits(model, TOKENS, [4, 5], torch.Generator().manual_seed(seed))

    before = torch.get_rng_state()
    assert torch.equal(logits(0), logits(0))
    assert not torch.equal(logits(0), logits(1))
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(ValueError, match=r"no global generator.*eval"):
        model(TOKENS)
    model.eval()
    assert refusal(model) is None
    assert torch.equal(model(TOKENS), quiet(TOKENS))


def test_without_noise_no_number_is_drawn() -> None:
    model, chance = small(), torch.Generator().manual_seed(0)
    before = chance.get_state()
    model(TOKENS, generator=chance)
    answer_logits(model, TOKENS, -1, chance)
    assert torch.equal(before, chance.get_state())


def test_dropout_zeroes_its_share_of_the_mlps_outputs_and_keeps_their_mean() -> None:
    model, quiet = small(dropout=0.3, n_layers=1), small(n_layers=1)
    tokens = rows(n=2000)
    _, noisy = model.run_with_cache(tokens, generator=torch.Generator().manual_seed(0))
    _, clean = quiet.run_with_cache(tokens)
    found, full = noisy["mlp_out", 0], clean["mlp_out", 0]
    dropped = found == 0
    n = found.numel()
    # five standard errors of a share of .3
    assert abs(float(dropped.double().mean()) - 0.3) < 5 * math.sqrt(0.21 / n)
    torch.testing.assert_close(found[~dropped], full[~dropped] / 0.7, rtol=1e-12, atol=1e-14)


def test_weight_noise_moves_every_weight_by_its_sigma_and_leaves_gradients() -> None:
    model = build(PostLNModel(weight_noise=0.05), d_vocab=40, n_ctx=6, d_vocab_out=40, seed=0)
    chance = torch.Generator().manual_seed(0)
    for name, weight in model._perturbed(chance).items():
        moved = (weight - dict(model.named_parameters())[name]).detach()
        n = moved.numel()
        assert abs(float(moved.std()) / 0.05 - 1) < 5 / math.sqrt(2 * n), name
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    model(TOKENS, generator=chance).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is not None
        assert bool(parameter.grad.any()), name


def test_hooks_fire_under_weight_noise() -> None:
    model, seen = small(weight_noise=0.1), []
    with model.hooks(fwd_hooks=[("blocks.0.mlp.hook_post", lambda x, hook: seen.append(x.shape))]):
        answer_logits(model, TOKENS, -1, torch.Generator())
    assert seen == [(20, 6, 20)]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"n_layers": 0}, "at least 1"),
        ({"n_heads": 5}, "not a multiple of model.n_heads = 5"),
        ({"dropout": 1.0}, "below 1"),
        ({"weight_noise": -0.1}, "at least 0"),
        ({"weight_noise": math.nan}, "at least 0"),
    ],
)
def test_impossible_models_are_named(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        small(**fields)
