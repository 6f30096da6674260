"""Foreign files: what is read equals an independent forward; what is not is refused by name."""

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import published_files as files
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mechgrok import measures
from mechgrok.config import TransformerModel
from mechgrok.models.published import PublishedError, load_nanda, load_transformer_lens

TOKENS = torch.cartesian_prod(torch.arange(11), torch.arange(11), torch.tensor([11]))
TOLD = {"act_fn": "relu", "normalization": None, "attn_scale": 2.0}


def released_forward(w: dict[str, Tensor], tokens: Tensor, gelu: bool = False) -> Tensor:
    """Logits at "=" of a 1-layer model in the released layout, in float64, with einsum only."""
    w = {name: x.double() for name, x in w.items()}
    x = torch.einsum("dbp->bpd", w["embed.W_E"][:, tokens]) + w["pos_embed.W_pos"]
    q, k, v = (torch.einsum("ihd,bpd->biph", w[f"blocks.0.attn.W_{n}"], x) for n in "QKV")
    scores = torch.einsum("biph,biqh->biqp", k, q) - 1e10 * (1 - w["blocks.0.attn.mask"])
    z = torch.einsum("biph,biqp->biqh", v, (scores / k.shape[-1] ** 0.5).softmax(-1))
    x = x + z.transpose(1, 2).flatten(2) @ w["blocks.0.attn.W_O"].T
    pre = x @ w["blocks.0.mlp.W_in"].T + w["blocks.0.mlp.b_in"]
    post = torch.nn.functional.gelu(pre) if gelu else pre.relu()
    x = x + post @ w["blocks.0.mlp.W_out"].T + w["blocks.0.mlp.b_out"]
    return (x @ w["unembed.W_U"])[:, -1]


@pytest.mark.parametrize("act_type", [None, "ReLU", "GeLU"])
def test_a_nanda_file_computes_what_the_released_code_does(
    act_type: str | None, tmp_path: Path
) -> None:
    run = files.nanda_run(files.model())
    run["config"] |= {} if act_type is None else {"act_type": act_type}
    run["model"] = {n: x.double() for n, x in run["model"].items()}
    model = load_nanda(files.saved(run, tmp_path / "a.pth")).model
    with torch.no_grad():
        found = model(TOKENS)[:, -1]
    expected = released_forward(run["model"], TOKENS, gelu=act_type == "GeLU")
    # the heads' order of summation is all that differs, in float64
    assert float((found - expected).abs().max()) < 1e-12 * float(expected.abs().max())
    assert not model.training
    other = released_forward(run["model"], TOKENS, gelu=act_type != "GeLU")
    assert float((found - other).abs().max()) > 1e-3, "the check tells activations apart"


def test_the_origin_says_what_is_stored_and_what_contradicts(tmp_path: Path) -> None:
    path = files.saved(files.nanda_run(files.model()), tmp_path / "a.pth")
    origin = load_nanda(path).origin
    assert origin.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert origin.config["seed"] == 7
    assert origin.optimizer["weight_decay"] == 0.1
    assert (len(origin.losses["train"]), origin.test_stride, origin.steps) == (21, 10, 21)
    assert origin.contradictions == ("config weight_decay 1, but the optimizer has 0.1",)


def test_every_contradiction_is_found(tmp_path: Path) -> None:
    run = files.nanda_run(files.model())
    run["config"] |= {"p": 13, "num_heads": 8, "lr": 1}
    run |= {"epoch": 30, "scheduler": {"last_epoch": 5}, "train_loss": 3.0}
    run["test_losses"] = [5.0] * 8
    said = " | ".join(load_nanda(files.saved(run, tmp_path / "a.pth")).origin.contradictions)
    for part in (
        "p 13, but the tensors have 11", "num_heads 8, but the tensors have 2", "lr 1, but",
        "weight_decay 1, but", "epoch 30, but 21", "scheduler counts 5", "train_loss 3",
        "8 test losses",
    ):  # fmt: skip
        assert part in said


