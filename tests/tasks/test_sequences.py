"""Lists against the published generator's order, written out in plain Python."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from mechgrok.config import ConfigError, RunConfig, Seeds, SequencesTask
from mechgrok.options import from_dict, override, to_dict
from mechgrok.tasks.sequences import Task

RESULTS = {"sort": sorted, "reverse": lambda x: list(reversed(x)), "copy": list}


def make(seeds: Seeds | None = None, **fields: object) -> Task:
    return Task.make(SequencesTask(**fields), seeds or Seeds())


@pytest.mark.parametrize("operation", RESULTS)
@pytest.mark.parametrize(("length", "n"), [(2, 97), (3, 12)])
def test_rows_are_all_lists_in_the_published_shuffle(operation: str, length: int, n: int) -> None:
    task = make(operation=operation, length=length, n=n)
    lines = []
    for numbers in itertools.permutations(range(n), length):
        left, right = (" ".join(map(str, x)) for x in (numbers, RESULTS[operation](numbers)))
        lines.append(f"<|eos|> {operation} {left} = {right} <|eos|>")
    np.random.RandomState(0).shuffle(lines)
    assert task.text("train") + task.text("test") == lines
    assert len(task.splits["train"]) == round(len(lines) / 2)


def test_every_number_and_the_closing_eos_are_asked_for() -> None:
    task = make(length=3, n=5)
    assert (task.n_ctx, task.positions) == (9, (5, 6, 7, 8))
    assert {task.vocabulary[token] for token in task.tokens[:, 5].tolist()} == {"="}
    assert torch.equal(task.labels[:, :3], task.tokens[:, 6:9])
    assert {task.vocabulary[token] for token in task.labels[:, 3].tolist()} == {"<|eos|>"}


def test_a_twin_is_another_order_that_is_trained_on() -> None:
    task = make(length=3, n=6, frac_train=0.2)
    train = [tuple(row) for row in task.tokens[task.splits["train"], 2:5].tolist()]
    for row, twin in zip(task.tokens[:, 2:5].tolist(), task.tags["twin_in_train"], strict=True):
        others = set(itertools.permutations(row)) - {tuple(row)}
        assert bool(twin) == any(other in train for other in others)
    assert 0 < int(task.tags["twin_in_train"].sum()) < len(task.tokens)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"operation": "add"}, r"'add'; expected one of \['sort', 'reverse', 'copy'\]"),
        ({"length": 4}, r"task.length = 4; expected one of \[2, 3\]"),
        ({"n": 98}, "expected 2 .* to 97"),
        ({"length": 3, "n": 2}, "expected 3"),
        ({"frac_train": 0.0}, "strictly between 0 and 1"),
        ({"frac_train": 1e-6}, "leaves 0 of 9312 lists"),
    ],
)
def test_impossible_settings_are_named(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make(**fields)


def test_lists_are_learnt(tmp_path: Path) -> None:
    config = override(RunConfig(), {"task.name": "sequences", "task.operation": "reverse"})
    assert from_dict(RunConfig, to_dict(config)) == config
    asked = tiny.config(task__name="sequences", task__n=6, task__length=3)
    run = tiny.train(asked, tmp_path / "run", **{"stop.max_steps": 40, "optim.lr": 1e-2})
    first, last = run.evaluations()[0], run.evaluations()[-1]
    assert last["train_loss"] < first["train_loss"] - 0.5
    assert {"test_acc_twin", "test_answer_acc"} <= set(last)
    assert run[-1].answer_logits.shape == (120, 4, 239)
