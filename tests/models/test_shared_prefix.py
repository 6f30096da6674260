"""The fast logits equal the hooked forward's, values and gradients, or are that forward itself."""

import gc
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformer_lens import HookedTransformer, HookedTransformerConfig

from mechgrok.models import prefix_plan, prefix_rows, shared_prefix
from mechgrok.models.hooked import has_hooks
from mechgrok.models.prefix_plan import Source
from mechgrok.models.shared_prefix import answer_logits, answer_neurons, refusal
from mechgrok.models.transformer import make
from mechgrok.runs.run import Run

BOUNDS = {
    # float64 keeps 1e-16 a term; sums here have tens of terms, through up to three layers
    torch.float64: 1e-10,
    # the bound, relative to the largest logit
    torch.float32: 1e-5,
}

Config = dict[str, Any]


def model_of(seed: int, plain: bool = False, **fields: Any) -> HookedTransformer:
    """A model whose every parameter, biases and norms included, is random."""
    sizes: Config = {
        "n_layers": 1, "d_model": 8, "n_heads": 2, "d_head": 4, "d_mlp": 12, "n_ctx": 5,
        "d_vocab": 6, "d_vocab_out": 7, "act_fn": "gelu", "normalization_type": None,
        "device": "cpu", "dtype": torch.float64, "init_weights": False,
    }  # fmt: skip
    cfg = HookedTransformerConfig(**{**sizes, **fields})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = HookedTransformer(cfg) if plain else make(cfg)
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            draws = torch.randn(parameter.shape, generator=chance) * 0.4
            parameter.copy_(draws)
    return model


def gradients(model: HookedTransformer, logits: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Of a random linear function of the logits, so that no direction is left out."""
    model.zero_grad()
    (logits * weights).sum().backward()
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in model.named_parameters()
    }


def largest_difference(model: HookedTransformer, tokens: Tensor, positions: Any) -> float:
    """Of values, and of every parameter's gradient, relative to the largest of its kind."""
    slow = model(tokens)[:, positions]
    fast = answer_logits(model, tokens, positions)
    assert fast.shape == slow.shape
    weights = torch.randn(slow.shape, generator=torch.Generator().manual_seed(0), dtype=slow.dtype)
    expected = gradients(model, slow, weights)
    found = gradients(model, fast, weights)
    scale = max(float(g.abs().max()) for g in expected.values())
    worst = max(float((found[n] - expected[n]).abs().max()) for n in expected) / scale
    values = float((fast - slow).detach().abs().max() / slow.detach().abs().max())
    return max(values, worst)


def assert_equal(config: Config, batch: tuple[Tensor, Any], seed: int) -> None:
    """Within the bound of the model's type.

    Now and then a random model (unscaled attention, three layers, one row) amplifies float32
    rounding beyond it. Such a difference is tried again in float64, where only rounding
    shrinks by eight orders of magnitude; a mistake stays as it is.
    """
    difference = largest_difference(model_of(seed, **config), *batch)
    if config["dtype"] == torch.float32 and BOUNDS[torch.float32] <= difference < 1e-3:
        again = model_of(seed, **{**config, "dtype": torch.float64})
        assert largest_difference(again, *batch) < BOUNDS[torch.float64]
    else:
        assert difference < BOUNDS[config["dtype"]]


CONFIGS = st.fixed_dictionaries(
    {
        "n_layers": st.integers(1, 3),
        "n_heads": st.integers(1, 3),
        "normalization_type": st.sampled_from([None, "LN", "LNPre", "RMS", "RMSPre"]),
        "act_fn": st.sampled_from(["relu", "gelu", "gelu_new", "silu"]),
        "attn_only": st.booleans(),
        "use_attn_scale": st.booleans(),
        "scale_attn_by_inverse_layer_idx": st.booleans(),
        "use_split_qkv_input": st.booleans(),
        "use_attn_result": st.booleans(),
        "use_hook_mlp_in": st.booleans(),
        "dtype": st.sampled_from([torch.float64, torch.float32]),
    }
)


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, Any]:
    """Tokens with repeats or without, and one or several answer positions, from either end."""
    width = draw(st.integers(1, 5))
    values = st.integers(0, draw(st.integers(0, 5)))
    row = st.lists(values, min_size=width, max_size=width)
    rows = draw(st.lists(row, min_size=1, max_size=12))
    if draw(st.booleans()):
        rows = [[*r[:-1], 5] for r in rows]  # one answer token, as in the binary tasks
    positions = st.integers(-width, width - 1)
    return torch.tensor(rows), draw(positions | st.lists(positions, min_size=1, max_size=3))


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(config=CONFIGS, batch=batches(), seed=st.integers(0, 2**16))
def test_values_and_gradients_are_the_hooked_forwards(
    config: Config, batch: tuple[Tensor, Any], seed: int
) -> None:
    model = model_of(seed, **config)
    assert refusal(model) is None
    bound = BOUNDS[config["dtype"]]
    assert largest_difference(model, *batch) < bound


