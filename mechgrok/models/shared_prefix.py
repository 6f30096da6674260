"""Exact answer logits of a HookedTransformer, computing every distinct thing once.

On small tasks most of a hooked forward is repetition, or is thrown away. Here keys and values are
computed once per distinct row (`prefix_plan.py`), and the last layer's queries, MLP and unembedding
only where an answer is read. The parameters are the model's own, so gradients reach them as in the
hooked forward; only the order of summation differs. Where the last block has no normalisation its
matrices are multiplied together first (W_O W_in, W_O W_U, W_out W_U): the same algebra, fewer
operations.
"""

from collections.abc import Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Any, Final

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import HookedTransformer, HookedTransformerConfig

from mechgrok.models.hooked import has_hooks
from mechgrok.models.prefix_plan import Group, Source, plan_for
from mechgrok.models.transformer import Transformer, check_tokens

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

NORMALISATIONS: Final = (None, "LN", "LNPre", "RMS", "RMSPre")
DTYPES: Final = (torch.float32, torch.float64)


def answer_logits(
    model: HookedTransformer,
    tokens: Int[Tensor, "batch pos"],
    positions: int | Sequence[int] = -1,
) -> Float[Tensor, "batch d_vocab_out"] | Float[Tensor, "batch positions d_vocab_out"]:
    """Logits at the answer positions, equal to `model(tokens)[:, positions]`.

    An int gives [batch, d_vocab_out], a sequence [batch, positions, d_vocab_out]. With a hook
    attached, or a setting that is not covered (`refusal` names it), it is the hooked forward.

    Raises ValueError for token ids or positions that do not exist.
    """
    check_tokens(model.cfg, tokens)
    wanted = _positions(positions, tokens.shape[1])
    if has_hooks(model) or refusal(model) is not None:
        logits = model(tokens)[:, list(wanted)]
    else:
        ends = _ends(model, tokens, wanted)
        logits = torch.stack([_spread(_answer(model, x, z), index) for x, z, index in ends], dim=1)
    return logits[:, 0] if isinstance(positions, int) else logits


def answer_neurons(
    model: HookedTransformer, tokens: Int[Tensor, "batch pos"], position: int = -1
) -> Float[Tensor, "batch d_mlp"]:
    """The last block's neurons (hook_post) at one position, by the same way and rules.

    Raises ValueError as `answer_logits`, and for a model without an MLP.
    """
    if model.cfg.attn_only:
        raise ValueError("the model has attention only, so it has no neurons")
    check_tokens(model.cfg, tokens)
    wanted = _positions(position, tokens.shape[1])
    if has_hooks(model) or refusal(model) is not None:
        name = f"blocks.{model.cfg.n_layers - 1}.mlp.hook_post"
        return model.run_with_cache(tokens, names_filter=name)[1][name][:, wanted[0]]
    [(x, z, index)] = _ends(model, tokens, wanted)
    block: Any = model.blocks[-1]
    # not in place: what is handed out may get a gradient that is not ours to overwrite
    return _spread(block.mlp.act_fn(_pre(block, _mid(block, x, z))), index)


def refusal(model: Any) -> str | None:
    """The setting for which the hooked forward is used instead; None when the fast one is exact."""
    if type(model) not in (HookedTransformer, Transformer):
        return f"model class {type(model).__name__}"
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


def _ends(
    model: HookedTransformer, tokens: Int[Tensor, "batch pos"], positions: tuple[int, ...]
) -> list[tuple[Tensor, Tensor, Int[Tensor, " batch"] | None]]:
    """Per answer position: the last block's input [1 or M, d_model] and mixed values [M, ...] of
    every distinct prefix, and which of them each row of the batch reads (None: in order)."""
    plan = plan_for(tokens, positions, model.cfg.n_layers, model.cfg.d_vocab)
    embedded = model.embed.W_E.index_select(0, plan.tokens)
    x = embedded + model.pos_embed.W_pos.index_select(0, plan.positions)
    for block, groups in zip(list(model.blocks)[:-1], plan.layers[:-1], strict=True):
        x = torch.cat([_leave(block, own, z) for own, z in _rows(block, x, groups)])
    ends = _rows(model.blocks[-1], x, plan.layers[-1])
    return [(x, z, index) for (x, z), index in zip(ends, plan.answers, strict=True)]


def _rows(
    block: Any, x: Float[Tensor, "R d_model"], groups: Sequence[Group]
) -> list[tuple[Tensor, Tensor]]:
    """Per group, the block's own input [1 or M, d_model] and mixed values [M, heads_d_head]."""
    read = block.ln1(x)
    k = _heads(read, block.attn.W_K, block.attn.b_K)
    v = _heads(read, block.attn.W_V, block.attn.b_V)
    return [(_take(x, group.query), _mix(block.attn, read, k, v, group)) for group in groups]


def _spread(
    rows: Float[Tensor, "M width"], index: Int[Tensor, " batch"] | None
) -> Float[Tensor, "batch width"]:
    return rows if index is None else rows.index_select(0, index)


def _take(x: Float[Tensor, "R *width"], source: Source) -> Float[Tensor, "M *width"]:
    """The row each leaving row reads; a single row is left to broadcast."""
    rows = x[source.rows]
    if source.index is None or source.size == 1:
        return rows
    return rows.index_select(0, source.index)


