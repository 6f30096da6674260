"""What the wrappers of two-hop measures share: queries of a split, as token ids and as facts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechgrok.measures._modular import CHUNK, DoesNotApply, Subject
from mechgrok.tasks import composition

ITEMS: Final = 3000
"""Most queries of each kind, as published."""
ALIASES: Final = ("train", "test")
"""Splits that hold more than one kind, or what another split holds too."""


@dataclass(frozen=True, eq=False)
class Queries:
    """Two-hop queries of a task."""

    rows: Int[Tensor, " items"]
    """Rows of the task."""
    tokens: Int[Tensor, "items n_ctx"]
    h: Int[Tensor, " items"]
    b: Int[Tensor, " items"]
    t: Int[Tensor, " items"]
    """Entities as token ids."""
    query: Int[Tensor, "items 3"]
    """(h, r1, r2), numbered from 0."""
    first_fact: Int[Tensor, " items"]
    second_fact: Int[Tensor, " items"]
    at: int
    """Position at which t is read."""

    def __getitem__(self, chosen: Tensor) -> "Queries":
        parts = {k: v[chosen] for k, v in vars(self).items() if isinstance(v, Tensor)}
        return Queries(**parts, at=self.at)

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, eq=False)
class Facts:
    """The facts of a task, entities and relations numbered from 0."""

    table: Int[Tensor, "entities relations"]
    """Tail, or -1."""
    known: Bool[Tensor, "entities relations"]
    """Facts that are in distribution."""
    entity: int
    """Token id of the first entity."""
    relation: int
    """Token id of the first relation."""

    def tokens(self, part: str) -> int:
        """Token id of the first of h (entities) or of r1, r2 (relations)."""
        return self.entity if part == "h" else self.relation


def two_hop_task(checkpoint: Subject) -> composition.Task:
    """The checkpoint's task, if it is one of two hops; DoesNotApply otherwise."""
    task = checkpoint.task
    if not isinstance(task, composition.Task):
        raise DoesNotApply(f"the task {type(task).__module__} has no two-hop queries")
    return task


def facts(task: composition.Task) -> Facts:
    """All facts of a task, the latest one of a head and relation."""
    index = torch.from_numpy(task.graph.index)
    there, at = index >= 0, index.clamp(min=0)
    return Facts(
        table=torch.where(there, torch.from_numpy(task.graph.tail)[at], -1),
        known=there & ~torch.from_numpy(task.graph.ood)[at],
        entity=task.vocabulary.index("<e_0>"),
        relation=task.vocabulary.index("<r_0>"),
    )


def kinds(task: composition.Task, items: int, seed: int) -> dict[str, Int[Tensor, " _"]]:
    """Rows of every kind of query by its name, at most `items` of each, drawn by `seed`."""
    of = {name: rows for name, rows in task.splits.items() if name not in ALIASES}
    return {name: sample(rows, items, seed) for name, rows in of.items()}


def two_hop_kinds(task: composition.Task, items: int, seed: int) -> dict[str, Int[Tensor, " _"]]:
    """The same, of kinds that have two hops only."""
    found = kinds(task, items, seed).items()
    return {name: rows for name, rows in found if bool((task.tags["kind"][rows] == 1).all())}


def sample(rows: Int[Tensor, " _"], items: int, seed: int) -> Int[Tensor, " _"]:
    """At most `items` of the rows, in order. Raises ValueError for items < 1."""
    if items < 1:
        raise ValueError(f"got items={items}, expected at least 1")
    if len(rows) <= items:
        return rows
    chance = torch.Generator().manual_seed(seed)
    return rows[torch.randperm(len(rows), generator=chance)[:items].sort().values]


def queries(task: composition.Task, rows: Int[Tensor, " _"]) -> Queries:
    """The queries of some rows, all of two hops."""
    tags = {name: column[rows] for name, column in task.tags.items()}
    entity, relation = task.vocabulary.index("<e_0>"), task.vocabulary.index("<r_0>")
    numbered = [tags["h"] - entity, tags["r1"] - relation, tags["r2"] - relation]
    return Queries(
        rows=rows,
        tokens=task.tokens[rows],
        h=tags["h"],
        b=tags["b"],
        t=tags["t"],
        query=torch.stack(numbered, dim=1),
        first_fact=tags["first_fact"],
        second_fact=tags["second_fact"],
        at=int(task.answer_positions[rows[0], 0]),
    )


def of_split(task: composition.Task, split: str, items: int, seed: int) -> Queries:
    """Queries of a split. Raises ValueError for a split without any, DoesNotApply for no split."""
    if split not in task.splits:
        raise DoesNotApply(f"the task has no split {split!r}; it has {sorted(task.splits)}")
    rows = task.splits[split]
    rows = rows[task.tags["kind"][rows] == 1]
    if not len(rows):
        raise ValueError(f"the split {split!r} has no two-hop queries; it has atomic ones only")
    return queries(task, sample(rows, items, seed))


def positions(task: composition.Task) -> tuple[str, ...]:
    """Names of the positions that do not follow the answer, in order."""
    return ("h", "r1", "r2") if task.config.layout == "causal" else ("h", "r1", "r2", "t", "</a>")


def device_of(checkpoint: Subject) -> torch.device:
    """Where the model is."""
    return next(checkpoint.model.parameters()).device


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model answers to some rows."""

    exact: Bool[Tensor, " items"]
    """Every answer of the row is right (exact match)."""
    tail: Int[Tensor, " items"]
    """The token in the tail's place."""
    target: Bool[Tensor, " items"]
    """That token is right."""


def answers(checkpoint: Subject, rows: Int[Tensor, " items"]) -> Answers:
    """Answers to some rows of the task."""
    task, device = checkpoint.task, device_of(checkpoint)
    parts = []
    with torch.no_grad():
        for chunk in rows.split(CHUNK):
            written = checkpoint.model(task.tokens[chunk].to(device)).argmax(dim=-1).cpu()
            parts.append(written.gather(1, task.answer_positions[chunk]))
    found, labels = torch.cat(parts), task.labels[rows]
    right = (found == labels) | (labels < 0)
    return Answers(right.all(dim=1), found[:, 0], right[:, 0])


def places_of(
    groups: Mapping[str, Int[Tensor, " _"]],
) -> tuple[Int[Tensor, " rows"], dict[str, Int[Tensor, " _"]]]:
    """All rows of the groups once, in order, and where those of each group are among them."""
    every = torch.cat(list(groups.values())).unique()
    return every, {name: torch.searchsorted(every, rows) for name, rows in groups.items()}


def spelled_places(stages: Sequence[Any], names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Stage and position names, as values that a figure reads."""
    return {"stages": tuple(s.name for s in stages), "positions": tuple(names)}
