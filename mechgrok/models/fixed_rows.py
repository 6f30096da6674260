"""Answer logits of the same few rows, again and again: fewer operations than `shared_prefix.py`.

For some hundred rows the time goes into starting operations, not into them. Distinct prefixes are
still computed once (what leaves a layer at a position depends on the tokens up to it), but
attention is one operation over whole rows. For use without gradients; equal to the hooked forward
but for the order of summation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechgrok.models.hooked import has_hooks
from mechgrok.models.prefix_rows import heads
from mechgrok.models.shared_prefix import answer_logits, family_of, refusal


@dataclass(frozen=True)
class Layer:
    """Which rows enter a layer and which leave it."""

    keys: Int[Tensor, "batch pos"]
    """Row of what enters, at every position of the batch."""
    queries: Int[Tensor, "batch query"]
    """The same at the positions that leave."""
    later: Bool[Tensor, "query pos 1"]
    """Positions a query must not read."""
    leaving: Int[Tensor, " M"] | None
    """The query, among all of the batch, of each row that leaves; None: every one in order."""
    own: Int[Tensor, " M"]
    """Row of what enters, for each row that leaves."""

    @classmethod
    def of(
        cls,
        keys: Int[Tensor, "batch pos"],
        positions: Sequence[int],
        leaving: Int[Tensor, " M"] | None,
    ) -> "Layer":
        """A layer that queries at `positions`."""
        queries = keys[:, list(positions)]
        every = torch.arange(keys.shape[1], device=keys.device)
        later = every > every[list(positions), None]
        own = queries.flatten() if leaving is None else queries.flatten()[leaving]
        return cls(keys, queries, later[:, :, None], leaving, own)


class FixedRows:
    """Rows and the positions at which their logits are read."""

    def __init__(self, tokens: Int[Tensor, "batch pos"], positions: tuple[int, ...]) -> None:
        """Find the distinct prefixes once."""
        self.tokens, self.positions = tokens, positions
        read = tokens[:, : max(positions) + 1]
        places = torch.arange(read.shape[1], device=tokens.device).expand_as(read)
        single, of_single = _distinct(torch.stack([places, read], dim=-1).flatten(0, 1))
        causal = places[0][:, None] >= places[0]
        self.shared, of_prefix = _distinct(torch.where(causal, read[:, None], -1).flatten(0, 1))
        self.ids, self.places = read.flatten()[single], places.flatten()[single]
        self.single, self.prefix = of_single.view_as(read), of_prefix.view_as(read)
        self._layers: list[Layer] = []

    def layers(self, n_layers: int) -> list[Layer]:
        """What enters and leaves each of so many layers."""
        if len(self._layers) != n_layers:
            keys = [self.single] + [self.prefix] * (n_layers - 1)
            every = range(self.single.shape[1])
            self._layers = [Layer.of(k, every, self.shared) for k in keys[:-1]]
            self._layers.append(Layer.of(keys[-1], self.positions, None))
        return self._layers

    def covers(self, model: Any) -> bool:
        """Whether the fast way is exact: without hooks, and `refusal` names nothing.

        Then nothing depends on training or eval mode either.
        """
        return not has_hooks(model) and refusal(model) is None

    def logits(self, model: Any) -> Float[Tensor, "batch positions d_vocab_out"]:
        """As `answer_logits`, which it calls for a model it does not cover."""
        if not self.covers(model):
            return answer_logits(model, self.tokens, self.positions)
        of, *blocks = family_of(model), *model.blocks
        x = model.embed.W_E.index_select(0, self.ids)
        x = x + model.pos_embed.W_pos.index_select(0, self.places)
        for block, layer in zip(blocks, self.layers(len(blocks)), strict=True):
            own, z = x.index_select(0, layer.own), _mixed(block.attn, of.read(block, x), layer)
            x = of.answer(model, own, z) if block is blocks[-1] else of.leave(block, own, z)
        return x.unflatten(0, (len(self.tokens), len(self.positions)))


def _mixed(
    attn: Any, read: Float[Tensor, "R d_model"], layer: Layer
) -> Float[Tensor, "M heads_d_head"]:
    """Values mixed by causal attention, for each row that leaves."""
    W, b = torch.cat([attn.W_K, attn.W_V]), torch.cat([attn.b_K, attn.b_V])
    k, v = _at(heads(read, W, b), layer.keys).chunk(2, dim=2)
    if layer.leaving is None:  # one query per row that leaves
        q = heads(read.index_select(0, layer.own), attn.W_Q, attn.b_Q)
        q = q.unflatten(0, layer.queries.shape)
    else:
        q = _at(heads(read, attn.W_Q, attn.b_Q), layer.queries)
    scores = ((q / attn.attn_scale)[:, :, None] * k[:, None]).sum(-1)  # batch query key head
    pattern = scores.masked_fill_(layer.later, -torch.inf).softmax(dim=2)
    z = (pattern[..., None] * v[:, None]).sum(2).flatten(0, 1).flatten(1)
    return z if layer.leaving is None else z.index_select(0, layer.leaving)


def _at(
    rows: Float[Tensor, "R head d_head"], index: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch pos head d_head"]:
    return rows.index_select(0, index.flatten()).unflatten(0, index.shape)


def _distinct(
    rows: Int[Tensor, "n width"],
) -> tuple[Int[Tensor, " distinct"], Int[Tensor, " n"]]:
    """An example of every distinct row, and which one each row is."""
    found, of = torch.unique(rows, dim=0, return_inverse=True)
    example = torch.full((len(found),), len(rows), device=rows.device)
    every = torch.arange(len(rows), device=rows.device)
    return example.scatter_reduce(0, of, every, "amin"), of
