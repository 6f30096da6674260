"""Patched runs of a causal transformer that compute only what differs.

The stack of all variants goes through the model's own blocks one layer and one position at a time
(TransformerLens's forward with `start_at_layer`, `stop_at_layer` and past keys and values), and at
each only the distinct rows: rows that agree in every token and patch so far are one row. A patch is
a hook on that one position. So a variant joins at the first layer and position it changes, what
variants share is computed once, and positions whose logits nobody reads are left out.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechgrok.interventions.nodes import Node

CHUNK: Final = 4096
"""Rows of one forward pass of one block at one position; bounds memory, changes no number."""
STACK: Final = 200_000
"""Rows of all variants that are held together."""
TO_KEYS: Final = frozenset(["attn_in", "k_input", "v_input", "attn.k", "attn.v"])
"""Hook points that the keys and values of a position depend on."""
WITHIN: Final = frozenset(
    ["attn_out", "resid_mid", "mlp_in", "mlp_out", "mlp.pre", "mlp.post"]
    + ["attn.q", "attn.z", "attn.result", "q_input"]
)
"""Hook points that only the block's output at the same position depends on."""
ENTRY: Final = ("embed", "pos_embed")


@dataclass(frozen=True, eq=False)
class Patch:
    """A node and what it becomes."""

    node: Node
    values: Tensor
    """Its slice [batch, ...] in every row of the batch, a frequency already blended in."""

    def check(self, tokens: Int[Tensor, "batch pos"]) -> None:
        """Raise ValueError unless there is a value for each row."""
        if len(self.values) != len(tokens):
            raise ValueError(
                f"{self.node.name}: {len(self.values)} rows of values for {len(tokens)} of tokens"
            )

    def at(self, position: int) -> Tensor:
        """Values at one position."""
        return self.values if self.node.position is not None else self.values[:, position]

    def local(self, rows: Tensor) -> tuple[Any, ...]:
        """Index into an activation of this node's position alone."""
        return (rows, 0, *self.node.index[2:])


@dataclass(frozen=True, eq=False)
class Rows:
    """One array for every row of the stack, held as its distinct rows."""

    kept: Float[Tensor, "distinct *width"]
    index: Int[Tensor, " stack"]

    def take(self, rows: Int[Tensor, " _"]) -> Tensor:
        """The arrays of some rows of the stack."""
        return self.kept[self.index[rows]]


def applies(model: Any, variants: Sequence[Sequence[Patch]]) -> bool:
    """Whether these variants can run here: a causal model that can start at a layer and take past
    keys, no other hook attached, and patches at hook points whose place in a block is known."""
    if has_hooks(model) or not _starts_anywhere(type(model)):
        return False
    cfg = model.cfg
    if cfg.attention_dir != "causal" or cfg.positional_embedding_type != "standard":
        return False
    return all(_known(patch.node) for variant in variants for patch in variant)


def has_hooks(model: Any) -> bool:
    """Whether any hook is attached at a hook point, or to any module."""
    return any(
        getattr(module, kind, None)
        for module in model.modules()
        for kind in ("fwd_hooks", "bwd_hooks", "_forward_hooks", "_forward_pre_hooks")
    )


