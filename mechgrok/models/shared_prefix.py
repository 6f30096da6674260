"""Exact answer logits of a hooked model, computing every distinct thing once.

On small tasks most of a hooked forward is repetition, or is thrown away. Here keys and values are
computed once per distinct row (`prefix_plan.py`), and the last layer's queries, MLP and unembedding
only where an answer is read. The parameters are the model's own, so gradients reach them as in the
hooked forward; only the order of summation differs.
"""

from collections.abc import Sequence
from dataclasses import fields
from functools import lru_cache
from types import ModuleType
from typing import Any, Final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import HookedTransformer, HookedTransformerConfig

from mechgrok.models import post_ln_prefix, pre_ln_prefix, trm_fast
from mechgrok.models.hooked import StrictHooks, has_hooks
from mechgrok.models.post_ln import PostLN
from mechgrok.models.prefix_rows import ends, spread
from mechgrok.models.transformer import Transformer, check_tokens
from mechgrok.models.trm import HookedTRM

VARIABLE: Final = frozenset(
    [
        *("d_model", "d_head", "n_layers", "n_ctx", "n_heads", "d_mlp", "d_vocab", "d_vocab_out"),
        *("act_fn", "eps", "attn_only", "normalization_type", "dtype", "device", "n_devices"),
        *("use_attn_scale", "attn_scale", "scale_attn_by_inverse_layer_idx"),
        *("use_attn_result", "use_split_qkv_input", "use_attn_in", "use_hook_mlp_in"),
        *("seed", "init_mode", "init_weights", "initializer_range", "n_params", "model_name"),
        "default_prepend_bos",
    ]
)
"""Settings followed at any value; every other one must have TransformerLens's default."""

Hooked = HookedTransformer | StrictHooks
"""Models whose answers are read here; those of other packages by their own forward."""
NORMALISATIONS: Final = (None, "LN", "LNPre", "RMS", "RMSPre")
DTYPES: Final = (torch.float32, torch.float64)


