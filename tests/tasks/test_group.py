"""Tasks of finite groups: the whole table as rows, and the same rows as addition for C_n."""

from pathlib import Path

import pytest
import tiny
import torch

from mechgrok.config import BinaryTask, ConfigError, GroupTask, RunConfig, Seeds
from mechgrok.options import from_dict, override, to_dict
from mechgrok.tasks import binary
from mechgrok.tasks.group import Task


def make(seeds: Seeds | None = None, **fields: object) -> Task:
    return Task.make(GroupTask(**fields), seeds or Seeds())


def test_the_cyclic_group_is_addition() -> None:
    seeds = Seeds(data=3, relabel=4)
    same = {"frac_train": 0.4, "split": "symmetric", "relabel": True, "outputs": "answers"}
    group = make(seeds, group="C_11", **same)
    add = binary.Task.make(BinaryTask(n=11, **same), seeds)
    assert group.sha256 == add.sha256
    assert group.vocabulary == add.vocabulary
    assert group.d_vocab_out == add.d_vocab_out == 11
    assert all(torch.equal(group.splits[name], add.splits[name]) for name in add.splits)
    assert all(torch.equal(group.tags[name], add.tags[name]) for name in add.tags)


@pytest.mark.parametrize("relabel", [False, True])
def test_rows_hold_by_the_names_of_their_tokens(relabel: bool) -> None:
    task = make(Seeds(relabel=1), group="S_4", relabel=relabel)
    assert (len(task.tokens), task.d_vocab, task.d_vocab_out) == (576, 25, 25)
    assert (task.renamed.tolist() == list(range(24))) != relabel
    for text in task.text("train"):
        a, b, equals, c = text.split()
        assert equals == "="
        assert c == "".join(b[int(i)] for i in a)  # first a, then b


def test_blocks_are_pairs_of_cosets() -> None:
    """In D_n a product of two reflections is a rotation: blocks 0 and 3 answer with rotations."""
    task = make(group="D_29")
    assert task.tags["block"].bincount().tolist() == [29**2] * 4
    rotation = task.labels[:, 0] < 29
    assert torch.equal(rotation, (task.tags["block"] == 0) | (task.tags["block"] == 3))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"group": "S_9"}, "S_9 has too many elements.*S_6 at most"),
        ({"group": "S5"}, "unknown group 'S5'; expected C_n"),
        ({"group": "S_2"}, "order 2; expected at least 3"),
        ({"group": "S_3", "split": "nanda"}, "expected one of"),
        ({"group": "S_3", "frac_train": 0.0}, "strictly between 0 and 1"),
    ],
)
def test_impossible_settings_are_named(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make(**fields)


def test_a_group_is_chosen_by_name_and_trained_on(tmp_path: Path) -> None:
    config = override(RunConfig(), {"task.name": "group", "task.group": "D_29"})
    assert from_dict(RunConfig, to_dict(config)) == config
    assert config.task == GroupTask(group="D_29")
    run = tiny.train(tiny.config(task__name="group", task__group="S_3"), tmp_path / "run")
    assert run.evaluations()[-1]["train_acc"] > 0
    assert run[-1].answer_logits.shape == (36, 1, 7)