def test_only_the_model_is_required(tmp_path: Path) -> None:
    path = files.saved({"model": files.nanda_tensors(files.model(2))}, tmp_path / "a.pth")
    published = load_nanda(path)
    assert published.model.cfg.n_layers == 2
    assert published.origin.losses == {}
    assert published.origin.config == {}
    assert published.origin.steps is None
    assert published.origin.contradictions == ()
    with torch.no_grad():
        assert torch.equal(published.model(TOKENS), files.model(2)(TOKENS))


def test_loading_changes_nothing_global_and_warns_of_nothing(tmp_path: Path) -> None:
    path = files.saved(files.nanda_run(files.model()), tmp_path / "a.pth")
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_nanda(path)
    assert torch.equal(before, torch.get_rng_state())


def drop(*parts: str) -> Callable[[dict[str, Any]], None]:
    """Remove every tensor whose name holds one of these."""

    def mutilate(run: dict[str, Any]) -> None:
        run["model"] = {n: x for n, x in run["model"].items() if not any(p in n for p in parts)}

    return mutilate


def put(name: str, *shape: int) -> Callable[[dict[str, Any]], None]:
    """Replace or add a tensor."""
    return lambda run: run["model"].update({name: torch.ones(*shape)})


MUTILATED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no model": (lambda run: run.pop("model"), "no 'model', only .*config"),
    "attention only": (drop(".mlp."), "attention only: no blocks.0.mlp.W_in"),
    "no unembedding": (drop("unembed"), "no unembed.W_U"),
    "no positions": (drop("pos_embed"), "no pos_embed.W_pos"),
    "a bias missing": (drop("b_out"), "missing blocks.0.mlp.b_out"),
    "normalised": (put("blocks.0.ln1.w_ln", 16), "unexpected blocks.0.ln1.w_ln"),
    "attention biases": (put("blocks.0.attn.b_Q", 2, 4), "unexpected blocks.0.attn.b_Q"),
    "several outputs": (put("unembed.W_U", 16, 10), "10 outputs for 12 tokens"),
    "longer rows": (put("pos_embed.W_pos", 18, 16), "18 positions"),
    "a block left out": (put("blocks.2.mlp.W_in", 24, 16), r"blocks \[0, 2\]"),
    "another shape": (put("blocks.0.attn.W_O", 16, 9), "W_O has shape .16, 9., expected .16, 8."),
    "not causal": (put("blocks.0.attn.mask", 3, 3), "mask is not causal"),
    "not finite": (
        lambda run: run["model"]["embed.W_E"].fill_(torch.inf),
        "not finite in embed.W_E",
    ),
    "half": (
        lambda run: run.update(model={n: x.half() for n, x in run["model"].items()}),
        "float16.*expected all float32 or float64",
    ),
    "no tensors": (lambda run: run.update(model={"a": 1}), r"more than tensors: a \(int\)"),
    "other activation": (lambda run: run["config"].update(act_type="Swish"), "Swish.*ReLU"),
}


@pytest.mark.parametrize("name", MUTILATED)
def test_what_is_missing_or_different_is_named(name: str, tmp_path: Path) -> None:
    run = files.nanda_run(files.model())
    mutilate, said = MUTILATED[name]
    mutilate(run)
    with pytest.raises(PublishedError, match=said):
        load_nanda(files.saved(run, tmp_path / "a.pth"))


class Config:
    """Something that weights_only=True does not load."""


