"""Weights under openai/grok's own names: they compute what an independent forward does, or are
refused by the name of what is different."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _plain_grok as reference
import numpy as np
import pytest
import torch
from torch import Tensor

from mechgrok.config import PostLNModel
from mechgrok.models.post_ln import PostLN, build
from mechgrok.models.published import PublishedError, load_openai_grok

TOKENS = torch.randint(9, (10, 6), generator=torch.Generator().manual_seed(0))


def saved(dtype: Any = "float64", **fields: Any) -> dict[str, Tensor]:
    """A state dict as the original saves it, its two buffers included."""
    config = PostLNModel(d_model=12, n_heads=3, d_mlp=20, dtype=dtype, **fields)
    model = build(config, d_vocab=9, n_ctx=6, d_vocab_out=9, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator()) * 0.1)
    kind = next(model.parameters()).dtype
    return reference.their_names(model) | {
        "position_encoding": reference.positions(50, 12).to(kind),
        "self_attn_mask": torch.ones(50, 50, dtype=kind).tril(),
    }


@pytest.mark.parametrize("act_fn", ["relu", "gelu"])
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("float64", 1e-10)])
def test_a_state_dict_computes_what_the_reference_does(
    act_fn: str, dtype: str, bound: float
) -> None:
    weights = saved(dtype, n_layers=3)
    published = load_openai_grok(weights, act_fn=act_fn)
    assert isinstance(published.model, PostLN)
    expected = reference.forward(weights, TOKENS, act_fn)
    found = published.model(TOKENS)
    assert found.dtype == expected.dtype
    assert float((found - expected).detach().abs().max()) < bound * float(expected.abs().max())
    assert not published.model.training
    assert published.model.cfg.n_ctx == 50
    assert published.origin.format == "openai_grok"
    assert published.origin.config == {"act_fn": act_fn, "n_ctx": 50}


def test_a_files_checkpoint_is_the_same_model(tmp_path: Path) -> None:
    weights = saved()
    path = tmp_path / "init.pt"
    torch.save({"state_dict": {f"transformer.{n}": x for n, x in weights.items()}}, path)
    direct, from_file = load_openai_grok(weights), load_openai_grok(path)
    assert torch.equal(direct.model(TOKENS), from_file.model(TOKENS))
    assert from_file.origin.file == "init.pt"
    assert direct.origin.file == "state dict"
    changed = weights | {"linear.weight": weights["linear.weight"] * 2}
    assert load_openai_grok(changed).origin.sha256 != direct.origin.sha256


def test_without_stored_positions_the_length_is_the_published_or_the_given_one() -> None:
    weights = {n: x for n, x in saved().items() if n != "position_encoding"}
    assert load_openai_grok(weights).model.cfg.n_ctx == 50
    assert load_openai_grok(weights, n_ctx=6).model.cfg.n_ctx == 6
    with pytest.raises(PublishedError, match="has 50 positions, but n_ctx = 6"):
        load_openai_grok(saved(), n_ctx=6)


def test_loading_touches_no_global_generator() -> None:
    weights = saved()
    before = (torch.get_rng_state(), str(np.random.get_state()))
    load_openai_grok(weights)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == str(np.random.get_state())


Change = Callable[[dict[str, Tensor]], Any]
BLOCK = "decoder.blocks.1."
WRONG: dict[str, tuple[Change, str]] = {
    "a head is missing": (
        lambda w: w.pop(f"{BLOCK}self_attn.attn_heads.1.Wk.weight"),
        f"missing {BLOCK}self_attn.attn_heads.1.Wk.weight",
    ),
    "a bias": (
        lambda w: w.update({f"{BLOCK}ffn.ffn.0.bias": torch.zeros(20).double()}),
        f"unexpected {BLOCK}ffn.ffn.0.bias",
    ),
    "a shape": (
        lambda w: w.update({f"{BLOCK}self_attn.Wo.weight": torch.zeros(12, 6).double()}),
        "has shape [12, 6], expected [12, 12]",
    ),
    "no embedding": (lambda w: w.pop("embedding.weight"), "has no embedding.weight"),
    "learnt positions": (lambda w: w["position_encoding"].add_(0.01), "fixed sinusoidal"),
    "no mask": (lambda w: w["self_attn_mask"].fill_(1), "not causal"),
    "another dtype": (
        lambda w: w.update({n: x.half() for n, x in w.items()}), "expected all float32",
    ),
    "nan": (lambda w: w["linear.weight"].fill_(torch.nan), "not finite"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_another_model_is_refused_by_name(kind: str) -> None:
    weights = saved()
    change, said = WRONG[kind]
    change(weights)
    with pytest.raises(PublishedError, match=re.escape(said)):
        load_openai_grok(weights)


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(PublishedError, match="expected relu or gelu"):
        load_openai_grok(saved(), act_fn="silu")
