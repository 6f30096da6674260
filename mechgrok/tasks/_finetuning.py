"""Fine-tuning sets: facts taught by their atomic query alone, beside part of the old training set.

New facts come in chains (a, r1, b), (b, r2, t) of relations that a and b do not use yet (He et al.
2026, arXiv 2601.09049, section 5); splits `atomic_new`, `test_inferred_new` (both facts new) and
`test_inferred_new_mix` (one new, one old fact that is kept), told apart by the full table of facts:
`new_old` (the first fact is new; this is `test`) and `old_new`. `new_old_probed` and
`old_new_probed` are the few of them whose old fact is among the `id_atomic` probes, as published.

Edited facts get another tail: `edited` holds their atomic queries, `edit_first` and `edit_second`
queries of the old training set whose answer changes because their first, or second, fact was edited
(`test` is both); the tag `old_answer` is what it was, -1 where it is as ever. No query that uses an
edited fact in its old form is kept or tested.

`kept_inferred` is a sample of the two-hop queries that are kept. The tags `first_new`,
`second_new`, `first_kept` and `second_kept` say which of a row's facts are new (or edited), and
which are old ones whose atomic query is kept.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int

from mechgrok.config import CompositionTask, ConfigError, Seeds
from mechgrok.tasks._augmentation import Queries
from mechgrok.tasks._graph import NONE, Graph, atomic, capped
from mechgrok.tasks._kept import Kept, keep
from mechgrok.tasks._lessons import Lessons

NEW_TYPES = ("atomic_new", "test_inferred_new", "test_inferred_new_mix")
"""The published test types of new facts."""
EDIT_TYPES = ("edited", "edit_first", "edit_second")
"""Those of edited ones."""
TESTS = ("new_old", "edit_first", "edit_second")
"""What the split `test` holds, as far as it is there."""
Types = dict[str, Int[np.ndarray, "_ 2"]]


def finetuning(config: CompositionTask, old: Queries, seeds: Seeds) -> Lessons:
    """The fine-tuning set of a config, on the graph and training set of its pretraining.

    Raises ConfigError for more new facts than unused relations, more edited facts than there are,
    more kept than there is, and a set that leaves nothing to test.
    """
    chance = np.random.default_rng(seeds.following("finetune"))
    if config.finetune.facts == "new":
        replaced = np.empty(0, dtype=int)
        taught = new_facts(old.graph, config.finetune.count, chance)
    else:
        replaced, taught = _edits(old.graph, config.finetune.count, chance)
    graph = old.graph.with_facts(taught)
    lesson = np.arange(len(old.graph), len(graph))
    kept = keep(config.finetune, old, replaced, chance)
    types = (
        _of_new(graph, old, lesson, kept)
        if config.finetune.facts == "new"
        else _of_edits(graph, old, replaced, lesson)
    )
    own = {**types, "kept_inferred": kept.queries}
    own = {name: capped(of, config.test_rows, chance) for name, of in own.items()}
    test = np.concatenate([own[name] for name in TESTS if name in own])
    usable = {n: of[~np.isin(of, replaced).any(axis=1)] for n, of in old.types.items()}
    found = {n: of for n, of in {"test": test, **own, **usable}.items() if len(of)}
    if "test" not in found:
        raise ConfigError(
            f"no two-hop query joins one of task.finetune.count = {config.finetune.count} "
            f"{config.finetune.facts} facts to an old one; give more of them, or more "
            f"task.finetune.keep"
        )
    trained = np.concatenate([atomic(kept.facts), kept.queries, atomic(lesson)])
    lessons = Lessons(graph, trained, found, _watched(found), old.trained, len(lesson))
    return lessons.tagged(_tags(lessons, old.graph, replaced, kept))


def new_facts(graph: Graph, count: int, chance: np.random.Generator) -> Int[np.ndarray, "count 3"]:
    """Chains (a, r1, b), (b, r2, t) of entities at random and relations they do not use yet.

    Raises ConfigError for an odd number, and when there are fewer unused relations than facts.
    """
    free = graph.index == NONE
    if count < 2 or count % 2:
        raise ConfigError(
            f"task.finetune.count = {count}; expected an even number of new facts, in chains of two"
        )
    if free.sum() < count:
        raise ConfigError(
            f"task.finetune.count = {count} new facts, and {free.sum()} unused pairs of head and "
            f"relation; give more task.relations than task.out_degree, or fewer new facts"
        )
    found: list[tuple[int, int, int]] = []
    for _ in range(count // 2):
        a, r1 = _unused(free, chance)
        b, r2 = _unused(free, chance)
        found += [(a, r1, b), (b, r2, int(chance.integers(graph.entities)))]
    return np.array(found)


def _unused(free: np.ndarray, chance: np.random.Generator) -> tuple[int, int]:
    """An entity at random that has an unused relation, and such a one, which is used from now."""
    entity = int(chance.choice(np.flatnonzero(free.any(axis=1))))
    relation = int(chance.choice(np.flatnonzero(free[entity])))
    free[entity, relation] = False
    return entity, relation


def _edits(
    graph: Graph, count: int, chance: np.random.Generator
) -> tuple[Int[np.ndarray, " count"], Int[np.ndarray, "count 3"]]:
    """In-distribution facts to overwrite, and the same with another tail each."""
    known = np.flatnonzero(~graph.ood)
    if not 1 <= count <= len(known):
        raise ConfigError(
            f"task.finetune.count = {count} edited facts; expected 1 to {len(known)}, the "
            f"in-distribution facts"
        )
    replaced = np.sort(chance.choice(known, count, replace=False))
    tail = (graph.tail[replaced] + chance.integers(1, graph.entities, count)) % graph.entities
    return replaced, np.stack([graph.head[replaced], graph.relation[replaced], tail], axis=1)


def _of_new(graph: Graph, old: Queries, new: Int[np.ndarray, " new"], kept: Kept) -> Types:
    """Splits of new facts, by whether the other one is new or kept."""
    onwards, entering = graph.on_from(new), graph.into(new)
    both = np.isin(onwards[:, 1], new)
    new_old = onwards[np.isin(onwards[:, 1], kept.facts)]
    old_new = entering[np.isin(entering[:, 0], kept.facts)]
    probes = old.types["id_atomic"][:, 0]
    return {
        "atomic_new": atomic(new),
        "test_inferred_new": onwards[both],
        "test_inferred_new_mix": np.concatenate([new_old, old_new]),
        "new_old": new_old,
        "old_new": old_new,
        "new_old_probed": new_old[np.isin(new_old[:, 1], probes)],
        "old_new_probed": old_new[np.isin(old_new[:, 0], probes)],
    }


def _of_edits(
    graph: Graph, old: Queries, replaced: Int[np.ndarray, " k"], edited: Int[np.ndarray, " k"]
) -> Types:
    """Splits of edited facts; only queries of exactly one, whose new answer is another one."""
    now = np.full(len(graph), NONE)
    now[replaced] = edited
    first, second = np.unique(old.trained, axis=0).T
    by_first = (now[first] != NONE) & (now[second] == NONE)
    by_second = (now[second] != NONE) & (now[first] == NONE)
    start, end = now[first[by_first]], second[by_first]
    onwards = graph.index[graph.tail[start], graph.relation[end]]
    follows = (onwards != NONE) & (onwards < len(old.graph))
    follows &= ~graph.ood[onwards] & (graph.tail[onwards] != graph.tail[end])
    edit_first = np.stack([start, onwards], axis=1)[follows]
    edit_second = np.stack([first[by_second], now[second[by_second]]], axis=1)
    return {
        "edited": atomic(edited),
        "edit_first": edit_first,
        "edit_second": edit_second,
    }


def _watched(types: Mapping[str, object]) -> dict[str, str]:
    """Evaluated during training: `train` on kept two-hop queries where there are any."""
    more = ("atomic_new", "old_new", "test_inferred_new", *EDIT_TYPES)
    old = ("id_atomic", "train_inferred", "test_inferred_iid", "test_inferred_ood")
    kept = "kept_inferred" if "kept_inferred" in types else "train"
    return {"train": kept, "test": "test", **{n: n for n in (*more, *old) if n in types}}


def _tags(
    lessons: Lessons, old: Graph, replaced: Int[np.ndarray, " k"], kept: Kept
) -> dict[str, Int[np.ndarray, " rows"]]:
    first, second = lessons.queries.T
    two = second != NONE
    still = np.zeros(len(lessons.graph), dtype=int)
    still[kept.facts] = 1
    new = (np.arange(len(lessons.graph)) >= len(old)).astype(int)
    tags = {
        "first_new": new[first],
        "second_new": np.where(two, new[second], NONE),
        "first_kept": still[first],
        "second_kept": np.where(two, still[second], NONE),
    }
    return tags | ({"old_answer": _old_answers(lessons, old, replaced)} if len(replaced) else {})


def _old_answers(
    lessons: Lessons, old: Graph, replaced: Int[np.ndarray, " k"]
) -> Int[np.ndarray, " rows"]:
    """Entity that was the answer before the edits; NONE where no fact of the row was edited."""
    was = np.arange(len(lessons.graph))
    was[len(old) :] = replaced
    first, second = lessons.queries.T
    two = second != NONE
    # an edited first fact led elsewhere, whence the same relation led to the old answer
    before = old.index[old.tail[was[first]], lessons.graph.relation[second]]
    answer = old.tail[np.where(two, before, was[first])]
    edited = (was[first] != first) | (two & (was[second] != second))
    return np.where(edited, answer, NONE)
