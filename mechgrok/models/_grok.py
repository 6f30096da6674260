"""The parameter names of openai/grok's transformer (Power et al. 2022, arXiv 2201.02177).

Linear maps are stored [out, in] as torch.nn.Linear, one per head for queries, keys and values; the
joint output map reads the heads one after the other. Nothing but the normalisations has a bias.
"""

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from mechgrok.config import PostLNModel
from mechgrok.models import _foreign
from mechgrok.models._foreign import PublishedError
from mechgrok.models.post_ln import PostLN, build

PREFIX: Final = "transformer."
"""What a training checkpoint puts before every name."""
CONSTANTS: Final = ("position_encoding", "self_attn_mask")
"""Buffers of the original, which a model makes for itself."""
PUBLISHED_CTX: Final = 50
"""The original's default of its longest row."""
ROUNDING: Final = 1e-6
"""Positions are at most 1 and stored in float32 or better."""


def read(
    saved: Any, act_fn: str, n_ctx: int | None, what: str
) -> tuple[PostLN, dict[str, Tensor], dict[str, Any]]:
    """The model in eval mode, the tensors it was read from, and the settings that were taken.

    Raises PublishedError for what is missing, of another shape, or another model.
    """
    if act_fn not in ("relu", "gelu"):
        raise PublishedError(f"act_fn = {act_fn!r}; expected relu or gelu, as the original has")
    found = saved.get("state_dict", saved) if isinstance(saved, Mapping) else saved
    tensors = _foreign.state_dict(found, what)
    if all(name.startswith(PREFIX) for name in tensors):
        tensors = {name.removeprefix(PREFIX): x for name, x in tensors.items()}
    n_ctx = _n_ctx(tensors, n_ctx, what)
    config, d_vocab, d_vocab_out = _sizes(tensors, act_fn, what)
    expected = _expected(config, d_vocab, d_vocab_out)
    weights = {name: x for name, x in tensors.items() if name not in CONSTANTS}
    _foreign.check_shapes(weights, expected, what)
    model = build(config, d_vocab=d_vocab, n_ctx=n_ctx, d_vocab_out=d_vocab_out, seed=0)
    _check_constants(model, tensors, what)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(_ours(name, weights, config.n_heads))
    return model.eval(), tensors, {"act_fn": act_fn, "n_ctx": n_ctx}


def _n_ctx(tensors: Mapping[str, Tensor], given: int | None, what: str) -> int:
    if "position_encoding" not in tensors:
        return PUBLISHED_CTX if given is None else given
    stored = _foreign.sized(tensors, "position_encoding", 2, what)[0]
    if given not in (None, stored):
        raise PublishedError(f"{what} has {stored} positions, but n_ctx = {given} was given")
    return stored


def _sizes(tensors: Mapping[str, Tensor], act_fn: Any, what: str) -> tuple[PostLNModel, int, int]:
    names = [name.removeprefix("decoder.") for name in tensors if name.startswith("decoder.")]
    block = "decoder.blocks.0."
    d_vocab, d_model = _foreign.sized(tensors, "embedding.weight", 2, what)
    heads = {n.split(".")[5] for n in tensors if n.startswith(f"{block}self_attn.attn_heads.")}
    if not heads or d_model % len(heads):
        raise PublishedError(f"{what} has {len(heads)} heads for a width of {d_model}")
    single = tensors["embedding.weight"].dtype == torch.float32
    config = PostLNModel(
        n_layers=_foreign.n_layers(names, what),
        d_model=d_model,
        n_heads=len(heads),
        d_mlp=_foreign.sized(tensors, f"{block}ffn.ffn.0.weight", 2, what)[0],
        act_fn=act_fn,
        dtype="float32" if single else "float64",
    )
    return config, d_vocab, _foreign.sized(tensors, "linear.weight", 2, what)[0]


def _expected(config: PostLNModel, d_vocab: int, d_vocab_out: int) -> dict[str, tuple[int, ...]]:
    """Every parameter of the original, with its shape."""
    width, neurons = config.d_model, config.d_mlp
    found: dict[str, tuple[int, ...]] = {"embedding.weight": (d_vocab, width)}
    for layer in range(config.n_layers):
        block = f"decoder.blocks.{layer}."
        for head in range(config.n_heads):
            for kind in ("Wq", "Wk", "Wv"):
                name = f"{block}self_attn.attn_heads.{head}.{kind}.weight"
                found[name] = (width // config.n_heads, width)
        found[f"{block}self_attn.Wo.weight"] = (width, width)
        found[f"{block}ffn.ffn.0.weight"] = (neurons, width)
        found[f"{block}ffn.ffn.2.weight"] = (width, neurons)
        for norm in NORMS.values():
            found |= {f"{block}{norm}.weight": (width,), f"{block}{norm}.bias": (width,)}
    return found | {"linear.weight": (d_vocab_out, width)}


NORMS: Final = {"ln1": "self_attn_norm", "ln2": "ffn_norm"}
MATRICES: Final = {"W_Q": "Wq", "W_K": "Wk", "W_V": "Wv"}


def _ours(name: str, theirs: Mapping[str, Tensor], n_heads: int) -> Tensor:
    """The weight a parameter of ours is made of."""
    if name == "embed.W_E":
        return theirs["embedding.weight"]
    if name == "unembed.W_U":
        return theirs["linear.weight"].T
    _, layer, part, last = name.split(".")
    block = f"decoder.blocks.{layer}."
    if part in NORMS:
        return theirs[f"{block}{NORMS[part]}.{'weight' if last == 'w' else 'bias'}"]
    if part == "mlp":
        return theirs[f"{block}ffn.ffn.{0 if last == 'W_in' else 2}.weight"].T
    if last == "W_O":
        return theirs[f"{block}self_attn.Wo.weight"].T.unflatten(0, (n_heads, -1))
    heads = [f"{block}self_attn.attn_heads.{h}.{MATRICES[last]}.weight" for h in range(n_heads)]
    return torch.stack([theirs[head].T for head in heads])


def _check_constants(model: PostLN, tensors: Mapping[str, Tensor], what: str) -> None:
    """Refuse stored positions or masks that are not the ones every model here has."""
    if (stored := tensors.get("position_encoding")) is not None:
        own = model.pos_embed.W_pos
        if stored.shape != own.shape or float((stored - own).abs().max()) > ROUNDING:
            raise PublishedError(f"{what}: position_encoding is not the fixed sinusoidal one")
    if (mask := tensors.get("self_attn_mask")) is not None:
        if not torch.equal(mask.bool(), torch.ones_like(mask, dtype=torch.bool).tril()):
            raise PublishedError(f"{what}: self_attn_mask is not causal; expected a lower triangle")
