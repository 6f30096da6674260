"""A saved HookedTransformer state dict (TransformerLens 1 to 3), with or without mask buffers."""

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from numbers import Real
from typing import Any, Final

from torch import Tensor
from transformer_lens import HookedTransformerConfig

from mechgrok.config import TransformerModel
from mechgrok.models import _foreign
from mechgrok.models._foreign import PublishedError, listed, plain
from mechgrok.models.transformer import Transformer, fill, freeze_biases, make

SIZES: Final = (
    *("n_layers", "d_model", "n_ctx", "n_heads", "d_head", "d_mlp"),
    *("d_vocab", "d_vocab_out", "attn_only"),
)
"""Settings the tensors tell; a config may repeat them, and is refused when it differs."""
MACHINERY: Final = frozenset(
    [
        *("device", "dtype", "seed", "init_mode", "init_weights", "initializer_range", "n_params"),
        *("n_devices", "model_name", "tokenizer_name", "tokenizer_prepends_bos"),
        *("default_prepend_bos", "original_architecture", "from_checkpoint", "checkpoint_index"),
        *("checkpoint_label_type", "checkpoint_value", "trust_remote_code", "load_in_4bit"),
    ]
)
"""Settings that decide no logit; left out."""
SCALES: Final = ("attn_scale", "use_attn_scale")
PLAIN_NORMS: Final = (None, "LNPre", "RMSPre")
"""Normalisations without parameters, which tensors cannot tell apart."""
FIELDS: Final = tuple(f.name for f in fields(HookedTransformerConfig))


def read(
    saved: Any, config: Mapping[str, Any] | TransformerModel | None, what: str
) -> tuple[Transformer, dict[str, Any]]:
    """The model in eval mode, and the settings that were given, as plain data.

    Raises PublishedError for missing or contradicting settings and for tensors that do not fit.
    """
    tensors = _foreign.state_dict(saved, what)
    settings = _settings(config)
    sizes = _sizes(tensors, what)
    _check_sizes(settings, sizes, what)
    cfg = HookedTransformerConfig(
        **sizes,
        **_told(settings, tensors, sizes, what),
        init_weights=False,
        seed=None,  # a seed here would reseed torch, numpy and random globally
        device="cpu",
        dtype=tensors["embed.W_E"].dtype,
    )
    model = make(cfg)
    own = {name: tuple(x.shape) for name, x in model.named_parameters()}
    _foreign.check_shapes(tensors, own, what)
    _foreign.check_masks(tensors, what)
    fill(model, tensors)
    freeze_biases(model, trained_biases(model))
    return model.eval(), plain(settings)


def trained_biases(model: Transformer) -> str:
    """The smallest named set of biases that holds every one that is not 0: none, mlp or all."""
    used = [
        name
        for name, x in model.named_parameters()
        if name.rsplit(".", 1)[-1].startswith("b_") and bool(x.detach().any())
    ]
    if not used:
        return "none"
    return "mlp" if all(".mlp." in name for name in used) else "all"


def _settings(config: Mapping[str, Any] | TransformerModel | None) -> dict[str, Any]:
    """The given settings under TransformerLens's names."""
    if isinstance(config, TransformerModel):
        sizes = ("n_layers", "d_model", "n_heads", "d_head", "d_mlp")
        found = {name: getattr(config, name) for name in (*sizes, "act_fn")}
        return {**found, "normalization_type": config.normalization, "use_attn_scale": True}
    found = dict(config or {})
    if "normalization" in found:
        found["normalization_type"] = found.pop("normalization")
    for name in found:
        if name not in FIELDS:
            near = get_close_matches(str(name), FIELDS, n=3) or ["act_fn", "attn_scale"]
            raise PublishedError(f"unknown setting {name!r} in config; did you mean {near}?")
    return {name: value for name, value in found.items() if name not in MACHINERY}


def _sizes(tensors: Mapping[str, Tensor], what: str) -> dict[str, Any]:
    layers = _foreign.n_layers(list(tensors), what)
    d_vocab, d_model = _foreign.sized(tensors, "embed.W_E", 2, what)
    n_heads, _, d_head = _foreign.sized(tensors, "blocks.0.attn.W_Q", 3, what)
    attn_only = not any(".mlp." in name for name in tensors)
    mlp = {} if attn_only else _foreign.sized(tensors, "blocks.0.mlp.W_in", 2, what)
    return {
        "n_layers": layers,
        "d_model": d_model,
        "n_ctx": _foreign.sized(tensors, "pos_embed.W_pos", 2, what)[0],
        "n_heads": n_heads,
        "d_head": d_head,
        "d_mlp": mlp[1] if mlp else None,
        "d_vocab": d_vocab,
        "d_vocab_out": _foreign.sized(tensors, "unembed.W_U", 2, what)[1],
        "attn_only": attn_only,
    }


def _check_sizes(settings: Mapping[str, Any], sizes: Mapping[str, Any], what: str) -> None:
    unset = (-1, None)  # TransformerLens's own words for "not given"
    wrong = [
        f"{name} {settings[name]!r} given, {sizes[name]!r} in the tensors"
        for name in SIZES
        if settings.get(name) not in unset and settings[name] != sizes[name]
    ]
    if wrong:
        raise PublishedError(f"config contradicts {what}: {listed(wrong)}; leave sizes out")


def _told(
    settings: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    sizes: Mapping[str, Any],
    what: str,
) -> dict[str, Any]:
    """Every setting but the sizes; refuses what neither tensors nor config tell."""
    told = {name: value for name, value in settings.items() if name not in SIZES}
    norm = _norm(tensors, what)
    missing = [] if "act_fn" in told or sizes["attn_only"] else ["act_fn"]
    if norm is None and "normalization_type" not in told:
        missing.append("normalization")
    if not any(name in told for name in SCALES):
        missing.append("attn_scale")
    if missing:
        raise PublishedError(
            f"the tensors of {what} cannot tell {' or '.join(missing)}; give config, such as "
            f"{{'act_fn': 'relu', 'normalization': None, 'attn_scale': {sizes['d_head'] ** 0.5:g}}}"
        )
    given = told.get("normalization_type", norm)
    if given != norm if norm is not None else given not in PLAIN_NORMS:
        found = norm or "no normalisation with parameters"
        raise PublishedError(f"config contradicts {what}: normalization {given!r}, but has {found}")
    told["normalization_type"] = given
    return _scaled(told)


def _scaled(told: dict[str, Any]) -> dict[str, Any]:
    """The settings, with a scale that can be divided by; -1 is TransformerLens's sqrt(d_head)."""
    scale = told.get("attn_scale", -1.0)
    number = float(scale) if isinstance(scale, Real) and not isinstance(scale, bool) else 0.0
    if not (number > 0 or number == -1):
        raise PublishedError(
            f"attn_scale = {scale!r}; expected the positive number that scores are divided by"
        )
    return {**told, "attn_scale": number}


def _norm(tensors: Mapping[str, Tensor], what: str) -> str | None:
    """The kind of normalisation whose parameters are there."""
    weights = [n for n in tensors if n.rsplit(".", 2)[-2] in ("ln1", "ln2", "ln_final")]
    if not weights:
        return None
    return "LN" if any(name.endswith(".b") for name in weights) else "RMS"