def answer_logits(
    model: Hooked,
    tokens: Int[Tensor, "batch pos"],
    positions: int | Sequence[int] = -1,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch d_vocab_out"] | Float[Tensor, "batch positions d_vocab_out"]:
    """Logits at the answer positions, equal to `model(tokens)[:, positions]`.

    An int gives [batch, d_vocab_out], a sequence [batch, positions, d_vocab_out]. With a hook
    attached, or a setting that is not covered (`refusal` names it), it is the hooked forward, whose
    dropout and weight noise are drawn from `generator`.

    Raises ValueError for token ids or positions that do not exist.
    """
    check_tokens(model.cfg, tokens)
    wanted = _positions(positions, tokens.shape[1])
    if has_hooks(model) or _noisy(model) or refusal(model) is not None:
        noise = {"generator": generator} if _noisy(model) else {}
        logits = model(tokens, **noise)[:, list(wanted)]
    elif isinstance(model, HookedTRM):
        logits = trm_fast.segments(model, tokens, wanted)[-1].logits
    else:
        family = family_of(model)
        found = ends(model, tokens, wanted, family.read, family.leave)
        logits = torch.stack([spread(family.answer(model, x, z), i) for x, z, i in found], dim=1)
    return logits[:, 0] if isinstance(positions, int) else logits


def row_logits(
    model: Hooked,
    tokens: Int[Tensor, "rows pos"],
    at: Int[Tensor, "rows answers"],
    positions: Sequence[int] | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "rows answers d_vocab_out"]:
    """Logits at every row's own answer positions; otherwise as `answer_logits`.

    `positions` are all that occur, in order, where they are known already.
    """
    known = torch.unique(at).tolist() if positions is None else list(positions)
    return at_own_positions(answer_logits(model, tokens, known, generator), at, known)


def at_own_positions(
    logits: Float[Tensor, "rows positions d_vocab_out"],
    at: Int[Tensor, "rows answers"],
    positions: Sequence[int],
) -> Float[Tensor, "rows answers d_vocab_out"]:
    """Of logits at some positions, those at every row's own."""
    if at.shape[1] == len(positions) == 1:
        return logits
    place = torch.full((max(positions) + 1,), -1, device=logits.device)
    place[list(positions)] = torch.arange(len(positions), device=logits.device)
    return logits.gather(1, place[at][:, :, None].expand(-1, -1, logits.shape[-1]))


def answer_neurons(
    model: Hooked, tokens: Int[Tensor, "batch pos"], position: int = -1
) -> Float[Tensor, "batch d_mlp"]:
    """The last block's neurons (hook_post) at one position, by the same way and rules.

    Raises ValueError as `answer_logits`, and for a model without an MLP.
    """
    if model.cfg.attn_only:
        raise ValueError("the model has attention only, so it has no neurons")
    if isinstance(model, HookedTRM):
        name = f"cycle.{model.cfg.cycles - 1}.blocks.{model.cfg.n_layers - 1}.mlp.hook_post"
        place = _positions(position, tokens.shape[1])[0] + model.cfg.puzzle_positions
        return model.run_with_cache(tokens, names_filter=name)[1][name][:, place]
    check_tokens(model.cfg, tokens)
    wanted = _positions(position, tokens.shape[1])
    if has_hooks(model) or refusal(model) is not None:
        name = f"blocks.{model.cfg.n_layers - 1}.mlp.hook_post"
        return model.run_with_cache(tokens, names_filter=name)[1][name][:, wanted[0]]
    family = family_of(model)
    [(x, z, index)] = ends(model, tokens, wanted, family.read, family.leave)
    blocks: Any = model.blocks
    block = blocks[-1]
    # not in place: what is handed out may get a gradient that is not ours to overwrite
    return spread(block.mlp.act_fn(family.pre(block, x, z)), index)


def refusal(model: Any) -> str | None:
    """The setting for which the hooked forward is used instead; None when the fast one is exact."""
    if type(model) not in (HookedTransformer, Transformer, PostLN, HookedTRM):
        return f"model class {type(model).__name__}"
    if isinstance(model, HookedTRM):
        return None
    if _noisy(model):
        return "dropout or weight noise in training"
    for name, default in _defaults():
        if getattr(model.cfg, name) != default:
            return f"{name} = {getattr(model.cfg, name)!r}"
    if model.cfg.normalization_type not in NORMALISATIONS:
        return f"normalization_type = {model.cfg.normalization_type!r}"
    if model.cfg.dtype not in DTYPES or model.embed.W_E.dtype != model.cfg.dtype:
        return f"dtype = {model.cfg.dtype}, weights {model.embed.W_E.dtype}"
    if model.cfg.is_layer_norm_activation():
        return f"act_fn = {model.cfg.act_fn!r}"
    return None


def _noisy(model: Any) -> bool:
    return isinstance(model, PostLN | HookedTRM) and model.noisy


def family_of(model: Any) -> ModuleType:
    """How its blocks treat distinct rows: `read`, `leave`, `pre` and `answer`."""
    return post_ln_prefix if isinstance(model, PostLN) else pre_ln_prefix


@lru_cache(maxsize=1)
def _defaults() -> list[tuple[str, Any]]:
    reference = HookedTransformerConfig(
        n_layers=1, d_model=1, n_ctx=1, d_head=1, n_heads=1, d_vocab=1, act_fn="relu", device="cpu"
    )
    names = [f.name for f in fields(reference) if f.name not in VARIABLE]
    return [(name, getattr(reference, name)) for name in names]


def _positions(positions: int | Sequence[int], n_ctx: int) -> tuple[int, ...]:
    given = (positions,) if isinstance(positions, int) else tuple(positions)
    if not given or any(not -n_ctx <= p < n_ctx for p in given):
        raise ValueError(f"answer positions {list(given)}; expected some of {-n_ctx}..{n_ctx - 1}")
    return tuple(p % n_ctx for p in given)
