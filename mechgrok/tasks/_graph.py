"""Facts `(head, relation) -> tail` of a random graph, and the pairs of them that share a bridge."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int

NONE = -1
"""Stands for a fact, relation or entity that is not there."""


@dataclass(frozen=True)
class Graph:
    """Facts by index; a two-hop query is a pair of indices, the first's tail the second's head."""

    entities: int
    """Number of entities; heads and tails are 0..entities-1."""
    relations: int
    """Number of relations."""
    head: Int[np.ndarray, " facts"]
    """Head entity of every fact."""
    relation: Int[np.ndarray, " facts"]
    """Its relation."""
    tail: Int[np.ndarray, " facts"]
    """Its tail entity."""
    ood: Bool[np.ndarray, " facts"]
    """Whether it is out of distribution: in no two-hop query of the natural training set."""

    @classmethod
    def draw(
        cls,
        entities: int,
        relations: int,
        out_degree: int,
        ood_share: float,
        chance: np.random.Generator,
    ) -> "Graph":
        """`out_degree` distinct relations per head, tails uniform over all entities (Wang et al.).

        Loops and repeated tails occur; `round(ood_share * facts)` facts are out of distribution.
        """
        every = np.tile(np.arange(relations), (entities, 1))
        relation = np.sort(chance.permuted(every, axis=1)[:, :out_degree], axis=1).flatten()
        facts = entities * out_degree
        tail = chance.integers(entities, size=facts)
        ood = np.zeros(facts, dtype=bool)
        ood[chance.choice(facts, round(ood_share * facts), replace=False)] = True
        head = np.arange(entities).repeat(out_degree)
        return cls(entities, relations, head, relation, tail, ood)

    def __len__(self) -> int:
        """Number of facts."""
        return len(self.head)

    def with_facts(self, facts: Int[np.ndarray, "new 3"]) -> "Graph":
        """With more facts (head, relation, tail) after the others, in distribution."""
        added = {
            name: np.concatenate([getattr(self, name), column])
            for name, column in zip(("head", "relation", "tail"), facts.T, strict=True)
        }
        ood = np.concatenate([self.ood, np.zeros(len(facts), dtype=bool)])
        return replace(self, **added, ood=ood)

    @cached_property
    def index(self) -> Int[np.ndarray, "entities relations"]:
        """Fact of every (head, relation), the latest one; NONE where there is none."""
        table = np.full((self.entities, self.relations), NONE)
        table[self.head, self.relation] = np.arange(len(self))
        return table

    @cached_property
    def _by_head(self) -> "_Groups":
        return _Groups.of(self.head, self.entities)

    @cached_property
    def _by_tail(self) -> "_Groups":
        return _Groups.of(self.tail, self.entities)

    def on_from(self, first: Int[np.ndarray, " n"]) -> Int[np.ndarray, "queries 2"]:
        """Every two-hop query whose first fact is one of these, in their order."""
        which, second = self._by_head.members(self.tail[first])
        return np.stack([first[which], second], axis=1)

    def into(self, second: Int[np.ndarray, " n"]) -> Int[np.ndarray, "queries 2"]:
        """Every two-hop query whose second fact is one of these, in their order."""
        which, first = self._by_tail.members(self.head[second])
        return np.stack([first, second[which]], axis=1)

    def queries(self) -> Int[np.ndarray, "queries 2"]:
        """Every two-hop query."""
        return self.on_from(np.arange(len(self)))

    def hops_ood(self, queries: Int[np.ndarray, "queries 2"]) -> Int[np.ndarray, " queries"]:
        """How many of the two facts of each are out of distribution."""
        return self.ood[queries].sum(axis=1)


@dataclass(frozen=True)
class _Groups:
    """Facts grouped by an entity."""

    order: Int[np.ndarray, " facts"]
    start: Int[np.ndarray, " _"]

    @classmethod
    def of(cls, entity: Int[np.ndarray, " facts"], entities: int) -> "_Groups":
        counts = np.bincount(entity, minlength=entities)
        return cls(np.argsort(entity, kind="stable"), np.concatenate([[0], np.cumsum(counts)]))

    def members(
        self, entity: Int[np.ndarray, " n"]
    ) -> tuple[Int[np.ndarray, " members"], Int[np.ndarray, " members"]]:
        """The facts of each entity in turn: which of the n it belongs to, and the fact."""
        counts = self.start[entity + 1] - self.start[entity]
        which = np.arange(len(entity)).repeat(counts)
        ends = np.cumsum(counts)
        within = np.arange(len(which)) - (ends - counts).repeat(counts)
        return which, self.order[self.start[entity].repeat(counts) + within]


def atomic(facts: Int[np.ndarray, " n"]) -> Int[np.ndarray, "n 2"]:
    """The atomic queries of facts."""
    return np.stack([facts, np.full_like(facts, NONE)], axis=1)


def at_most(
    groups: Int[np.ndarray, " n"], k: int, chance: np.random.Generator
) -> Bool[np.ndarray, " n"]:
    """Marks min(k, size) members of every group, drawn without replacement."""
    order = np.lexsort([chance.random(len(groups)), groups])
    ordered = groups[order]
    new = np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(groups)]
    place = np.arange(len(groups))
    rank = place - np.maximum.accumulate(np.where(new, place, 0))
    chosen = np.zeros(len(groups), dtype=bool)
    chosen[order[rank < k]] = True
    return chosen


def capped(
    rows: Int[np.ndarray, "n ..."], most: int, chance: np.random.Generator
) -> Int[np.ndarray, "m ..."]:
    """At most `most` of the rows, drawn without replacement and kept in order."""
    if len(rows) <= most:
        return rows
    return rows[np.sort(chance.choice(len(rows), most, replace=False))]
