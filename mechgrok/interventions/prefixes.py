"""Patched runs of a causal transformer that compute only what differs.

The stack of all variants goes through the model's own blocks one layer and one position at a time
(TransformerLens's forward with `start_at_layer`, `stop_at_layer` and past keys and values), and at
each only the distinct rows: rows that agree in every token and patch so far are one row. A patch
inside a block is a hook on that one position; patches of the stream, and of what is added to it,
join where they first differ. So what variants share is computed once, and positions whose logits
nobody reads are left out.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechgrok.interventions import patches
from mechgrok.interventions.coverage import ADDED, ENTRY, TO_KEYS, WITHIN
from mechgrok.interventions.distinct import Rows, by_value, combinations
from mechgrok.interventions.node import Node
from mechgrok.interventions.patches import Patch, Variant

CHUNK: Final = 4096
"""Rows of one forward pass of one block at one position; bounds memory, changes no number."""
STACK: Final = 200_000
"""Rows of all variants that are held together."""


def logits(
    model: Any,
    tokens: Int[Tensor, "batch pos"],
    variants: Sequence[Variant],
    positions: Sequence[int],
) -> Iterator[Float[Tensor, "batch positions d_vocab_out"]]:
    """Logits at the given positions, of one variant after the other."""
    each = max(1, STACK // len(tokens))
    for start in range(0, len(variants), each):
        yield from _Stack(model, tokens, variants[start : start + each]).logits(positions)


class _Stack:
    """All variants of a batch: row v * batch + b of the stack is variant v of row b."""

    def __init__(
        self, model: Any, tokens: Int[Tensor, "batch pos"], variants: Sequence[Variant]
    ) -> None:
        self.model, self.tokens, self.variants = model, tokens, variants
        self.batch, self.length = tokens.shape
        self.rows = torch.arange(len(variants) * self.batch, device=tokens.device)

    def logits(self, positions: Sequence[int]) -> Iterator[Tensor]:
        """Of one variant after the other, [batch, positions, d_vocab_out]."""
        n_layers, read = int(self.model.cfg.n_layers), sorted(set(positions))
        stream = self._embedded()
        for layer in range(n_layers):
            self._overwrite(stream, layer, "resid_pre")
            stream = self._block(stream, layer, read if layer == n_layers - 1 else [*stream])
            self._overwrite(stream, layer, "resid_post")
        ends = {s: self._unembedded(stream[s]) for s in read}
        for v in range(len(self.variants)):
            found = [ends[s].take(self._own(v))[:, None] for s in positions]
            yield found[0] if len(found) == 1 else torch.cat(found, dim=1)

    def _own(self, v: int) -> Tensor:
        """A variant's rows of the stack."""
        return self.rows[v * self.batch : (v + 1) * self.batch]

    def _patches(self, layer: int, among: frozenset[str], s: int) -> list[tuple[int, Patch]]:
        """(variant, patch) of a layer at one position."""
        return [
            (v, patch)
            for v, variant in enumerate(self.variants)
            for patch in variant
            if patch.node.layer == layer and patch.node.component in among and patch.touches(s)
        ]

    def _embedded(self) -> dict[int, Rows]:
        """The stream entering layer 0, by position."""
        made: dict[tuple[int, ...], int] = {}
        arrays, which = [], []
        for variant in self.variants:
            entry = [p for p in variant if p.node.component in ENTRY]
            key = tuple(id(p.values) for p in entry)
            if key not in made:
                made[key] = len(arrays)
                with self.model.hooks(fwd_hooks=patches.hooks(entry)):
                    arrays.append(self.model(self.tokens, stop_at_layer=0))
            which.append(made[key])
        stacked = torch.cat(arrays)
        rows = torch.cat([self._own(0) + i * self.batch for i in which])
        return {s: by_value(stacked[:, s], rows) for s in range(self.length)}

    def _overwrite(self, stream: dict[int, Rows], layer: int, component: str) -> None:
        """The variants' patches of the residual stream between two blocks."""
        for s, old in stream.items():
            kept, index = [old.kept], old.index.clone()
            for v, patch in self._patches(layer, frozenset([component]), s):
                index[self._own(v)] = sum(map(len, kept)) + self._own(0)
                kept.append(patch.at(s).to(old.kept.dtype))
            if len(kept) > 1:
                stream[s] = by_value(torch.cat(kept), index)

    def _block(
        self, stream: Mapping[int, Rows], layer: int, read: Sequence[int]
    ) -> dict[int, Rows]:
        """The stream leaving a block at the positions that are read."""
        past: list[tuple[Rows, Rows]] = []
        leaving: dict[int, Rows] = {}
        for s in range(max(read) + 1):
            if s in read:
                leaving[s] = self._leave(stream[s], layer, s, past)
            if s < max(read):
                past.append(self._keys(stream[s], layer, s))
        return leaving

    def _leave(self, own: Rows, layer: int, s: int, past: Sequence[tuple[Rows, Rows]]) -> Rows:
        """One position of the stream leaving a block, once for each distinct row and past."""
        joining = self._patches(layer, ADDED, s)
        changed = self._changed(layer, s, WITHIN)
        first, index = combinations([own.index, changed, *(k.index for k, _ in past)])
        mids: list[Tensor] = []
        keep = any(p.node.component == "mlp_out" for _, p in joining)
        made = [
            self._run(own, layer, s, past, rows, mids if keep else None)
            for rows in first.split(CHUNK)
        ]
        mid = Rows(torch.cat(mids), index) if keep else None
        kept, index = [torch.cat(made)], index.clone()
        for v, patch in joining:
            rows = self._own(v)
            joined = self._join(own, layer, patch, patch.at(s).to(own.kept.dtype), rows, mid)
            index[rows] = sum(map(len, kept)) + self._own(0)
            kept.append(joined)
        return Rows(torch.cat(kept) if joining else kept[0], index)

    def _run(
        self,
        own: Rows,
        layer: int,
        s: int,
        past: Sequence[tuple[Rows, Rows]],
        rows: Tensor,
        mids: list[Tensor] | None,
    ) -> Tensor:
        """One block at one position, for some rows of the stack; the stream between attention and
        MLP is added to `mids`."""
        hooks = self._hooks(layer, s, WITHIN, rows)
        if mids is not None:
            hooks.append((f"blocks.{layer}.hook_resid_mid", lambda x, hook: mids.append(x[:, 0])))
        cache = {layer: _Past(past, rows)} if past else None
        with self.model.hooks(fwd_hooks=hooks):
            return self.model(
                own.take(rows)[:, None],
                start_at_layer=layer,
                stop_at_layer=layer + 1,
                past_kv_cache=cache,
            )[:, 0]

    def _join(
        self, own: Rows, layer: int, patch: Patch, values: Tensor, rows: Tensor, mid: Rows | None
    ) -> Tensor:
        """The leaving stream of rows whose attention or MLP output, or stream between the two, is
        given."""
        if patch.node.component == "mlp_out":
            assert mid is not None
            return mid.take(rows) + values
        entering = values if patch.node.component == "resid_mid" else own.take(rows) + values
        made = []
        for part in entering.split(CHUNK):
            # the row that enters the block is thrown away; the MLP reads what the hook returns
            given = partial(_given, part[:, None])
            with self.model.hooks(fwd_hooks=[(f"blocks.{layer}.hook_resid_mid", given)]):
                x = own.kept[:1, None]
                made.append(self.model(x, start_at_layer=layer, stop_at_layer=layer + 1)[:, 0])
        return torch.cat(made)

    def _keys(self, own: Rows, layer: int, s: int) -> tuple[Rows, Rows]:
        """Keys and values of a position, once for each distinct row."""
        first, index = combinations([own.index, self._changed(layer, s, TO_KEYS)])
        made: dict[str, list[Tensor]] = {"k": [], "v": []}

        def keep(name: str) -> Callable[..., None]:
            def hooked(activation: Tensor, hook: Any) -> None:
                made[name].append(activation[:, 0])
                if len(made["k"]) == len(made["v"]):
                    raise _Enough

            return hooked

        for rows in first.split(CHUNK):
            hooks = self._hooks(layer, s, TO_KEYS, rows)
            hooks += [(f"blocks.{layer}.attn.hook_{name}", keep(name)) for name in made]
            try:
                with self.model.hooks(fwd_hooks=hooks):
                    self.model(own.take(rows)[:, None], start_at_layer=layer)
            except _Enough:
                pass
        return Rows(torch.cat(made["k"]), index), Rows(torch.cat(made["v"]), index)

    def _unembedded(self, own: Rows) -> Rows:
        first, index = combinations([own.index])
        start = int(self.model.cfg.n_layers)
        made = [
            self.model(own.take(rows)[:, None], start_at_layer=start)[:, 0]
            for rows in first.split(CHUNK)
        ]
        return Rows(torch.cat(made), index)

    def _changed(self, layer: int, s: int, among: frozenset[str]) -> Tensor:
        """A number for every row of the stack: its own where a patch changes it, otherwise 0."""
        found = torch.zeros_like(self.rows)
        for v, _ in self._patches(layer, among, s):
            found[self._own(v)] = self._own(v) + 1
        return found

    def _hooks(
        self, layer: int, s: int, among: frozenset[str], rows: Tensor
    ) -> list[tuple[str, Callable[..., Any]]]:
        """Hooks on one position of a block that patch those of the given rows they belong to."""
        by_hook: dict[str, list[tuple[Tensor, Tensor, Node]]] = {}
        for v, patch in self._patches(layer, among, s):
            own = (rows // self.batch == v).nonzero()[:, 0]
            if len(own):
                work = by_hook.setdefault(patch.node.hook, [])
                work.append((own, patch.at(s)[rows[own] % self.batch], patch.node))
        return [(name, _write(work)) for name, work in by_hook.items()]


class _Enough(Exception):
    """Keys and values are there; the rest of the pass is not needed."""


class _Past:
    """Keys and values of the positions before, as TransformerLens's cache entry hands them out."""

    def __init__(self, past: Sequence[tuple[Rows, Rows]], rows: Tensor) -> None:
        self.k, self.v = (self._room([part[i] for part in past], rows) for i in (0, 1))
        self.past_keys, self.past_values = self.k[:, :-1], self.v[:, :-1]

    @staticmethod
    def _room(parts: Sequence[Rows], rows: Tensor) -> Tensor:
        """[rows, positions + 1, ...], the last one still to be filled."""
        room = parts[0].kept.new_empty(len(rows), len(parts) + 1, *parts[0].kept.shape[1:])
        for s, part in enumerate(parts):
            room[:, s] = part.take(rows)
        return room

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values up to this position."""
        self.k[:, -1:], self.v[:, -1:] = k, v
        return self.k, self.v


def _given(values: Tensor, activation: Tensor, hook: Any) -> Tensor:
    """A hook that returns values of its own."""
    return values


def _write(work: Sequence[tuple[Tensor, Tensor, Node]]) -> Callable[..., Tensor]:
    def hooked(activation: Tensor, hook: Any) -> Tensor:
        changed = activation.clone()
        for rows, values, node in work:
            part = changed[rows]
            part[(slice(None), 0, *node.index[2:])] = values.to(changed.dtype)
            changed[rows] = part
        return changed

    return hooked