def logits(
    model: Any,
    tokens: Int[Tensor, "batch pos"],
    variants: Sequence[Sequence[Patch]],
    positions: Sequence[int],
) -> Iterator[Float[Tensor, "batch positions d_vocab_out"]]:
    """Logits at the given positions, of one variant after the other."""
    each = max(1, STACK // len(tokens))
    for start in range(0, len(variants), each):
        yield from _Stack(model, tokens, variants[start : start + each]).logits(positions)


class _Stack:
    """All variants of a batch: row v * batch + b of the stack is variant v of row b."""

    def __init__(
        self, model: Any, tokens: Int[Tensor, "batch pos"], variants: Sequence[Sequence[Patch]]
    ) -> None:
        self.model, self.tokens, self.variants = model, tokens, variants
        self.batch, self.length = tokens.shape
        self.rows = torch.arange(len(variants) * self.batch, device=tokens.device)

    def logits(self, positions: Sequence[int]) -> Iterator[Tensor]:
        """Of one variant after the other, [batch, positions, d_vocab_out]."""
        n_layers, read = int(self.model.cfg.n_layers), sorted(set(positions))
        stream = self._embedded()
        for layer in range(n_layers):
            stream = self._overwritten(stream, layer, "resid_pre")
            stream = self._block(stream, layer, read if layer == n_layers - 1 else [*stream])
            stream = self._overwritten(stream, layer, "resid_post")
        ends = {s: self._unembedded(stream[s]) for s in read}
        for v in range(len(self.variants)):
            own = self.rows[v * self.batch : (v + 1) * self.batch]
            yield torch.stack([ends[s].take(own) for s in positions], dim=1)

    def _embedded(self) -> dict[int, Rows]:
        """The stream entering layer 0, by position."""
        made: dict[tuple[int, ...], int] = {}
        arrays, which = [], []
        for variant in self.variants:
            entry = [p for p in variant if p.node.component in ENTRY]
            key = tuple(id(p.values) for p in entry)
            if key not in made:
                made[key] = len(arrays)
                arrays.append(self._embed(entry))
            which.append(made[key])
        stacked = torch.cat(arrays)
        rows = torch.cat([torch.arange(self.batch) + i * self.batch for i in which])
        rows = rows.to(self.tokens.device)
        return {s: _distinct_values(stacked[:, s], rows) for s in range(self.length)}

    def _embed(self, entry: Sequence[Patch]) -> Tensor:
        def write(of: Patch) -> Callable[..., Tensor]:
            def hooked(activation: Tensor, hook: Any) -> Tensor:
                changed = activation.clone()
                changed[of.node.index] = of.values.to(changed.dtype)
                return changed

            return hooked

        with self.model.hooks(fwd_hooks=[(p.node.hook, write(p)) for p in entry]):
            return self.model(self.tokens, stop_at_layer=0)

    def _overwritten(
        self, stream: Mapping[int, Rows], layer: int, component: str
    ) -> dict[int, Rows]:
        """The stream with the variants' patches of the residual stream between two blocks."""
        found = dict(stream)
        for v, patch in self._patches(layer, {component}):
            for s in found:
                if patch.node.position in (None, s):
                    old = found[s]
                    rows = old.index.clone()
                    new = torch.arange(self.batch, device=rows.device) + len(old.kept)
                    rows[v * self.batch : (v + 1) * self.batch] = new
                    both = torch.cat([old.kept, patch.at(s).to(old.kept.dtype)])
                    found[s] = _distinct_values(both, rows)
        return found

    def _block(self, stream: Mapping[int, Rows], layer: int, read: list[int]) -> dict[int, Rows]:
        """The stream leaving a block at the positions that are read."""
        past: list[tuple[Rows, Rows]] = []
        leaving: dict[int, Rows] = {}
        for s in range(max(read) + 1):
            if s in read:
                leaving[s] = self._leave(stream[s], layer, s, past)
            if s < max(read):
                past.append(self._keys(stream[s], layer, s))
        return leaving

    def _leave(
        self, own: Rows, layer: int, s: int, past: Sequence[tuple[Rows, Rows]]
    ) -> Rows:
        """One position of the stream leaving a block, once for each distinct row and past."""
        changed = self._changed(layer, s, WITHIN | TO_KEYS)
        first, index = _distinct([own.index, changed, *(k.index for k, _ in past)])
        made = []
        for rows in first.split(CHUNK):
            cache = None
            if past:
                k, v = (torch.stack([x.take(rows) for x in part], 1) for part in zip(*past, strict=True))
                cache = {layer: _Past(k, v)}
            hooks = self._hooks(layer, s, WITHIN | TO_KEYS, rows)
            with self.model.hooks(fwd_hooks=hooks):
                x = own.take(rows)[:, None]
                one = {"start_at_layer": layer, "stop_at_layer": layer + 1}
                made.append(self.model(x, **one, past_kv_cache=cache)[:, 0])
        return Rows(torch.cat(made), index)

    def _keys(self, own: Rows, layer: int, s: int) -> tuple[Rows, Rows]:
        """Keys and values of a position, once for each distinct row."""
        first, index = _distinct([own.index, self._changed(layer, s, TO_KEYS)])
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
        first, index = _distinct([own.index])
        parts = [own.take(rows)[:, None] for rows in first.split(CHUNK)]
        n_layers = int(self.model.cfg.n_layers)
        return Rows(torch.cat([self.model(x, start_at_layer=n_layers)[:, 0] for x in parts]), index)

    def _patches(self, layer: int, components: frozenset[str] | set[str]) -> list[tuple[int, Patch]]:
        return [
            (v, patch)
            for v, variant in enumerate(self.variants)
            for patch in variant
            if patch.node.layer == layer and patch.node.component in components
        ]

    def _changed(self, layer: int, s: int, components: frozenset[str]) -> Tensor:
        """A number for every row of the stack: its own where a patch changes it, otherwise 0."""
        found = torch.zeros_like(self.rows)
        for v, patch in self._patches(layer, components):
            if patch.node.position in (None, s):
                own = self.rows[v * self.batch : (v + 1) * self.batch]
                found[own] = own + 1
        return found

    def _hooks(
        self, layer: int, s: int, components: frozenset[str], rows: Tensor
    ) -> list[tuple[str, Callable[..., Tensor]]]:
        """Hooks on one position of a block that patch those of the given rows they belong to."""
        by_hook: dict[str, list[tuple[Tensor, Tensor, Patch]]] = {}
        for v, patch in self._patches(layer, components):
            own = (rows // self.batch == v).nonzero()[:, 0]
            if patch.node.position in (None, s) and len(own):
                work = by_hook.setdefault(patch.node.hook, [])
                work.append((own, patch.at(s)[rows[own] % self.batch], patch))
        return [(name, _write(work)) for name, work in by_hook.items()]


class _Enough(Exception):
    """Keys and values are there; the rest of the pass is not needed."""


class _Past:
    """Keys and values of the positions before, as TransformerLens's cache entry hands them out."""

    def __init__(self, k: Tensor, v: Tensor) -> None:
        self.past_keys, self.past_values = k, v

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values up to this position."""
        return torch.cat([self.past_keys, k], dim=1), torch.cat([self.past_values, v], dim=1)


def _starts_anywhere(kind: type) -> bool:
    """Whether a class, or one it is derived from, has a forward with the arguments used here."""
    needed = {"start_at_layer", "stop_at_layer", "past_kv_cache"}
    forwards = [vars(base)["forward"] for base in kind.__mro__ if "forward" in vars(base)]
    return any(needed <= set(inspect.signature(forward).parameters) for forward in forwards)


def _known(node: Node) -> bool:
    if node.component in ENTRY:
        return True
    between = node.component in ("resid_pre", "resid_post")
    return node.layer is not None and (between or node.component in WITHIN | TO_KEYS)


def _write(work: Sequence[tuple[Tensor, Tensor, Patch]]) -> Callable[..., Tensor]:
    def hooked(activation: Tensor, hook: Any) -> Tensor:
        changed = activation.clone()
        for rows, values, patch in work:
            index = patch.local(rows)
            if patch.node.neurons is not None:
                index = (rows[:, None], 0, torch.tensor(patch.node.neurons)[None])
            changed[index] = values.to(changed.dtype)
        return changed

    return hooked


def _distinct(columns: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """One row of the stack for every distinct combination of numbers, and which one each row has."""
    code, size = columns[0], int(columns[0].max()) + 1
    for column in columns[1:]:
        values = int(column.max()) + 1
        if size * values >= 2**62:
            size, code = len(code), code.unique(return_inverse=True)[1]
        code, size = code * values + column, size * values
    found, index = code.unique(return_inverse=True)
    first = torch.zeros_like(found).scatter_(0, index, torch.arange(len(code), device=code.device))
    return first, index


def _distinct_values(x: Float[Tensor, "n d"], rows: Int[Tensor, " stack"]) -> Rows:
    """x[rows] as its distinct rows: those equal in every bit are one.

    Rows are told apart by a hash of their bits, and the outcome is checked, so a collision costs
    time and no number.
    """
    bits = x.contiguous().view(torch.int32 if x.dtype == torch.float32 else torch.int64).long()
    odd = 2 * torch.arange(bits.shape[1], device=x.device) + 1
    mixed = (bits ^ (bits >> 15)) * (odd * 0x9E3779B97F4A7C1)  # wraps around, as a hash may
    first, index = _distinct([_ranks(mixed.sum(dim=1))])
    if not torch.equal(x[first][index], x):
        return Rows(x, rows)
    return Rows(x[first], index[rows])


def _ranks(numbers: Tensor) -> Tensor:
    return numbers.unique(return_inverse=True)[1]
