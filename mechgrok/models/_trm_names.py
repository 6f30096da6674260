"""Weights of the original Tiny Recursive Model under its own parameter names (arXiv 2510.04871).

Linear maps are stored [out, in]; gate and other factor of an MLP, and queries, keys and values, are
one matrix each. The states before the first cycle are stored in the forward pass's type.
"""

from collections.abc import Mapping
from dataclasses import asdict, fields
from difflib import get_close_matches
from typing import Any, Final

import torch
from torch import Tensor

from mechgrok.config import ConfigError, TRMModel
from mechgrok.models import _foreign
from mechgrok.models._foreign import PublishedError, listed, plain
from mechgrok.models.hooked import weights
from mechgrok.models.trm import HookedTRM, HookedTRMConfig

PREFIXES: Final = ("_orig_mod.", "model.", "inner.")
"""What torch.compile, the loss head and the halting wrapper put before every name."""
CONSTANTS: Final = (
    *("rotary_emb.cos_cached", "rotary_emb.sin_cached"),
    *("puzzle_emb.local_weights", "puzzle_emb.local_ids"),
)
"""Buffers that a model makes for itself."""
OURS: Final = {
    "seq_len": "n_ctx",
    "vocab_size": "d_vocab",
    "hidden_size": "d_model",
    "L_layers": "n_layers",
    "num_heads": "n_heads",
    "pos_encodings": "positions",
    "halt_exploration_prob": "halt_exploration",
    "puzzle_emb_len": "puzzle_positions",
    "rms_norm_eps": "eps",
}
"""The original's settings that have another name here."""
DEFAULTS: Final[Mapping[str, Any]] = {
    "H_cycles": 3,
    "L_cycles": 6,
    "n_heads": 8,
    "positions": "rope",
    "expansion": 4.0,
    "halt_max_steps": 16,
    "halt_exploration": 0.1,
    "eps": 1e-5,
    "rope_theta": 10_000.0,
    "puzzle_positions": 16,
}
"""The original's defaults (config/arch/trm.yaml, and the class where that is silent)."""
MACHINERY: Final = frozenset(
    [
        *("name", "loss", "arch", "batch_size", "num_puzzle_identifiers", "H_layers", "causal"),
        *("forward_dtype", "no_ACT_continue", "puzzle_emb_ndim", "seed", "dtype", "device"),
        *(
            "compile",
            "matmul_precision",
            "attn_only",
            "normalization_type",
            "parallel_attn_mlp",
            "init",
        ),
    ]
)
"""Settings that decide no logit here, or that the tensors tell."""
MULTIPLES: Final = (256, 128, 64, 32, 16, 8, 4, 2, 1)
"""Roundings of the number of neurons that are tried, the original's first."""


def read(saved: Any, config: Any, what: str) -> tuple[HookedTRM, dict[str, Tensor], dict[str, Any]]:
    """The model in eval mode, the tensors it was read from, and the settings that were given.

    Raises PublishedError for what is missing, contradicts the tensors, or is another model.
    """
    tensors = _tensors(saved, what)
    given = _settings(config)
    cfg = _config(tensors, given, what)
    expected = _expected(cfg, tensors)
    _foreign.check_shapes(tensors, expected, what)
    model = HookedTRM(cfg)
    with torch.no_grad():
        for name, weight in weights(model).items():
            weight.copy_(_ours(name, tensors, cfg))
    return model.eval(), tensors, plain(given)


def _tensors(saved: Any, what: str) -> dict[str, Tensor]:
    """Without prefixes and constants, the states in the type of the weights."""
    if not isinstance(saved, Mapping):
        raise PublishedError(f"{what} is a {type(saved).__name__}; expected a dict of tensors")
    named = {_bare(str(name)): x for name, x in saved.items()}
    kind = named["embed_tokens.embedding_weight"].dtype if EMBED in named else torch.float32
    for name in ("H_init", "L_init", "puzzle_emb.weights"):
        if isinstance(named.get(name), Tensor):
            named[name] = named[name].to(kind)
    found = {name: x for name, x in named.items() if name not in CONSTANTS}
    return _foreign.state_dict(found, what)


