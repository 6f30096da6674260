"""Two-hop queries as token rows: for a model that writes the whole sequence, or the next token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Int

from mechgrok.tasks._graph import NONE, Graph
from mechgrok.tasks._rows import IGNORE

SPECIAL: Final = ("<mask>", "<sep>", "<a>", "</a>", "<q>", "</q>")
"""The published special tokens; `</a>` alone occurs."""
PAD: Final = "<pad>"
"""Id 0 in the layout trm, before the published vocabulary."""
LENGTH: Final = 5
"""Head, two relations, tail and `</a>`."""


def names(entities: int, relations: int) -> list[str]:
    """The published vocabulary in its order."""
    return [
        *(f"<e_{i}>" for i in range(entities)),
        *(f"<r_{i}>" for i in range(relations)),
        *SPECIAL,
    ]


@dataclass(frozen=True)
class Layout:
    """Rows in one layout."""

    vocabulary: tuple[str, ...]
    """Token names by id."""
    tokens: Int[np.ndarray, "rows n_ctx"]
    """What the model reads."""
    answer_positions: Int[np.ndarray, "rows n_answers"]
    """Position of the tail, of `</a>`, and in the layout trm of the copied prompt."""
    labels: Int[np.ndarray, "rows n_answers"]
    """The tail first, then `</a>`, then in the layout trm the prompt."""
    parts: dict[str, Int[np.ndarray, " rows"]]
    """Token ids of h, r1, b, r2 and t; NONE for the b and r2 of an atomic query."""


def lay_out(kind: str, graph: Graph, queries: Int[np.ndarray, "rows 2"]) -> Layout:
    """The rows of queries; kind is `trm` or `causal`."""
    known = names(graph.entities, graph.relations)
    vocabulary = (PAD, *known) if kind == "trm" else tuple(known)
    entity = vocabulary.index("<e_0>")
    ids = parts(graph, queries, entity, entity + graph.entities)
    two = queries[:, 1] != NONE
    end = np.full_like(two, vocabulary.index("</a>"), dtype=int)
    h, r1, r2, t = (ids[name] for name in ("h", "r1", "r2", "t"))
    if kind == "causal":
        whole = _by_kind(two, [h, r1, r2, t, end], [h, r1, t, end, end])
        at = _by_kind(two, [2, 3], [1, 2])  # the token before the tail, and the tail
        labels = np.take_along_axis(whole, at + 1, axis=1)
        return Layout(vocabulary, whole[:, :-1], at, labels, ids)
    nothing = np.full_like(end, IGNORE)
    whole = _by_kind(two, [h, r1, r2, t, end], [h, r1, t, end, nothing])
    at = _by_kind(two, [3, 4, 0, 1, 2], [2, 3, 0, 1, 4])
    tokens = np.where(np.arange(LENGTH) < 2 + two[:, None], whole, vocabulary.index(PAD))
    return Layout(vocabulary, tokens, at, np.take_along_axis(whole, at, axis=1), ids)


def parts(
    graph: Graph, queries: Int[np.ndarray, "rows 2"], entity: int, relation: int
) -> dict[str, Int[np.ndarray, " rows"]]:
    """Ids of h, r1, b, r2 and t, where those of entities and relations begin at the given ones."""
    first, second = queries.T
    two = second != NONE
    last = np.where(two, second, first)
    return {
        "h": entity + graph.head[first],
        "r1": relation + graph.relation[first],
        "b": np.where(two, entity + graph.tail[first], NONE),
        "r2": np.where(two, relation + graph.relation[second], NONE),
        "t": entity + graph.tail[last],
    }


def _by_kind(
    two: np.ndarray, of_two: Sequence[object], of_one: Sequence[object]
) -> Int[np.ndarray, "rows columns"]:
    """Columns of two-hop rows and of atomic ones; a number stands for a constant column."""
    columns = [np.where(two, x, y) for x, y in zip(of_two, of_one, strict=True)]  # pyright: ignore[reportArgumentType, reportCallIssue]
    return np.stack(columns, axis=1)
