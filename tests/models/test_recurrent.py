"""Blocks run several times: the same weights, hook points of their own, GPT-2's initialisation."""

import math
from typing import Any

import pytest
import torch

from mechgrok.config import ConfigError, TransformerModel
from mechgrok.models.shared_prefix import answer_logits, refusal
from mechgrok.models.transformer import build

TOKENS = torch.randint(7, (6, 4), generator=torch.Generator().manual_seed(0))


def small(passes: int, n_layers: int = 2, **fields: Any) -> Any:
    sizes = {"d_model": 8, "n_heads": 2, "d_head": 4, "d_mlp": 16, "dtype": "float64"}
    kind = {"normalization": "LN", "act_fn": "gelu_new", "init": "gpt2", "trained_biases": "all"}
    config = TransformerModel(passes=passes, n_layers=n_layers, **{**sizes, **kind, **fields})
    return build(config, d_vocab=7, n_ctx=4, d_vocab_out=7, seed=0)


def test_two_passes_are_the_blocks_run_twice() -> None:
    once, twice = small(1), small(2)
    assert dict(once.named_parameters()).keys() == dict(twice.named_parameters()).keys()
    x = once.embed(TOKENS) + once.pos_embed(TOKENS)
    _, cache = twice.run_with_cache(TOKENS)
    for i in range(4):
        assert torch.equal(cache["resid_pre", i], x)
        x = once.blocks[i % 2](x)
    expected = once.unembed(once.ln_final(x))
    assert torch.equal(twice(TOKENS), expected)
    assert not torch.allclose(twice(TOKENS), once(TOKENS))  # the control


def test_a_weight_has_the_gradient_of_both_passes_also_in_the_fast_logits() -> None:
    twice, longer = small(2), small(1, n_layers=4)
    with torch.no_grad():
        for name, weight in longer.named_parameters():
            own = name.replace("blocks.2", "blocks.0").replace("blocks.3", "blocks.1")
            weight.copy_(twice.get_parameter(own))
    assert refusal(twice) is None
    for of in (lambda model: model(TOKENS)[:, -1], lambda model: answer_logits(model, TOKENS)):
        one, two = twice.blocks[0].mlp.W_in, [longer.blocks[i].mlp.W_in for i in (0, 2)]
        (shared,) = torch.autograd.grad(of(twice).square().sum(), one)
        apart = torch.autograd.grad(of(longer).square().sum(), two)
        assert bool(apart[1].any())
        # float64 sums in another order
        torch.testing.assert_close(shared, apart[0] + apart[1], rtol=1e-10, atol=1e-12)


def test_gpt2s_initialisation_counts_blocks_with_weights_of_their_own() -> None:
    model = small(2, d_model=64, n_heads=4, d_head=16, d_mlp=256)
    for name, weight in model.named_parameters():
        if ".W_" in name:
            std = 0.02 / (2 if name.endswith(("W_O", "W_out")) else 1)  # sqrt(2 * 2 blocks)
            # five standard errors of a sample standard deviation
            relative = float(weight.detach().std()) / std - 1
            assert abs(relative) < 5 / math.sqrt(2 * weight.numel()), name


def test_no_pass_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.passes = 0; expected at least 1"):
        small(0)