@pytest.mark.parametrize("load", [load_nanda, load_transformer_lens])
def test_a_file_that_needs_code_is_refused_with_the_reason(load: Any, tmp_path: Path) -> None:
    run = files.nanda_run(files.model()) | {"config": Config()}
    with pytest.raises(PublishedError, match=r"Config.*weights_only=True"):
        load(files.saved(run, tmp_path / "a.pth"))


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_missing_or_damaged_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(PublishedError, match=f"cannot read .*{name}"):
        load_nanda(tmp_path / name)
    (tmp_path / name).write_bytes(b"not a checkpoint at all")
    with pytest.raises(PublishedError, match=name):
        load_nanda(tmp_path / name)
    whole = files.saved(files.nanda_run(files.model()), tmp_path / "whole.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PublishedError, match="cut.pth"):
        load_nanda(tmp_path / "cut.pth")


def masked(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """With the buffers older TransformerLens versions stored."""
    more = {"blocks.0.attn.mask": torch.ones(3, 3).tril().bool()}
    return {**state, **more, "blocks.0.attn.IGNORE": torch.tensor(-1e5)}


def unmasked(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without any buffer."""
    return {n: x for n, x in state.items() if not n.endswith(("mask", "IGNORE"))}


@pytest.mark.parametrize("buffers", [masked, unmasked, dict])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("norm", [None, "LN", "LNPre", "RMS", "RMSPre"])
def test_a_transformer_lens_file_is_the_model_that_was_saved(
    norm: Any, suffix: str, buffers: Any, tmp_path: Path
) -> None:
    model = files.model(normalization=norm, act_fn="gelu")
    state, path = buffers(model.state_dict()), tmp_path / f"a{suffix}"
    save_file(state, path) if suffix == ".safetensors" else files.saved(state, path)
    config = TransformerModel(
        d_model=16, n_heads=2, d_head=4, d_mlp=24, act_fn="gelu", normalization=norm
    )
    for told in (config, model.cfg.to_dict()):
        found = load_transformer_lens(path, told).model
        with torch.no_grad():
            assert torch.equal(found(TOKENS), model(TOKENS))
        assert not found.training


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, "act_fn or normalization or attn_scale"),
        ({"normalization": None, "attn_scale": 2}, "cannot tell act_fn;"),
        ({"act_fn": "relu", "attn_scale": 2}, "cannot tell normalization;"),
        ({"act_fn": "relu", "normalization": None}, "cannot tell attn_scale;"),
        (TOLD | {"attn_scale": 0}, "attn_scale = 0"),
        (TOLD | {"normalization": "LN"}, "'LN', but has no normalisation with parameters"),
        (TOLD | {"d_head": 8}, "d_head 8 given, 4 in the tensors"),
        (TOLD | {"act_fnn": "relu"}, "'act_fnn'.*act_fn"),
        (TransformerModel(), "d_model 128 given, 16 in the tensors"),
    ],
)
def test_what_tensors_cannot_tell_is_asked_for_by_name(
    config: Any, said: str, tmp_path: Path
) -> None:
    path = files.saved(files.model().state_dict(), tmp_path / "a.pth")
    assert load_transformer_lens(path, TOLD).model.cfg.attn_scale == 2
    with pytest.raises(PublishedError, match=said):
        load_transformer_lens(path, config)


def test_the_scale_is_followed(tmp_path: Path) -> None:
    path = files.saved(files.model().state_dict(), tmp_path / "a.pth")
    tokens = TOKENS[:20]
    with torch.no_grad():
        own, same, other, none = (
            load_transformer_lens(path, {"act_fn": "relu", "normalization": None, **scale}).model(
                tokens
            )
            for scale in (
                {"use_attn_scale": True}, {"attn_scale": 2.0}, {"attn_scale": 1.0},
                {"use_attn_scale": False},
            )
        )  # fmt: skip
    assert torch.equal(own, same)
    assert torch.equal(other, none)
    assert not torch.allclose(own, other)


def test_state_dicts_that_do_not_fit_are_named(tmp_path: Path) -> None:
    state = unmasked(files.model().state_dict())
    odd = {**state, "blocks.0.attn.b_X": torch.zeros(2)}
    odd.pop("unembed.b_U")
    for tensors, said in (
        (odd, "missing unembed.b_U, unexpected blocks.0.attn.b_X"),
        ({"model": state}, r"more than tensors: model \(dict\)"),
        ([1], "is a list"),
        ({n: x for n, x in state.items() if "pos" not in n}, "no pos_embed.W_pos"),
    ):
        with pytest.raises(PublishedError, match=said):
            load_transformer_lens(files.saved(tensors, tmp_path / "a.pth"), TOLD)


def test_the_split_is_recovered_from_a_published_model(tmp_path: Path) -> None:
    published = load_nanda(files.saved(files.nanda_run(files.model()), tmp_path / "a.pth"))
    found = measures.recover_split(published.model, published.origin.losses)
    assert (found.seed, found.frac_train) == (7, 0.4)
