"""What fine-tuning sets teach, keep and test, recounted from the text of their rows."""

from typing import Literal

import numpy as np
import pytest
from two_hops import Fact, facts, hops, make, table, two_hop

from mechgrok.config import CompositionTask, ConfigError, FinetuneSet, Seeds
from mechgrok.tasks._augmentation import Queries
from mechgrok.tasks._graph import Graph
from mechgrok.tasks._kept import keep
from mechgrok.tasks.composition import Task

NEW = FinetuneSet(facts="new", count=8, keep=60)
EDITED = FinetuneSet(facts="edited", count=6, keep=60)


def teach(seeds: Seeds | None = None, **fields: object) -> Task:
    return make(seeds, **({"regime": "both_full", "finetune": NEW} | fields))


def old_facts(**fields: object) -> set[Fact]:
    task = make(**fields)
    return facts(task, "id_atomic") | facts(task, "ood_atomic")


def atomic(task: Task) -> set[Fact]:
    """Facts that are trained on by their atomic query."""
    lines = [line.split() for line in task.text("train")]
    return {(line[0], line[1], line[2]) for line in lines if len(line) == 4}


def test_new_facts_use_pairs_that_were_free_and_are_taught_atomically() -> None:
    task, old = teach(), old_facts()
    new = facts(task, "atomic_new")
    assert len(new) == 8
    assert not {f[:2] for f in new} & {f[:2] for f in old}
    assert new <= atomic(task) <= new | old
    tails = table(old)
    for line in two_hop(task, "train"):
        assert not {*hops(line, tails)} & new, "an old query"
    chains = task.graph.tail[-8::2]
    assert (chains == task.graph.head[-7::2]).all()


def test_code_keeps_facts_with_all_their_queries_up_to_a_total() -> None:
    task, old = teach(), make(regime="both_full")
    kept = atomic(task) - facts(task, "atomic_new")
    lines = set(two_hop(task, "train"))
    tails = table(old_facts())
    every = {line: set(hops(line, tails)) for line in two_hop(old, "train")}
    assert lines == {line for line, pair in every.items() if pair & kept}
    assert len(kept) + len(lines) <= 60
    cheapest = min(
        1 + sum(fact in pair and line not in lines for line, pair in every.items())
        for fact in old_facts() - kept
    )
    assert len(kept) + len(lines) + cheapest > 60, "no further fact fits"


def test_paper_keeps_in_distribution_facts_with_all_their_queries() -> None:
    task = teach(finetune=FinetuneSet(facts="new", count=8, version="paper", keep=10))
    old = make(regime="both_full")
    kept = atomic(task) - facts(task, "atomic_new")
    assert len(kept) == 10
    assert kept <= facts(old, "id_atomic")
    tails = table(old_facts())
    wanted = {line for line in two_hop(old, "train") if set(hops(line, tails)) & kept}
    assert set(two_hop(task, "train")) == wanted


def test_cells_are_told_apart_by_the_whole_table_of_facts() -> None:
    task = teach(finetune=FinetuneSet(facts="new", count=20, keep=120), test_rows=20)
    whole = teach(finetune=FinetuneSet(facts="new", count=20, keep=120))
    new = facts(whole, "atomic_new")
    kept = atomic(whole) - new
    tails = table(new | old_facts())
    cells: dict[str, set[str]] = {"new_old": set(), "old_new": set(), "test_inferred_new": set()}
    for (h, r1), b in tails.items():
        for (x, r2), t in tails.items():
            pair = ((h, r1, b), (x, r2, t))
            kinds = ["new" if f in new else "old" if f in kept else "" for f in pair]
            name = {"newold": "new_old", "oldnew": "old_new", "newnew": "test_inferred_new"}
            if x == b and "".join(kinds) in name and "" not in kinds:
                cells[name["".join(kinds)]].add(f"{h} {r1} {r2} {t} </a>")
    for name, lines in cells.items():
        assert set(whole.text(name)) == lines
        assert lines
    assert set(whole.text("test_inferred_new_mix")) == cells["new_old"] | cells["old_new"]
    assert whole.text("test") == whole.text("new_old")
    assert len(task.splits["test_inferred_new"]) == 20, "capped"
    assert task.text("test") == task.text("new_old")
    probes = facts(task, "id_atomic")
    assert len(probes) == 20
    probed = [line for line in task.text("new_old_probed")]
    assert {hops(line, tails)[1] in probes for line in probed} == {True}
    for row, line in zip(whole.splits["old_new"].tolist(), whole.text("old_new"), strict=True):
        assert (hops(line, tails)[0] in kept, int(whole.tags["first_kept"][row])) == (True, 1)
        assert (int(whole.tags["first_new"][row]), int(whole.tags["second_new"][row])) == (0, 1)