EMBED: Final = "embed_tokens.embedding_weight"


def _bare(name: str) -> str:
    while prefix := next((p for p in PREFIXES if name.startswith(p)), None):
        name = name.removeprefix(prefix)
    return name


def _settings(config: Any) -> dict[str, Any]:
    """The given settings under our names; those of `arch`, as the original's files have it, too."""
    if isinstance(config, HookedTRMConfig | TRMModel):
        config = asdict(config)
    found: dict[str, Any] = dict(config or {})
    arch = found.get("arch")
    if isinstance(arch, Mapping):
        known = {f.name for f in fields(HookedTRMConfig)} | set(OURS)
        found = {name: x for name, x in found.items() if name in known} | dict(arch)
    known = [*OURS, *(f.name for f in fields(HookedTRMConfig)), *MACHINERY]
    for name in found:
        if name not in known:
            near = get_close_matches(str(name), known, n=3) or list(OURS)[:3]
            raise PublishedError(f"unknown setting {name!r} in config; did you mean {near}?")
    return {OURS.get(n, n): x for n, x in found.items() if n not in MACHINERY and x is not None}


def _config(tensors: Mapping[str, Tensor], given: Mapping[str, Any], what: str) -> HookedTRMConfig:
    d_vocab, d_model = _foreign.sized(tensors, EMBED, 2, what)
    mlp_t = "L_level.layers.0.mlp_t.down_proj.weight" in tensors
    layers = {n.split(".")[2] for n in tensors if n.startswith("L_level.layers.")}
    sizes: dict[str, Any] = {
        "d_vocab": d_vocab,
        "d_vocab_out": _foreign.sized(tensors, "lm_head.weight", 2, what)[0],
        "d_model": d_model,
        "n_layers": len(layers),
        "mlp_t": mlp_t,
    }
    told = {**DEFAULTS, **{n: x for n, x in given.items() if n not in sizes}}
    told["positions"] = _positions(tensors, told["positions"], mlp_t)
    told["puzzle_positions"] = _puzzle(tensors, told["puzzle_positions"], d_model, what)
    length = _length(tensors, mlp_t)
    if length is not None:
        sizes["n_ctx"] = length - told["puzzle_positions"]
    elif "n_ctx" not in told:
        raise PublishedError(f"the tensors of {what} cannot tell seq_len; give it in config")
    contradicted = [
        f"{_theirs(name)} {given[name]!r} given, {sizes[name]!r} in the tensors"
        for name in sizes
        if given.get(name, sizes[name]) not in (sizes[name], -1)
    ]
    if "d_vocab_out" not in given and sizes["d_vocab_out"] != d_vocab:
        contradicted.append(
            f"lm_head has a vocabulary of {sizes['d_vocab_out']}, embed_tokens one of {d_vocab}"
        )
    if contradicted:
        raise PublishedError(f"vocabulary or sizes of {what} do not fit: {listed(contradicted)}")
    settings = {**told, **sizes, "dtype": tensors[EMBED].dtype}
    settings["multiple_of"] = _multiple(settings, tensors, what)
    try:
        return HookedTRMConfig(**settings)
    except ConfigError as error:
        raise PublishedError(f"config does not fit {what}: {error}") from None


def _positions(tensors: Mapping[str, Tensor], given: Any, mlp_t: bool) -> str:
    """Learned ones are in the tensors; only attention is turned; any other word means none."""
    if "embed_pos.embedding_weight" in tensors:
        return "learned"
    return "rope" if given == "rope" and not mlp_t else "none"


def _puzzle(tensors: Mapping[str, Tensor], given: int, d_model: int, what: str) -> int:
    """Puzzle positions: none without the vector, at least the one that holds it."""
    if "puzzle_emb.weights" not in tensors:
        return 0
    rows, width = _foreign.sized(tensors, "puzzle_emb.weights", 2, what)
    if rows != 1 or width != d_model:
        raise PublishedError(
            f"{what} has {rows} puzzle vectors of {width} values; expected one of {d_model}"
        )
    return max(given, 1)


