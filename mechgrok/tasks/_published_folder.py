"""The folder of JSON files in which the task is published: written, and read back.

train.json (atomic queries, then two-hop ones), valid.json (out-of-distribution queries), test.json
(typed probes), vocab.json, id_facts.json and ood_facts.json. An item is `{"input_text":
"<e_0><r_1><r_2>", "target_text": "<e_0><r_1><r_2><e_3></a>"}`; the bridge appears in none.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Int

from mechgrok.config import CompositionTask, ConfigError
from mechgrok.tasks._augmentation import TYPES, Queries
from mechgrok.tasks._graph import NONE, Graph, atomic
from mechgrok.tasks._layouts import names, parts

END: Final = "</a>"
QUERY: Final = re.compile(r"<e_(\d+)><r_(\d+)>(?:<r_(\d+)>)?")
ANSWER: Final = re.compile(rf"<e_(\d+)>{END}")
FACT: Final = re.compile(r"<e_(\d+)> <r_(\d+)> <e_(\d+)>")
READ: Final = ("name", "layout", "finetune", "folder", "test_rows")
"""Settings that a folder leaves open; it holds all others."""


def write(
    graph: Graph,
    splits: Mapping[str, Int[np.ndarray, "_ 2"]],
    types: Sequence[str],
    taught: int,
) -> dict[str, str]:
    """Text of every file by its name; `taught` facts at the end of the graph are in no fact file.

    `splits` holds the queries of train, test_inferred_ood and the types.
    """
    known = names(graph.entities, graph.relations)
    typed = [item | {"type": name} for name in types for item in _items(graph, splits[name], known)]
    old = np.arange(len(graph) - taught)
    return {
        "train.json": _lines(_items(graph, splits["train"], known)),
        "valid.json": _lines(_items(graph, splits["test_inferred_ood"], known)),
        "test.json": _lines(typed),
        "vocab.json": _lines(known),
        "id_facts.json": _lines(_triples(graph, old[~graph.ood[old]], known)),
        "ood_facts.json": _lines(_triples(graph, old[graph.ood[old]], known)),
    }


def _lines(items: Iterable[Any]) -> str:
    return "[\n" + ",\n".join(json.dumps(item) for item in items) + "\n]\n"


def _items(graph: Graph, queries: Int[np.ndarray, "n 2"], known: list[str]) -> list[dict[str, str]]:
    ids = parts(graph, queries, 0, graph.entities)
    found: list[dict[str, str]] = []
    for h, r1, r2, t in zip(*(ids[name].tolist() for name in ("h", "r1", "r2", "t")), strict=True):
        prompt = known[h] + known[r1] + ("" if r2 == NONE else known[r2])
        found.append({"input_text": prompt, "target_text": prompt + known[t] + END})
    return found


def _triples(graph: Graph, facts: Int[np.ndarray, " n"], known: list[str]) -> list[list[str]]:
    ids = parts(graph, atomic(facts), 0, graph.entities)
    of = zip(*(ids[name].tolist() for name in ("h", "r1", "t")), strict=True)
    return [[known[i] for i in fact] for fact in of]


def read(config: CompositionTask) -> Queries:
    """The queries of `config.folder`.

    Raises ConfigError for a file that is missing or damaged, a vocabulary that does not fit, a
    query that does not follow from the facts, a fine-tuning set, and settings the folder holds.
    """
    _refuse_settings(config)
    folder = _Folder(Path(config.folder or ""))
    graph = folder.graph()
    train = folder.queries("train.json", graph)
    single = train[train[:, 1] == NONE, 0]
    missing = len(graph) - len(np.unique(single))
    if missing or len(single) > len(graph):
        raise ConfigError(
            f"{folder.path / 'train.json'} has {len(single)} atomic queries, {missing} of the "
            f"{len(graph)} facts have none; expected one of every fact (a fine-tuning set is made "
            f"with task.finetune on the folder it starts from)"
        )
    composed = train[train[:, 1] != NONE]
    added = graph.hops_ood(composed) > 0
    types = folder.types(graph)
    valid = folder.queries("valid.json", graph)
    if not np.array_equal(np.unique(valid, axis=0), np.unique(types["test_inferred_ood"], axis=0)):
        types["valid"] = valid
    return Queries(graph, composed[~added], composed[added], types)


def _refuse_settings(config: CompositionTask) -> None:
    default = CompositionTask()
    for name in (f.name for f in fields(config) if f.name not in READ):
        if getattr(config, name) != getattr(default, name):
            raise ConfigError(
                f"task.{name} = {getattr(config, name)!r} beside task.folder, which holds it; "
                f"leave it out, or leave out the folder"
            )


class _Folder:
    """The files of one folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        vocabulary = self._json("vocab.json")
        counts = [sum(str(n).startswith(f"<{kind}_") for n in vocabulary) for kind in "er"]
        if vocabulary != names(*counts):
            raise ConfigError(
                f"{path / 'vocab.json'} is no published vocabulary: expected <e_0>.., <r_0>.., "
                f"then <mask> <sep> <a> </a> <q> </q>; got {counts[0]} entities, {counts[1]} "
                f"relations and {len(vocabulary)} tokens"
            )
        self.entities, self.relations = counts

    def graph(self) -> Graph:
        """The facts in order of head and relation."""
        known, ood = (self._facts(f"{kind}_facts.json") for kind in ("id", "ood"))
        facts = np.concatenate([known, ood])
        order = np.lexsort([facts[:, 1], facts[:, 0]])
        head, relation, tail = facts[order].T
        graph = Graph(self.entities, self.relations, head, relation, tail, order >= len(known))
        twice = np.flatnonzero(graph.index[head, relation] != np.arange(len(graph)))
        if len(twice):
            fact = f"<e_{head[twice[0]]}> <r_{relation[twice[0]]}>"
            raise ConfigError(f"{self.path}: the facts give {fact} two tails; expected one")
        return graph

    def queries(self, file: str, graph: Graph) -> Int[np.ndarray, "n 2"]:
        """The queries of a file, in its order."""
        return self._of_items(file, self._json(file), graph)

    def types(self, graph: Graph) -> dict[str, Int[np.ndarray, "_ 2"]]:
        """The test types."""
        items: dict[str, list[Any]] = {}
        for item in self._json("test.json"):
            kind = item.get("type") if isinstance(item, dict) else None
            items.setdefault(str(kind), []).append(item)
        if sorted(items) != sorted(TYPES):
            raise ConfigError(
                f"{self.path / 'test.json'} has the types {sorted(items)}; expected {list(TYPES)}"
            )
        return {name: self._of_items("test.json", items[name], graph) for name in TYPES}

    def _facts(self, file: str) -> Int[np.ndarray, "n 3"]:
        found = [self._match(FACT, " ".join(map(str, fact)), file) for fact in self._json(file)]
        h, r, t = np.array(found, dtype=int).reshape(-1, 3).T
        self._refuse_unknown(file, [h, t], [r])
        return np.stack([h, r, t], axis=1)

    def _of_items(self, file: str, items: Sequence[Any], graph: Graph) -> Int[np.ndarray, "n 2"]:
        read = [self._item(item, file) for item in items]
        if not read:
            raise ConfigError(f"{self.path / file} has no items")
        h, r1, r2, t = np.array(read).T
        self._refuse_unknown(file, [h, t], [r1, r2])
        first = graph.index[h, r1]
        second = graph.index[np.where(first == NONE, 0, graph.tail[first]), r2]
        two = r2 != NONE
        last = np.where(two, second, first)
        wrong = np.flatnonzero((first == NONE) | (last == NONE) | (graph.tail[last] != t))
        if len(wrong):
            text = items[wrong[0]]["target_text"]
            raise ConfigError(
                f"{self.path / file}: {text!r} does not follow from id_facts.json and "
                f"ood_facts.json ({len(wrong)} of {len(items)} items)"
            )
        return np.stack([first, np.where(two, second, NONE)], axis=1)

    def _item(self, item: Any, file: str) -> tuple[int, int, int, int]:
        """Head, relations and tail of an item; the second relation NONE in an atomic one."""
        texts = item if isinstance(item, dict) else {}
        prompt, target = str(texts.get("input_text")), str(texts.get("target_text"))
        h, r1, r2 = self._match(QUERY, prompt, file)
        [t] = self._match(ANSWER, target.removeprefix(prompt), file)
        return h, r1, r2, t

    def _match(self, pattern: re.Pattern[str], text: str, file: str) -> list[int]:
        """The numbers of a text's tokens; NONE for one that may be left out."""
        found = pattern.fullmatch(text)
        if found is None:
            raise ConfigError(
                f"{self.path / file}: cannot read {text!r}; expected items whose input_text is "
                f"<e_..><r_..> or <e_..><r_..><r_..> and whose target_text goes on <e_..></a>, and "
                f"facts [<e_..>, <r_..>, <e_..>]"
            )
        return [NONE if number is None else int(number) for number in found.groups()]

    def _refuse_unknown(
        self, file: str, entities: Sequence[np.ndarray], relations: Sequence[np.ndarray]
    ) -> None:
        for kind, of, size in (("e", entities, self.entities), ("r", relations, self.relations)):
            highest = max((int(ids.max()) for ids in of if len(ids)), default=0)
            if highest >= size:
                raise ConfigError(
                    f"{self.path / file} has <{kind}_{highest}>, which is not in "
                    f"{self.path / 'vocab.json'}; expected the vocabulary of the same data set"
                )

    def _json(self, file: str) -> list[Any]:
        path = self.path / file
        try:
            found = json.loads(path.read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise ConfigError(f"cannot read {path}: {error}") from error
        if not isinstance(found, list):
            raise ConfigError(f"{path} holds {type(found).__name__}; expected a list")
        return found
