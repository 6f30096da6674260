"""TransformerLens's grids, on the same models and with the same numbers; and the fast way of
`prefixes.py` against whole hooked forwards."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformer_lens.patching as theirs
from torch import Tensor

from mechgrok import interventions as ours
from mechgrok.config import TransformerModel
from mechgrok.interventions import coverage, prefixes, variants
from mechgrok.interventions.node import nodes, resolve
from mechgrok.interventions.patches import Patch, hooks, patches_from
from mechgrok.models.transformer import Transformer, build

P = 7
PAIRS = torch.cartesian_prod(torch.arange(P), torch.arange(P))
TOKENS = torch.cat([PAIRS, torch.full((P * P, 1), P)], dim=1)
LABELS = PAIRS.sum(dim=1) % P
OTHER = ours.derangement(P * P, torch.Generator().manual_seed(0))
METRIC = ours.metric("logit_diff", LABELS, against=LABELS[OTHER])
GRIDS = ("resid_pre", "resid_mid", "attn_out", "mlp_out", "attn_head_out_by_pos")
ATOL = {"float64": 1e-10, "float32": 1e-5}


def small(seed: int = 0, **settings: Any) -> Transformer:
    given = {"d_model": 12, "n_heads": 3, "d_head": 4, "d_mlp": 16, "n_layers": 2, **settings}
    model = build(TransformerModel(**given), d_vocab=P + 1, n_ctx=3, d_vocab_out=P, seed=seed)
    with torch.no_grad():  # zero biases would hide a bias that is added twice
        for name, parameter in model.named_parameters():
            if ".b_" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(parameter.numel()))
    return model


def all_positions(logits: Tensor) -> Tensor:
    """A metric that reads every position, unevenly, and sees the order of the rows."""
    weights = torch.arange(1, 4, dtype=logits.dtype) * torch.arange(len(logits))[:, None].cos()
    return (logits[..., 0] * weights).mean()


@pytest.mark.parametrize("metric", [METRIC, all_positions], ids=["last", "every"])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(
    "settings",
    [{"n_layers": 1}, {"dtype": "float64"}, {"normalization": "LN"}, {"normalization": "RMSPre"}],
    ids=str,
)
def test_grids_are_transformer_lenss(
    grid: str, settings: dict[str, Any], metric: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(theirs, "tqdm", lambda rows: rows)
    model = small(**settings)
    _, cache = model.run_with_cache(TOKENS)
    name = f"get_act_patch_{grid}"
    expected = getattr(theirs, name)(model, TOKENS[OTHER], cache, metric)
    found = getattr(ours, name)(model, TOKENS[OTHER], cache, metric)
    assert found.shape == expected.shape
    assert not torch.allclose(expected, expected.flatten()[0])  # the control: patches do something
    # TransformerLens keeps its numbers in float32 whatever the model computes in
    torch.testing.assert_close(found.float(), expected, rtol=1e-5, atol=1e-5)


EVERY = (
    *("embed", "pos_embed", "resid_pre", "attn.q", "attn.k", "attn.v", "head", "attn_out"),
    *("resid_mid", "mlp.pre", "neuron", "mlp_out", "resid_post", "pattern", "ln1.scale"),
)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("component", EVERY)
@pytest.mark.parametrize("position", [None, "each"])
def test_every_patch_equals_the_hooked_forward(
    component: str, position: str | None, dtype: str
) -> None:
    model = small(dtype=dtype, normalization="LN" if component == "ln1.scale" else None)
    at = nodes(component, position=position).of(model, 3)
    found = patches_from(model, at, TOKENS, TOKENS[OTHER])
    runs = variants.logits(model, TOKENS[OTHER], [[p] for p in found], (0, 1, 2))
    for patch, run in zip(found, runs, strict=True):
        expected = model.run_with_hooks(TOKENS[OTHER], fwd_hooks=hooks([patch]))
        torch.testing.assert_close(run, expected, rtol=0, atol=ATOL[dtype])


def test_several_patches_at_once_equal_the_hooked_forward() -> None:
    model = small(dtype="float64")
    sets = (
        ["head", "mlp_out"], ["resid_pre", "neuron"], ["attn_out", "resid_mid"], ["embed", "attn.k"]
    )  # fmt: skip
    for chosen in sets:
        at = [n for word in chosen for n in nodes(word, layer=None, position=(0, 2)).of(model, 3)]
        found = patches_from(model, at, TOKENS, TOKENS[OTHER])
        [run] = variants.logits(model, TOKENS[OTHER], [found], (0, 1, 2))
        expected = model.run_with_hooks(TOKENS[OTHER], fwd_hooks=hooks(found))
        torch.testing.assert_close(run, expected, rtol=0, atol=1e-10)


def test_neurons_and_one_head_at_one_position() -> None:
    model = small(dtype="float64")
    at = [
        *nodes("neuron", neurons=[3, 5], position=-1).of(model, 3),
        *nodes("head", head=1, layer=1, position=2).of(model, 3),
    ]
    assert len(at) == 2 + 1
    found = patches_from(model, at, TOKENS, TOKENS[OTHER])
    runs = list(variants.logits(model, TOKENS[OTHER], [[p] for p in found], (2,)))
    for patch, run in zip(found, runs, strict=True):
        expected = model.run_with_hooks(TOKENS[OTHER], fwd_hooks=hooks([patch]))[:, [2]]
        torch.testing.assert_close(run, expected, rtol=0, atol=1e-10)
    assert not torch.allclose(runs[0], runs[1])


def test_the_grids_take_the_fast_way_and_the_others_the_whole_forward() -> None:
    model = small()
    known = [[Patch(n, torch.zeros(0))] for word in GRIDS[:4] for n in resolve(model, word)]
    assert coverage.applies(model, known)
    assert not coverage.applies(
        model, [[Patch(n, torch.zeros(0))] for n in resolve(model, "pattern")]
    )
    model.cfg.attention_dir = "bidirectional"
    assert not coverage.applies(model, known)
    model.cfg.attention_dir = "causal"
    with ours.ablate(model, "pos_embed", "zero"):
        assert not coverage.applies(model, known)
        model(TOKENS)


def test_what_a_hook_does_to_the_whole_batch_is_kept() -> None:
    """A mean over rows must be that of the batch, not of the stack."""
    model = small(dtype="float64")
    at = nodes("resid_pre", position="each").of(model, 3)
    _, cache = model.run_with_cache(TOKENS)
    with ours.ablate(model, "mlp", "mean"):
        found = ours.act_patch(model, TOKENS[OTHER], cache, METRIC, at)
        for patch, value in zip(patches_from(model, at, cache, TOKENS), found, strict=True):
            with model.hooks(fwd_hooks=hooks([patch])):
                expected = METRIC(model(TOKENS[OTHER]))
            torch.testing.assert_close(value, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [11, 100])
def test_chunks_change_no_number(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(dtype="float64")
    _, cache = model.run_with_cache(TOKENS)
    run = functools.partial(ours.act_patch, model, TOKENS[OTHER], cache, METRIC)
    for at in (nodes("head,mlp", position="each"), nodes("pattern")):
        expected = run(at)
        for module, name in ((prefixes, "CHUNK"), (prefixes, "STACK"), (variants, "STACK")):
            monkeypatch.setattr(module, name, size)
        torch.testing.assert_close(run(at), expected, rtol=0, atol=1e-12)


def test_a_plain_hooked_transformer_and_its_cache() -> None:
    import transformer_lens

    model = small()
    plain: Any = transformer_lens.HookedTransformer(model.cfg)
    plain.load_state_dict(model.state_dict())
    _, cache = plain.run_with_cache(TOKENS)
    found = ours.get_act_patch_resid_pre(plain, TOKENS[OTHER], dict(cache), METRIC)
    expected = ours.get_act_patch_resid_pre(model, TOKENS[OTHER], cache, METRIC)
    torch.testing.assert_close(found, expected)


def test_what_is_missing_is_named() -> None:
    model = small()
    _, cache = model.run_with_cache(TOKENS, names_filter="blocks.0.hook_mlp_out")
    with pytest.raises(ValueError, match=r"no \['blocks.0.hook_resid_pre'"):
        ours.get_act_patch_resid_pre(model, TOKENS, cache, METRIC)
    _, cache = model.run_with_cache(TOKENS[:5])
    with pytest.raises(ValueError, match="5 rows of values for 49"):
        ours.get_act_patch_resid_pre(model, TOKENS, cache, METRIC)
    with pytest.raises(ValueError, match="no nodes"):
        ours.act_patch(model, TOKENS, cache, METRIC, [])