def _length(tensors: Mapping[str, Tensor], mlp_t: bool) -> int | None:
    """Positions of a state, where weights depend on them."""
    if mlp_t:
        return tensors["L_level.layers.0.mlp_t.down_proj.weight"].shape[0]
    learned = tensors.get("embed_pos.embedding_weight")
    return None if learned is None else learned.shape[0]


def _multiple(settings: dict[str, Any], tensors: Mapping[str, Tensor], what: str) -> int:
    """The rounding that gives the stored numbers of neurons."""
    own = {"mlp": "d_mlp", **({"mlp_t": "d_mix"} if settings["mlp_t"] else {})}
    stored = {
        ours: _foreign.sized(tensors, f"L_level.layers.0.{name}.down_proj.weight", 2, what)[1]
        for name, ours in own.items()
    }
    tried = [settings["multiple_of"]] if "multiple_of" in settings else MULTIPLES
    for multiple in tried:
        try:
            cfg = HookedTRMConfig(**{**settings, "multiple_of": multiple})
        except ConfigError as error:
            raise PublishedError(f"config does not fit {what}: {error}") from None
        if all(getattr(cfg, ours) == n for ours, n in stored.items()):
            return multiple
    raise PublishedError(
        f"{what} has {stored} neurons, which expansion {settings['expansion']:g} does not give, "
        f"rounded up to a multiple of {list(tried)}; give its expansion"
    )


def _theirs(name: str) -> str:
    return next((theirs for theirs, ours in OURS.items() if ours == name), name)


def _expected(cfg: HookedTRMConfig, tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Every tensor of the original, with its shape."""
    width, length = cfg.d_model, cfg.length
    found: dict[str, tuple[int, ...]] = {
        EMBED: (cfg.d_vocab, width),
        "lm_head.weight": (cfg.d_vocab_out, width),
        "q_head.weight": (2, width),
        "q_head.bias": (2,),
        "H_init": (width,),
        "L_init": (width,),
    }
    if cfg.positions == "learned":
        found["embed_pos.embedding_weight"] = (length, width)
    if cfg.puzzle_positions:
        found["puzzle_emb.weights"] = (1, width)
    for layer in range(cfg.n_layers):
        own = f"L_level.layers.{layer}."
        found |= {f"{own}mlp.gate_up_proj.weight": (2 * cfg.d_mlp, width)}
        found |= {f"{own}mlp.down_proj.weight": (width, cfg.d_mlp)}
        if cfg.mlp_t:
            found |= {f"{own}mlp_t.gate_up_proj.weight": (2 * cfg.d_mix, length)}
            found |= {f"{own}mlp_t.down_proj.weight": (length, cfg.d_mix)}
        else:
            found |= {f"{own}self_attn.qkv_proj.weight": (3 * width, width)}
            found |= {f"{own}self_attn.o_proj.weight": (width, width)}
    return found


PLAIN: Final = {
    "z_H_init": "H_init",
    "z_L_init": "L_init",
    "embed.W_E": EMBED,
    "pos_embed.W_pos": "embed_pos.embedding_weight",
    "halt.b": "q_head.bias",
}
TURNED: Final = {"unembed.W_U": "lm_head.weight", "halt.w": "q_head.weight"}


def _ours(name: str, theirs: Mapping[str, Tensor], cfg: HookedTRMConfig) -> Tensor:
    """The weight a parameter of ours is made of."""
    if name in PLAIN:
        return theirs[PLAIN[name]]
    if name in TURNED:
        return theirs[TURNED[name]].T
    if name == "puzzle":
        return theirs["puzzle_emb.weights"][0]
    _, layer, part, last = name.split(".")
    block = f"L_level.layers.{layer}."
    if part == "attn":
        if last == "W_O":
            return theirs[f"{block}self_attn.o_proj.weight"].T.unflatten(0, (cfg.n_heads, -1))
        joint = theirs[f"{block}self_attn.qkv_proj.weight"].chunk(3)["QKV".index(last[-1])]
        return joint.unflatten(0, (cfg.n_heads, -1)).mT
    own = block + ("mlp_t" if part == "mix" else "mlp")
    if last == "W_out":
        return theirs[f"{own}.down_proj.weight"].T
    return theirs[f"{own}.gate_up_proj.weight"].chunk(2)[last == "W_in"].T
