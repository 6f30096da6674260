"""The rows that must be computed, attention over them, and neurons: what every family shares.

`shared_prefix.py` and `post_ln_prefix.py` say how a block normalises; which rows there are is
`prefix_plan.py`'s.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechgrok.models.prefix_plan import Group, Source, plan_for

Read = Callable[[Any, Tensor], Tensor]
"""(block, its input) -> what its attention reads."""
Leave = Callable[[Any, Tensor, Tensor], Tensor]
"""(block, its input, mixed values) -> the residual stream leaving it."""


def ends(
    model: Any,
    tokens: Int[Tensor, "batch pos"],
    positions: tuple[int, ...],
    read: Read,
    leave: Leave,
) -> list[tuple[Tensor, Tensor, Int[Tensor, " batch"] | None]]:
    """Per answer position: the last block's input [1 or M, d_model] and mixed values [M, ...] of
    every distinct prefix, and which of them each row of the batch reads (None: in order)."""
    plan = plan_for(tokens, positions, model.cfg.n_layers, model.cfg.d_vocab)
    embedded = model.embed.W_E.index_select(0, plan.tokens)
    x = embedded + model.pos_embed.W_pos.index_select(0, plan.positions)
    for block, groups in zip(list(model.blocks)[:-1], plan.layers[:-1], strict=True):
        leaving = _rows(block.attn, x, read(block, x), groups)
        x = torch.cat([leave(block, own, z) for own, z in leaving])
    last = model.blocks[-1]
    found = _rows(last.attn, x, read(last, x), plan.layers[-1])
    return [(x, z, index) for (x, z), index in zip(found, plan.answers, strict=True)]


def _rows(
    attn: Any,
    x: Float[Tensor, "R d_model"],
    read: Float[Tensor, "R d_model"],
    groups: Sequence[Group],
) -> list[tuple[Tensor, Tensor]]:
    """Per group, the block's own input [1 or M, d_model] and mixed values [M, heads_d_head]."""
    k = heads(read, attn.W_K, attn.b_K)
    v = heads(read, attn.W_V, attn.b_V)
    return [(_take(x, group.query), _mix(attn, read, k, v, group)) for group in groups]


def spread(
    rows: Float[Tensor, "M width"], index: Int[Tensor, " batch"] | None
) -> Float[Tensor, "batch width"]:
    """The row each row of the batch reads."""
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
    q = heads(x[group.query.rows], attn.W_Q, attn.b_Q) / attn.attn_scale
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


def heads(
    x: Float[Tensor, "R d_model"],
    W: Float[Tensor, "heads d_model d_head"],
    b: Float[Tensor, "heads d_head"],
) -> Float[Tensor, "R heads d_head"]:
    """Queries, keys or values of every row."""
    flat = torch.addmm(
        b.flatten(), x, rearrange(W, "heads d_model d_head -> d_model (heads d_head)")
    )
    return flat.unflatten(1, b.shape)


def activated(mlp: Any, pre: Float[Tensor, "M d_mlp"]) -> Float[Tensor, "M d_mlp"]:
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