def _mix(
    attn: Any,
    x: Float[Tensor, "R d_model"],
    k: Float[Tensor, "R heads d_head"],
    v: Float[Tensor, "R heads d_head"],
    group: Group,
) -> Float[Tensor, "M heads_d_head"]:
    q = _heads(x[group.query.rows], attn.W_Q, attn.b_Q) / attn.attn_scale
    parts = zip(group.keys, group.pairs, strict=True)
    columns = [_scores(q, k[key.rows], group.query, key, pair) for key, pair in parts]
    pattern = torch.stack(torch.broadcast_tensors(*columns)).softmax(dim=0)
    z = pattern[0][:, :, None] * _take(v, group.keys[0])
    for weight, key in zip(pattern[1:], group.keys[1:], strict=True):
        z = torch.addcmul(z, weight[:, :, None], _take(v, key))
    return z.flatten(1)


def _scores(
    q: Float[Tensor, "Q heads d_head"],
    k: Float[Tensor, "K heads d_head"],
    query: Source,
    key: Source,
    pair: Int[Tensor, " M"] | None,
) -> Float[Tensor, "M heads"]:
    """Attention scores of the leaving rows on one position: the cheapest of three exact ways."""
    if query.rows == key.rows:
        own = (q * k).sum(-1)
        return own if query.index is None or query.size == 1 else own.index_select(0, query.index)
    if pair is not None:
        table = torch.einsum("qhd,khd->qkh", q, k)
        return table.flatten(0, 1).index_select(0, pair)
    every_q = q if query.index is None else q.index_select(0, query.index)
    every_k = k if key.index is None else k.index_select(0, key.index)
    return (every_q * every_k).sum(-1)


def _heads(
    x: Float[Tensor, "R d_model"],
    W: Float[Tensor, "heads d_model d_head"],
    b: Float[Tensor, "heads d_head"],
) -> Float[Tensor, "R heads d_head"]:
    flat = torch.addmm(
        b.flatten(), x, rearrange(W, "heads d_model d_head -> d_model (heads d_head)")
    )
    return flat.unflatten(1, b.shape)


def _mid(
    block: Any, x: Float[Tensor, "#M d_model"], z: Float[Tensor, "M heads_d_head"]
) -> Float[Tensor, "M d_model"]:
    """The residual stream between attention and MLP."""
    return x + torch.addmm(block.attn.b_O, z, block.attn.W_O.flatten(0, 1))


def _neurons(block: Any, mid: Float[Tensor, "M d_model"]) -> Float[Tensor, "M d_mlp"]:
    """Neurons after the activation function."""
    return _activated(block.mlp, _pre(block, mid))


def _pre(block: Any, mid: Float[Tensor, "M d_model"]) -> Float[Tensor, "M d_mlp"]:
    """Neurons before the activation function."""
    return torch.addmm(block.mlp.b_in, block.ln2(mid), block.mlp.W_in)


def _activated(mlp: Any, pre: Float[Tensor, "M d_mlp"]) -> Float[Tensor, "M d_mlp"]:
    """The activation function; overwrites `pre`, which nothing else reads, where it can."""
    return _Relu.apply(pre) if mlp.act_fn is F.relu else mlp.act_fn(pre)


class _Relu(torch.autograd.Function):
    """ReLU in place, forward and backward: the neurons are the largest arrays of a step.

    Only where a matrix product reads them, whose backward makes the gradient that is overwritten.
    """

    @staticmethod
    def forward(ctx: Any, pre: Float[Tensor, "M d_mlp"]) -> Float[Tensor, "M d_mlp"]:
        ctx.mark_dirty(pre)
        post = pre.relu_()
        ctx.save_for_backward(post)
        return post

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Float[Tensor, "M d_mlp"]
    ) -> Float[Tensor, "M d_mlp"]:
        (post,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is asked for
            return grad * (post > 0)
        return torch.ops.aten.threshold_backward.grad_input(grad, post, 0, grad_input=grad)


def _leave(
    block: Any, x: Float[Tensor, "#M d_model"], z: Float[Tensor, "M heads_d_head"]
) -> Float[Tensor, "M d_model"]:
    """The residual stream leaving a block."""
    mid = _mid(block, x, z)
    if block.cfg.attn_only:
        return mid
    return mid + torch.addmm(block.mlp.b_out, _neurons(block, mid), block.mlp.W_out)


def _answer(
    model: HookedTransformer,
    x: Float[Tensor, "#M d_model"],
    z: Float[Tensor, "M heads_d_head"],
) -> Float[Tensor, "M d_vocab_out"]:
    """Logits from the last block's input and mixed values at the answer position."""
    block: Any = model.blocks[-1]
    W_U, b_U = model.unembed.W_U, model.unembed.b_U
    if model.cfg.normalization_type is not None:
        return torch.addmm(b_U, model.ln_final(_leave(block, x, z)), W_U)
    if block.cfg.attn_only:
        return torch.addmm(b_U, _leave(block, x, z), W_U)
    W_O, mlp = block.attn.W_O.flatten(0, 1), block.mlp
    bias = mlp.b_out @ W_U + b_U
    if len(x) == 1:  # one answer token: x adds the same to every row, so W_O folds into its readers
        x = x + block.attn.b_O
        post = _activated(mlp, torch.addmm(x @ mlp.W_in + mlp.b_in, z, W_O @ mlp.W_in))
        direct = torch.addmm(x @ W_U + bias, z, W_O @ W_U)
    else:
        mid = _mid(block, x, z)
        post = _neurons(block, mid)
        direct = torch.addmm(bias, mid, W_U)
    return direct.addmm_(post, mlp.W_out @ W_U)