@pytest.mark.slow
@settings(max_examples=3_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(config=CONFIGS, batch=batches(), seed=st.integers(0, 2**16))
def test_many_values_and_gradients(config: Config, batch: tuple[Tensor, Any], seed: int) -> None:
    assert_equal(config, batch, seed)


ALL_PAIRS = torch.cartesian_prod(torch.arange(5), torch.arange(5), torch.tensor([5]))


@pytest.mark.parametrize("table", [0, 4, 10**9])
@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("repeats", [1, 3])
def test_every_way_to_the_scores_is_exact(
    table: int, n_layers: int, repeats: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No query-by-key table, the usual choice, and a table always."""
    monkeypatch.setattr(prefix_plan, "TABLE", table)
    tokens = ALL_PAIRS.repeat(repeats, 1)[torch.randperm(25 * repeats)]
    plan = prefix_plan.make_plan(tokens, (2,), n_layers, 6)
    tabled = [pair is not None for layer in plan.layers for g in layer for pair in g.pairs[:-1]]
    assert any(tabled) == (table > 0)
    assert all(tabled) or table <= 4
    assert largest_difference(model_of(0, n_layers=n_layers), tokens, -1) < BOUNDS[torch.float64]


def test_a_trained_checkpoint_keeps_its_logits(tiny_run: Run) -> None:
    checkpoint = tiny_run[-1]
    assert refusal(checkpoint.model) is None
    assert checkpoint.model.cfg.dtype == torch.float32
    assert largest_difference(checkpoint.model, checkpoint.task.tokens, -1) < BOUNDS[torch.float32]


@pytest.mark.parametrize("setting", ["none", "rotary", "hook"])
@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("normalization", [None, "LN"])
def test_neurons_are_the_last_blocks(
    setting: str, n_layers: int, normalization: str | None
) -> None:
    refused = REFUSED.get(setting, {})
    model = model_of(4, n_layers=n_layers, normalization_type=normalization, **refused)
    name = f"blocks.{n_layers - 1}.mlp.hook_post"
    expected = model.run_with_cache(ALL_PAIRS)[1][name]
    if setting == "hook":
        model.add_hook("hook_embed", lambda value, hook: value * 1)
    for position in (-1, 0):
        found = answer_neurons(model, ALL_PAIRS, position)
        # float64 sums in another order
        torch.testing.assert_close(found, expected[:, position], rtol=1e-10, atol=1e-12)


def test_a_model_without_mlp_has_no_neurons() -> None:
    with pytest.raises(ValueError, match="no neurons"):
        answer_neurons(model_of(0, attn_only=True), ALL_PAIRS)


@pytest.mark.parametrize("n_layers", [1, 2])
def test_every_distinct_row_is_computed_once(n_layers: int) -> None:
    plan = prefix_plan.make_plan(ALL_PAIRS.repeat(3, 1), (2,), n_layers, 6)
    assert len(plan.tokens) == 5 + 5 + 1
    leaving = [[len(group.query.index) if group.query.index is not None else group.query.size
                for group in layer] for layer in plan.layers]  # fmt: skip
    prefixes = [5, 25, 25]  # distinct (a), (a, b), (a, b, =)
    if n_layers == 2:
        assert leaving[0] == prefixes
    assert leaving[-1] == prefixes[2:]


BUGS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "another row's value": lambda patch: patch.setattr(
        prefix_rows,
        "_take",
        _wrong_take,
    ),
    "unscaled scores": lambda patch: patch.setattr(
        prefix_rows, "_scores", lambda *args: 2 * _SCORES(*args)
    ),
    "no attention bias": lambda patch: patch.setattr(
        prefix_rows, "heads", lambda x, W, b: _HEADS(x, W, torch.zeros_like(b))
    ),
    "detached values": lambda patch: patch.setattr(
        prefix_rows, "heads", lambda x, W, b: _HEADS(x, W.detach(), b)
    ),
}
_TAKE, _SCORES, _HEADS = prefix_rows._take, prefix_rows._scores, prefix_rows.heads


def _wrong_take(x: Tensor, source: Source) -> Tensor:
    if source.index is None:
        return _TAKE(x, source)
    return _TAKE(x, replace(source, index=source.index.roll(1)))


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_seen(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(0, n_layers=2)
    assert largest_difference(model, ALL_PAIRS, -1) < BOUNDS[torch.float64]
    BUGS[bug](monkeypatch)
    assert largest_difference(model, ALL_PAIRS, -1) > 1e-3


REFUSED: dict[str, Config] = {
    "rotary": {"positional_embedding_type": "rotary", "rotary_dim": 4},
    "alibi": {"positional_embedding_type": "alibi"},
    "shortformer": {"positional_embedding_type": "shortformer"},
    "parallel": {"parallel_attn_mlp": True, "normalization_type": "LN"},
    "gated": {"gated_mlp": True},
    "bidirectional": {"attention_dir": "bidirectional"},
    "score cap": {"attn_scores_soft_cap": 5.0},
    "logit cap": {"output_logits_soft_cap": 5.0},
    "local attention": {"use_local_attn": True, "attn_types": ["local"], "window_size": 2},
    "solu_ln": {"act_fn": "solu_ln", "normalization_type": "LN"},
    "post norm": {"use_normalization_before_and_after": True, "normalization_type": "RMS"},
    "norm of embedding": {"post_embedding_ln": True, "normalization_type": "LN"},
    "query-key norm": {"use_qk_norm": True, "normalization_type": "RMS"},
    "grouped heads": {"n_key_value_heads": 1},
    "bfloat16": {"dtype": torch.bfloat16},
}


@pytest.mark.parametrize("setting", REFUSED)
def test_a_setting_not_covered_takes_the_hooked_forward(setting: str) -> None:
    model = model_of(1, **REFUSED[setting])
    assert refusal(model)
    expected = model(ALL_PAIRS)
    assert torch.equal(answer_logits(model, ALL_PAIRS), expected[:, -1])
    assert torch.equal(answer_logits(model, ALL_PAIRS, [0, -1]), expected[:, [0, 2]])


@pytest.mark.parametrize("setting", ["bidirectional", "score cap", "logit cap", "local attention"])
def test_without_the_refusal_the_logits_would_be_wrong(
    setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: each refusal is needed."""
    model = model_of(1, n_layers=2, **REFUSED[setting] | (
        {"attn_types": ["local", "global"]} if setting == "local attention" else {}
    ))  # fmt: skip
    monkeypatch.setattr(shared_prefix, "refusal", lambda model: None)
    assert largest_difference(model, ALL_PAIRS, -1) > 1e-6


def test_a_subclass_or_a_cast_model_is_refused() -> None:
    class Other(HookedTransformer):
        """Its forward may do anything."""

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = Other(model_of(0).cfg)
        half = model_of(0).to(torch.bfloat16)
    assert "Other" in str(refusal(other))
    assert refusal(half)


def test_a_plain_hooked_transformer_is_covered() -> None:
    model = model_of(2, plain=True, n_layers=2, normalization_type="LN")
    assert type(model) is HookedTransformer
    assert refusal(model) is None
    assert largest_difference(model, ALL_PAIRS, [-1, 0]) < BOUNDS[torch.float64]


@pytest.mark.parametrize("name", ["hook_embed", "blocks.0.attn.hook_z", "blocks.0.mlp.hook_post"])
def test_an_attached_hook_fires_and_acts(name: str) -> None:
    model = model_of(3)
    fired: list[str] = []

    def halve(value: Tensor, hook: Any) -> Tensor:
        fired.append(hook.name)
        return value / 2

    untouched = answer_logits(model, ALL_PAIRS)
    with model.hooks(fwd_hooks=[(name, halve)]):
        inside = answer_logits(model, ALL_PAIRS)
        assert torch.equal(inside, model(ALL_PAIRS)[:, -1])
    assert fired == [name, name]
    assert not torch.allclose(inside, untouched)
    assert torch.equal(answer_logits(model, ALL_PAIRS), untouched)
    assert not has_hooks(model)


def test_a_backward_hook_fires() -> None:
    model = model_of(3)
    seen: list[Tensor] = []
    with model.hooks(
        bwd_hooks=[("blocks.0.hook_resid_mid", lambda value, hook: seen.append(value))]
    ):
        answer_logits(model, ALL_PAIRS).sum().backward()
    assert [value.shape for value in seen] == [(25, 3, 8)]


@pytest.fixture
def plans_made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for every plan that is computed."""
    made: list[int] = []
    real = prefix_plan.make_plan

    def counted(*args: Any) -> Any:
        made.append(1)
        return real(*args)

    monkeypatch.setattr(prefix_plan, "make_plan", counted)
    return made


def test_a_plan_is_computed_once_per_token_set(plans_made: list[int]) -> None:
    model, tokens = model_of(0), ALL_PAIRS.clone()
    first = answer_logits(model, tokens)
    assert torch.equal(answer_logits(model, tokens), first)
    assert torch.equal(answer_logits(model, tokens, [2])[:, 0], first)
    assert len(plans_made) == 1
    answer_logits(model, tokens, 0)
    answer_logits(model_of(0, n_layers=2), tokens)
    answer_logits(model, tokens.clone())
    assert len(plans_made) == 4


def test_writing_to_the_tokens_makes_a_new_plan(plans_made: list[int]) -> None:
    model, tokens = model_of(0), ALL_PAIRS.clone()
    answer_logits(model, tokens)
    tokens[:, 0] = (tokens[:, 0] + 1) % 5
    assert largest_difference(model, tokens, -1) < BOUNDS[torch.float64]
    tokens[3:6].fill_(2)  # through a view
    assert largest_difference(model, tokens, -1) < BOUNDS[torch.float64]
    assert len(plans_made) == 3


def test_a_plan_dies_with_its_tokens() -> None:
    gc.collect()
    before = len(prefix_plan._plans)
    tokens = ALL_PAIRS.clone()
    answer_logits(model_of(0), tokens)
    assert len(prefix_plan._plans) == before + 1
    del tokens
    gc.collect()
    assert len(prefix_plan._plans) == before


def test_inference_mode_is_covered() -> None:
    model = model_of(0)
    expected = model(ALL_PAIRS)[:, -1].detach()
    with torch.inference_mode():
        found = answer_logits(model, ALL_PAIRS.clone())
    assert float((found - expected).abs().max()) < BOUNDS[torch.float64] * float(
        expected.abs().max()
    )


def test_int32_tokens_give_the_same_logits() -> None:
    model = model_of(0)
    assert torch.equal(answer_logits(model, ALL_PAIRS.int()), answer_logits(model, ALL_PAIRS))


@pytest.mark.parametrize(
    ("tokens", "positions", "said"),
    [
        (torch.tensor([[0, 6]]), -1, "expected 0..5"),
        (torch.tensor([[0, -1]]), -1, "from -1"),
        (torch.zeros(1, 6, dtype=torch.long), -1, "at most 5"),
        (torch.zeros(0, 3, dtype=torch.long), -1, "empty"),
        (torch.tensor([[0, 1]]), 2, "answer positions"),
        (torch.tensor([[0, 1]]), -3, "answer positions"),
        (torch.tensor([[0, 1]]), [0, 2], "answer positions"),
        (torch.tensor([[0, 1]]), [], "answer positions"),
    ],
)
@pytest.mark.parametrize("setting", ["none", "rotary"])
def test_tokens_and_positions_that_do_not_exist(
    tokens: Tensor, positions: Any, said: str, setting: str
) -> None:
    model = model_of(0, **REFUSED.get(setting, {}))
    with pytest.raises(ValueError, match=said):
        answer_logits(model, tokens, positions)
