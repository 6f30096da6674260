"""Comparisons follow from the facts, and no comparison of a split is where it must not be."""

import re
from pathlib import Path

import pytest
import tiny
import torch
import torch.nn.functional as F

from mechgrok.config import ComparisonTask, ConfigError, RunConfig, Seeds
from mechgrok.measures.sharpness import measure as sharpness
from mechgrok.options import from_dict, override, to_dict
from mechgrok.tasks.comparison import Task, _Tokens
from mechgrok.training.evaluation import evaluate
from mechgrok.training.losses import make as make_loss

SMALL = {"entities": 20, "attributes": 3, "values": 4, "ood_share": 0.2, "test_rows": 30}


def make(seeds: Seeds | None = None, **fields: object) -> Task:
    return Task.make(ComparisonTask(**(SMALL | fields)), seeds or Seeds())


def values_of(task: Task) -> dict[tuple[str, str], int]:
    """(entity, attribute) -> value, read off the text of the facts."""
    facts = [line.split() for line in task.text("facts")]
    assert all(fact[3:] == ["</a>"] for fact in facts)
    return {(e, a): int(v[1:-1]) for e, a, v, _ in facts}


def queries(task: Task, split: str) -> list[tuple[str, str, str, int]]:
    """attribute, entities and answer of every comparison in a split, read off its text."""
    found = []
    for line in task.text(split):
        if "<mask>" in line:
            a, question, first, mask, second, answer, end = line.split()
            assert (question, mask, end) == ("<q>", "<mask>", "</a>")
            match = re.fullmatch(rf"<{a[1:-1]}_([012])>", answer)
            assert match
            found.append((a, first, second, int(match[1])))
    return found


def test_answers_follow_from_the_facts() -> None:
    task = make()
    values = values_of(task)
    assert len(values) == 60
    every = [q for split in ("train", "test", "ood") for q in queries(task, split)]
    for a, first, second, answer in every:
        x, y = values[first, a], values[second, a]
        assert answer == (x > y) - (x < y) + 1
    assert len(set(every)) == len(every)
    assert {answer for *_, answer in every} == {0, 1, 2}


def test_out_of_distribution_entities_are_in_no_other_comparison() -> None:
    task = make(ratio=5.0)
    for attribute in ("<attr_0>", "<attr_1>", "<attr_2>"):
        seen = {
            split: {e for a, *pair, _ in queries(task, split) for e in pair if a == attribute}
            for split in ("train", "test", "ood")
        }
        assert len(seen["ood"]) == 4
        assert not seen["ood"] & (seen["train"] | seen["test"])
    first = {e for a, *pair, _ in queries(task, "ood") for e in pair if a == "<attr_0>"}
    others = {e for a, *pair, _ in queries(task, "ood") for e in pair if a == "<attr_1>"}
    assert first != others, "drawn anew for each attribute"


def test_both_orders_of_a_pair_are_in_one_split() -> None:
    task = make(ratio=5.0)
    pairs = [{(a, frozenset(p)) for a, *p, _ in queries(task, s)} for s in ("train", "test")]
    assert not pairs[0] & pairs[1]


def test_sizes_are_the_published_ones() -> None:
    """16 of 20 entities are known: 120 pairs, of which 12 are tested."""
    task = make(ratio=2.0)
    assert {name: len(rows) for name, rows in task.splits.items()} == {
        "train": 60 + 2 * 16 * 3, "facts": 60, "test": 30, "ood": 30,
    }  # fmt: skip
    assert len(make(test_rows=1000).splits["test"]) == 2 * 12 * 3
    assert len(make(test_rows=1000).splits["ood"]) == 2 * 6 * 3
    assert int(task.tags["comparison"].sum()) == 2 * 16 * 3 + 60
    # 1000 entities, 20 attributes, 20 values, 6 special tokens, 3 answers per attribute
    assert len(_Tokens(ComparisonTask()).vocabulary) == 1_106


def test_seeds_draw_values_and_splits_apart() -> None:
    base = make()
    assert make(Seeds(data=1)).text("facts") == base.text("facts")
    assert make(Seeds(data=1)).text("ood") != base.text("ood")
    assert make(Seeds(labels=1)).text("facts") != base.text("facts")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"entities": 3}, "task.entities = 3; expected at least 4"),
        ({"values": 1}, "task.values = 1"),
        ({"ood_share": 1.0}, "task.ood_share = 1.0"),
        ({"ood_share": 0.01}, "the ood split .* is empty"),
        ({"iid_share": 1e-4}, "the test split .* is empty"),
        ({"ratio": 14.0}, "asks for 672 comparisons to train on, of 648; lower it"),
        ({"ratio": 0.0}, "task.ratio = 0.0"),
    ],
)
def test_impossible_settings_are_named(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make(**fields)


def test_rows_with_answers_in_different_places_are_learnt(tmp_path: Path) -> None:
    config = override(RunConfig(), {"task.name": "comparison", "task.ratio": 7.2})
    assert from_dict(RunConfig, to_dict(config)) == config
    asked = tiny.config(task__name="comparison", **{f"task__{k}": v for k, v in SMALL.items()})
    run = tiny.train(asked, tmp_path / "run", **{"stop.max_steps": 40, "optim.lr": 1e-2})
    first, last = run.evaluations()[0], run.evaluations()[-1]
    assert last["train_loss"] < first["train_loss"] - 0.5
    task, ck = run.task, run[-1]
    assert evaluate(ck.model, task, make_loss(run.config.loss), "ood", "cpu")["loss"] > 0
    logits = ck.answer_logits.double()
    whole = ck.model(task.tokens)
    for row in (0, len(task.tokens) - 1):  # a fact and a comparison
        own = whole[row, task.answer_positions[row]].double()
        torch.testing.assert_close(logits[row], own, rtol=1e-5, atol=1e-5)
    train = task.splits["train"]
    expected = F.cross_entropy(logits[train].flatten(0, 1), task.labels[train].flatten())
    assert last["train_loss"] == pytest.approx(float(expected), rel=1e-6)
    assert sharpness(ck)["loss"] == pytest.approx(float(expected), rel=1e-5)
