"""Which distinct rows each layer must compute for a token set.

Attention is causal, so what happens at a position depends only on the tokens up to it. Layer 0
reads one row per distinct (token, position); every later layer one per distinct prefix; the last
layer leaves rows only where an answer is read. `M` rows leave a layer, `R` rows enter it.
"""

from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

TABLE: Final = 4
"""All query-key products of two positions are tabulated up to this many entries per leaving row."""


@dataclass(frozen=True)
class Source:
    """Where the rows of one position that leave a layer find a row that entered it."""

    rows: slice
    """The rows of the position that is read, among all that entered."""
    index: Int[Tensor, " M"] | None
    """Row within `rows` for each leaving row; None when they are the same rows in order."""

    @property
    def size(self) -> int:
        """How many distinct rows there are to read."""
        return self.rows.stop - self.rows.start


@dataclass(frozen=True)
class Group:
    """The rows of one position that leave a layer."""

    query: Source
    """Their own position."""
    keys: tuple[Source, ...]
    """Every position up to and including their own."""
    pairs: tuple[Int[Tensor, " M"] | None, ...]
    """Per key position, the entry of the query-by-key table; None where no table is made."""


@dataclass(frozen=True)
class Plan:
    """The rows of every layer, and which of the last layer's rows each row of the batch reads."""

    tokens: Int[Tensor, " R"]
    """Token of each distinct (token, position)."""
    positions: Int[Tensor, " R"]
    """Position of each distinct (token, position)."""
    layers: tuple[tuple[Group, ...], ...]
    """Groups that leave each layer."""
    answers: tuple[Int[Tensor, " batch"] | None, ...]
    """Per answer position, the leaving row of every row of the batch; None when in order."""


_plans: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def plan_for(
    tokens: Int[Tensor, "batch pos"], positions: tuple[int, ...], n_layers: int, d_vocab: int
) -> Plan:
    """The token set's plan, remembered until the tensor dies or is written to."""
    if tokens.is_inference():  # such a tensor does not count its writes
        return make_plan(tokens, positions, n_layers, d_vocab)
    known: dict[tuple[int, tuple[int, ...], int], Plan] = _plans.get(tokens) or {}
    _plans[tokens] = known
    key = (tokens._version, positions, n_layers)
    if key not in known:
        for stale in [k for k in known if k[0] != tokens._version]:
            del known[stale]
        known[key] = make_plan(tokens, positions, n_layers, d_vocab)
    return known[key]


def make_plan(
    tokens: Int[Tensor, "batch pos"], positions: tuple[int, ...], n_layers: int, d_vocab: int
) -> Plan:
    """The plan of a token set whose answers are read at `positions`."""
    seen = tokens[:, : max(positions) + 1]
    ids = [torch.unique(column, return_inverse=True) for column in seen.unbind(1)]
    single = _Entering([len(values) for values, _ in ids], [of for _, of in ids])
    prefixes = _prefixes(seen, d_vocab)
    shared = _Entering([len(p.example) for p in prefixes], [p.of for p in prefixes])
    entering = [single] + [shared] * (n_layers - 1)
    every = range(seen.shape[1])
    leaving = [every] * (n_layers - 1) + [positions]
    sizes = torch.tensor(single.sizes, device=tokens.device)
    return Plan(
        tokens=torch.cat([values for values, _ in ids]),
        positions=torch.arange(len(sizes), device=tokens.device).repeat_interleave(sizes),
        layers=tuple(
            tuple(_group(rows, s, prefixes[s].example) for s in ends)
            for rows, ends in zip(entering, leaving, strict=True)
        ),
        answers=tuple(_unless_in_order(prefixes[s].of, shared.sizes[s]) for s in positions),
    )


@dataclass(frozen=True)
class _Prefixes:
    """The distinct prefixes that end at one position, numbered by first appearance."""

    of: Int[Tensor, " batch"]
    """Prefix of every row of the batch."""
    example: Int[Tensor, " M"]
    """The first row of the batch with each prefix."""


@dataclass(frozen=True)
class _Entering:
    """Rows entering a layer, position by position."""

    sizes: list[int]
    of: list[Int[Tensor, " batch"]]

    def source(self, position: int, example: Int[Tensor, " M"]) -> Source:
        start = sum(self.sizes[:position])
        size = self.sizes[position]
        index = _unless_in_order(self.of[position][example], size)
        return Source(slice(start, start + size), index)


def _prefixes(tokens: Int[Tensor, "batch pos"], d_vocab: int) -> list[_Prefixes]:
    found: list[_Prefixes] = []
    of = torch.zeros_like(tokens[:, 0])
    for column in tokens.unbind(1):
        _, of = torch.unique(of * d_vocab + column, return_inverse=True)
        example, order = torch.sort(_first_appearance(of))
        # numbered by appearance, so that a batch without repeats is in order and needs no gather
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order), device=tokens.device)
        of = rank[of]
        found.append(_Prefixes(of, example))
    return found


def _first_appearance(of: Int[Tensor, " batch"]) -> Int[Tensor, " M"]:
    rows = torch.arange(len(of), device=of.device)
    start = torch.full((int(of.max()) + 1,), len(of), device=of.device)
    return start.scatter_reduce(0, of, rows, "amin")


def _group(rows: _Entering, position: int, example: Int[Tensor, " M"]) -> Group:
    keys = tuple(rows.source(s, example) for s in range(position + 1))
    query = keys[position]
    return Group(query, keys, tuple(_pairs(query, key, len(example)) for key in keys))


def _pairs(query: Source, key: Source, size: int) -> Int[Tensor, " M"] | None:
    same = query.rows == key.rows
    if same or query.size * key.size > TABLE * size:
        return None
    in_order = torch.arange(size, device=_device(query, key))
    at_query = in_order if query.index is None else query.index
    at_key = in_order if key.index is None else key.index
    return at_query * key.size + at_key


def _device(*sources: Source) -> torch.device | None:
    return next((s.index.device for s in sources if s.index is not None), None)


def _unless_in_order(index: Int[Tensor, " M"], size: int) -> Int[Tensor, " M"] | None:
    same = len(index) == size and bool((index == torch.arange(size, device=index.device)).all())
    return None if same else index