def test_the_old_tests_stay_and_the_graph_is_shared() -> None:
    old = make(regime="both_full")
    for finetune in (NEW, FinetuneSet(facts="new", count=4, keep=100)):
        task = teach(finetune=finetune)
        assert old.vocabulary == task.vocabulary, "no new tokens"
        for split in ("id_atomic", "ood_atomic", "train_inferred", "test_inferred_ood"):
            assert task.text(split) == old.text(split)
    assert set(teach().watched) >= {"train", "test", "atomic_new", "old_new", "test_inferred_new"}
    natural, both = (facts(teach(regime=r), "atomic_new") for r in ("natural", "both_full"))
    assert natural == both
    assert facts(teach(Seeds(finetune=1)), "atomic_new") != both
    assert set(teach(Seeds(finetune=1)).text("id_atomic")) == set(old.text("id_atomic"))


def test_edits_are_atomic_and_the_answers_that_follow_change() -> None:
    task, old = teach(finetune=EDITED), make(regime="both_full")
    before = table(old_facts())
    edits = {(h, r): t for h, r, t in facts(task, "edited")}
    assert len(edits) == 6
    assert all(before[pair] != t for pair, t in edits.items())
    replaced = {(h, r, before[h, r]) for h, r in edits}
    assert replaced <= facts(old, "id_atomic")
    assert {(*pair, t) for pair, t in edits.items()} <= atomic(task)
    assert not atomic(task) & replaced
    for line in two_hop(task, "train"):
        assert not set(hops(line, before)) & replaced
    now = before | edits
    expected: dict[str, set[tuple[str, str]]] = {"edit_first": set(), "edit_second": set()}
    for line in set(two_hop(old, "train")):
        first, second = hops(line, before)
        h, r1, r2, t, _ = line.split()
        if second in replaced and first not in replaced:
            expected["edit_second"].add((f"{h} {r1} {r2} {now[second[:2]]} </a>", t))
        if first in replaced and second not in replaced:
            fact = (now[h, r1], r2)
            known = fact in before and fact not in edits
            if known and (*fact, before[fact]) in facts(old, "id_atomic") and before[fact] != t:
                expected["edit_first"].add((f"{h} {r1} {r2} {before[fact]} </a>", t))
    for name, lines in expected.items():
        rows = task.splits[name]
        was = [task.vocabulary[i] for i in task.tags["old_answer"][rows]]
        assert set(zip(task.text(name), was, strict=True)) == lines
        assert lines
    assert set(task.text("test")) == {*task.text("edit_first"), *task.text("edit_second")}
    atoms = task.splits["edited"]
    was = [task.vocabulary[i] for i in task.tags["old_answer"][atoms]]
    assert was == [before[line.split()[0], line.split()[1]] for line in task.text("edited")]
    for split in ("train_inferred", "test_inferred_iid", "test_inferred_ood", "kept_inferred"):
        assert set(task.tags["old_answer"][task.splits[split]].tolist()) == {-1}
        assert set(task.text(split)) <= {line for s in old.splits for line in old.text(s)}


def test_every_fact_that_still_fits_is_taken() -> None:
    """Facts 0-3 in a chain of queries (0,1), (1,2), (2,3); 4 places hold one of three choices."""
    zeros = np.zeros(4, dtype=int)
    line = Graph(5, 1, np.arange(4), zeros, np.arange(1, 5), zeros.astype(bool))
    queries = line.queries()
    assert queries.tolist() == [[0, 1], [1, 2], [2, 3]]
    old = Queries(line, queries, np.empty((0, 2), dtype=int), {})
    none = np.empty(0, dtype=int)
    seen = set()
    for seed in range(20):
        config = FinetuneSet(facts="new", keep=4)
        kept = keep(config, old, none, np.random.default_rng(seed))
        used = [q for q in queries.tolist() if set(q) & set(kept.facts.tolist())]
        assert kept.queries.tolist() == used
        assert len(kept.facts) + len(used) <= 4
        seen.add(tuple(kept.facts.tolist()))
    assert seen == {(0, 1), (2, 3), (0, 3)}


@pytest.mark.parametrize(
    ("kind", "golden"), [("new", "99a0d1bf879b92ff"), ("edited", "e6ec38128096e5c9")]
)
def test_the_small_sets_are_what_they_were(kind: Literal["new", "edited"], golden: str) -> None:
    task = Task.make(CompositionTask(finetune=FinetuneSet(facts=kind)), Seeds())
    assert task.sha256.startswith(golden)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"finetune": FinetuneSet(facts="new", count=7)}, "= 7; expected an even number"),
        ({"finetune": FinetuneSet(facts="new", count=40)}, "40 new facts, and 36 unused pairs"),
        ({"finetune": NEW, "out_degree": 8, "phi": 4.0}, "8 new facts, and 0 unused pairs"),
        ({"finetune": FinetuneSet(facts="edited", count=49)}, "expected 1 to 48"),
        ({"finetune": FinetuneSet(facts="new", count=8)}, r"keep = 3700 .* expected 1 to \d+"),
        (
            {"finetune": FinetuneSet(facts="new", count=8, version="paper", keep=49)},
            "keep = 49 with version 'paper'; expected 1 to 48",
        ),
        ({"finetune": FinetuneSet(count=8)}, "has settings but teaches nothing"),
        (
            {"finetune": FinetuneSet(facts="new", count=2, version="paper", keep=1)},
            "no two-hop query joins one of task.finetune.count = 2 new facts",
        ),
    ],
)
def test_impossible_sets_are_named(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        teach(**fields)
