"""What is trained on, tested and watched, in terms of facts; `composition.py` makes rows of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from jaxtyping import Int

from mechgrok.tasks import _exposure
from mechgrok.tasks._augmentation import Queries
from mechgrok.tasks._graph import NONE, Graph, atomic


@dataclass(frozen=True)
class Lessons:
    """Queries as pairs of facts; the second is NONE for an atomic query."""

    graph: Graph
    """Their facts."""
    trained: Int[np.ndarray, "train 2"]
    """The training set."""
    types: Mapping[str, Int[np.ndarray, "_ 2"]]
    """Every other split."""
    watched: Mapping[str, str]
    """What is evaluated during training; see `Rows.watched`."""
    composed: Int[np.ndarray, "n 2"]
    """Two-hop queries of pretraining."""
    taught: int = 0
    """Facts at the end of the graph that are new or edited."""
    tags: Mapping[str, Int[np.ndarray, " rows"]] = field(default_factory=dict)
    """Further facts per row; `old_answer` is an entity."""

    @cached_property
    def queries(self) -> Int[np.ndarray, "rows 2"]:
        """The rows: the training set, then everything else once."""
        rest = np.concatenate(list(self.types.values()))
        new = rest[~np.isin(self._keys(rest), self._keys(self.trained))]
        first = np.unique(self._keys(new), return_index=True)[1]
        return np.concatenate([self.trained, new[np.sort(first)]])

    def places(self, queries: Int[np.ndarray, "n 2"]) -> Int[np.ndarray, " n"]:
        """Row of every query; the first one where it is trained on twice."""
        keys, order = self._sorted
        return order[np.searchsorted(keys, self._keys(queries))]

    @cached_property
    def _sorted(self) -> tuple[Int[np.ndarray, " rows"], Int[np.ndarray, " rows"]]:
        keys = self._keys(self.queries)
        order = np.argsort(keys, kind="stable")
        return keys[order], order

    def tagged(self, tags: Mapping[str, Int[np.ndarray, " rows"]]) -> "Lessons":
        """With tags of its rows."""
        return replace(self, tags=tags)

    def _keys(self, queries: Int[np.ndarray, "n 2"]) -> Int[np.ndarray, " n"]:
        return queries[:, 0] * (len(self.graph) + 1) + queries[:, 1] - NONE


def pretraining(drawn: Queries) -> Lessons:
    """Every fact as an atomic query and the regime's two-hop queries."""
    ood = drawn.types["test_inferred_ood"]
    cell = _exposure.tags(ood, drawn.trained, len(drawn.graph))["exposure"]
    cells = {name: ood[cell == i] for i, name in enumerate(_exposure.CELLS)}
    types = {"test": ood, **drawn.types, **{n: of for n, of in cells.items() if len(of)}}
    twice = {
        "train_inferred",
        "test_inferred_ood",
        *(n for n in cells if len(cells[n]) == len(ood)),
    }
    watched = {name: name for name in types if name not in twice}
    return Lessons(
        graph=drawn.graph,
        trained=np.concatenate([atomic(np.arange(len(drawn.graph))), drawn.trained]),
        types=types,
        watched={"train": "train_inferred", **watched},
        composed=drawn.trained,
    )
