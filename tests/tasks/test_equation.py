"""openai/grok's equations, against facts of the published code and independent arithmetic."""

import hashlib
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from mechgrok.config import ConfigError, EquationTask, RunConfig, Seeds, TransformerModel
from mechgrok.options import from_dict, override, to_dict
from mechgrok.tasks.equation import SYMBOLS, VOCABULARY, Task, vocabulary

GOLDEN = {
    "add": (9409, "5c2307cf112be35c", "66 + 47 = 16", "96 + 82 = 81"),
    "subtract": (9409, "eb171b6afb44b391", "66 - 47 = 19", "96 - 82 = 14"),
    "multiply": (9409, "aebe9775bb373d2f", "66 * 47 = 95", "96 * 82 = 15"),
    "divide": (9312, "5d1d170c0ada2398", "77 / 47 = 78", "11 / 23 = 30"),
    "x2_plus_y": (9409, "06286166e463d2bc", "66 **2+ 47 = 38", "96 **2+ 82 = 83"),
    "x3_plus_y": (9409, "7730287c7e3041a4", "66 **3+ 47 = 35", "96 **3+ 82 = 81"),
    "x2_plus_y2": (
        9409, "0fe61bd64ee49757", "66 x**2+y**2_mod_97 47 = 66", "96 x**2+y**2_mod_97 82 = 32",
    ),
    "x2_plus_xy_plus_y2": (
        9409, "966b85155ec72497",
        "66 x**2+y**2+x*y_mod_97 47 = 64", "96 x**2+y**2+x*y_mod_97 82 = 47",
    ),
    "x2_plus_xy_plus_y2_plus_x": (
        9409, "b157fd41b86124c4",
        "66 x**2+y**2+x*y+x_mod_97 47 = 33", "96 x**2+y**2+x*y+x_mod_97 82 = 46",
    ),
    "x3_plus_xy": (
        9409, "fd8ed7938aba038b", "66 x**3+x*y_mod_97 47 = 83", "96 x**3+x*y_mod_97 82 = 14",
    ),
    "x3_plus_xy2_plus_y": (
        9409, "eb8bda79faa609ff",
        "66 x**3+x*y**2+y_mod_97 47 = 38", "96 x**3+x*y**2+y_mod_97 82 = 50",
    ),
    "divide_or_subtract": (
        9409, "0ba739becf827ac9",
        "66 (x._value//y)if(y._value%2==1)else(x-y)_mod_97 47 = 53",
        "96 (x._value//y)if(y._value%2==1)else(x-y)_mod_97 82 = 14",
    ),
    "add_or_multiply": (9409, "a5cb2e69d80c38d1", "66 +* 47 = 16", "96 +* 82 = 81"),
    "add_or_subtract": (9409, "d2d2d138477bd9e0", "66 +- 47 = 16", "96 +- 82 = 81"),
    "s5": (14400, "478c1c5e449a86b2", "21304 s5 12430 = 42310", "34102 s5 10243 = 43012"),
    "s5conj": (
        14400, "1a31970250373995", "21304 s5conj 12430 = 40213", "34102 s5conj 10243 = 10324",
    ),
    "s5aba": (
        14400, "3a3d5953211f4164", "21304 s5aba 12430 = 43012", "34102 s5aba 10243 = 20341",
    ),
}  # fmt: skip
"""Equations, sha256[:16] of all of them in the published shuffle, and the first two."""


def make(seeds: Seeds | None = None, **fields: object) -> Task:
    return Task.make(EquationTask(**fields), seeds or Seeds())


def equations(task: Task) -> list[str]:
    """All of them as the published code lists them: training rows, then validation rows."""
    return task.text("train") + task.text("test")


def digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def test_the_vocabulary_is_the_published_one() -> None:
    assert digest(list(VOCABULARY)) == "6dd280cf143924dd"
    assert len(VOCABULARY) == 239
    ids = {token: VOCABULARY.index(token) for token in ("+", "0", "01234", "/", "s5", "sort")}
    assert ids == {"+": 6, "0": 22, "01234": 119, "/": 10, "s5": 13, "sort": 16}


def test_every_operation_is_checked() -> None:
    assert set(GOLDEN) == set(SYMBOLS)


@pytest.mark.parametrize("operation", GOLDEN)
def test_equations_are_the_published_ones_in_the_published_order(operation: str) -> None:
    n, sha256, first, second = GOLDEN[operation]
    lines = equations(make(operation=operation))
    assert lines[:2] == [f"<|eos|> {first} <|eos|>", f"<|eos|> {second} <|eos|>"]
    assert (len(lines), digest(lines)) == (n, sha256)


def test_label_noise_is_the_published_one() -> None:
    noisy, clean = make(noisy=50), make()
    assert digest(equations(noisy)) == "83a80371b36c4448"
    assert equations(noisy)[:2] == ["<|eos|> 66 + 47 = 65 <|eos|>", "<|eos|> 96 + 82 = 90 <|eos|>"]
    assert noisy.tags["noisy"].sum() == 50
    assert noisy.tags["noisy"][noisy.splits["train"][:50]].all()
    differ = (noisy.labels != clean.labels).any(dim=1)
    assert not differ[noisy.tags["noisy"] == 0].any()
    assert differ.sum() in range(45, 51)  # a drawn answer is right once in 97 times
    assert torch.equal(noisy.tokens[:, 5], noisy.labels[:, 0])  # the answer is read as well


def test_published_split_sizes() -> None:
    task = make(frac_train=0.4)
    assert (len(task.splits["train"]), len(task.splits["test"])) == (3764, 5645)
    twins = task.tags["twin_in_train"][task.splits["test"]]
    assert int(twins.sum()) == 2208  # 39.1 % of the validation rows


def test_the_split_is_the_shuffle_of_the_list_of_equations() -> None:
    """Nine thousand strings shuffled by a generator of their own, seed 3."""
    task = make(Seeds(data=3), operation="divide")
    lines = []
    for c in range(97):
        for b in range(1, 97):
            lines.append(f"<|eos|> {b * c % 97} / {b} = {c} <|eos|>")
    np.random.RandomState(3).shuffle(lines)
    assert equations(task) == lines


def test_another_modulus_changes_the_numbers_and_nothing_else() -> None:
    task = make(modulus=11, operation="x2_plus_y2", frac_train=0.4)
    assert (len(task.tokens), task.d_vocab, task.d_vocab_out) == (121, 142 + 11, 142 + 11)
    sign = "x**2+y**2_mod_11"
    for row in range(len(task.tokens)):
        words = [task.vocabulary[token] for token in task.tokens[row].tolist()]
        a, b = divmod(row, 11)
        assert words == ["<|eos|>", str(a), sign, str(b), "=", str((a * a + b * b) % 11)]
    published, other = VOCABULARY, vocabulary(11)
    assert [t.replace("_97", "_11") for t in published[:22]] == list(other[:22])
    assert published[-120:] == other[-120:]


def test_s5_has_no_modulus() -> None:
    task, published = make(operation="s5", modulus=5), make(operation="s5")
    assert equations(task) == equations(published)


def test_s5_composes_from_left_to_right() -> None:
    task = make(operation="s5")
    elements = list(permutations(range(5)))
    rows = torch.randint(14400, (200,), generator=torch.Generator().manual_seed(0)).tolist()
    for row in rows:
        a, b = (elements[int(task.tags[name][row])] for name in ("a", "b"))
        both = "".join(str(b[a[i]]) for i in range(5))
        assert VOCABULARY[int(task.labels[row, 0])] == both


def test_answers_are_asked_at_the_equals_sign_and_after_the_answer() -> None:
    task = make(frac_train=0.4)
    assert (task.n_ctx, task.positions, task.d_vocab, task.d_vocab_out) == (6, (4, 5), 239, 239)
    assert {VOCABULARY[token] for token in task.tokens[:, 4].tolist()} == {"="}
    assert {VOCABULARY[token] for token in task.labels[:, 1].tolist()} == {"<|eos|>"}
    assert torch.equal(task.labels[:, 0], task.tokens[:, 5])
    assert torch.equal((task.tags["a"] + task.tags["b"]) % 97 + 22, task.labels[:, 0])


def test_the_shuffle_follows_the_data_seed_only() -> None:
    one = make(Seeds().with_base(5))
    assert torch.equal(one.splits["train"], make(Seeds(data=5)).splits["train"])
    assert not torch.equal(one.splits["train"], make().splits["train"])


def test_no_global_generator_is_touched() -> None:
    before = np.random.get_state()[1].tolist()
    make(noisy=5)
    assert np.random.get_state()[1].tolist() == before


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"operation": "adition"}, r"'adition'; expected one of \['add'"),
        ({"operation": "+"}, r"'\+'; expected one of \['add'\]"),
        ({"operation": "sort"}, "is of lists: task.name = 'sequences'"),
        ({"frac_train": 1.0}, "strictly between 0 and 1"),
        ({"frac_train": 1e-6}, "leaves 0 of 9409 equations"),
        ({"frac_train": 0.1, "noisy": 942}, "task.noisy = 942; expected 0 to 941"),
        ({"noisy": -1}, "task.noisy = -1"),
        ({"modulus": 2}, "task.modulus = 2; expected at least 3"),
        ({"modulus": 33, "operation": "divide"}, "prime task.modulus; 33 is composite: try 37"),
    ],
)
def test_impossible_settings_are_named(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make(**fields)


def test_a_run_of_equations_is_chosen_by_name_and_read_back() -> None:
    config = override(RunConfig(), {"task.name": "equation", "task.operation": "s5"})
    assert config.task == EquationTask(operation="s5")
    assert from_dict(RunConfig, to_dict(config)) == config
    with pytest.raises(ConfigError, match="unknown option 'task.n'"):
        override(config, {"task.n": 5})


def test_a_run_records_answer_and_twin_accuracies(tmp_path: Path) -> None:
    """A transformer of any task learns equations; its columns agree with each other."""
    model = TransformerModel(d_model=16, n_heads=2, d_head=8, d_mlp=16)
    config = tiny.config(task__name="equation", task__frac_train=0.4, optim__batch_size=64)
    config = override(config, {f"model.{k}": v for k, v in to_dict(model).items()})
    run = tiny.train(config, tmp_path / "run", **{"stop.max_steps": 20})
    row = run.evaluations()[-1]
    twins = 2208 / 5645
    whole = twins * row["test_acc_twin"] + (1 - twins) * row["test_acc_no_twin"]
    assert whole == pytest.approx(row["test_acc"], abs=1e-12)
    assert row["test_answer_acc"] >= row["test_acc"]
    assert row["test_answer_loss"] > row["test_loss"], "eos is learnt first"
    logits = run[-1].answer_logits.double()
    answers = run.task.labels[:, 0]
    loss = torch.nn.functional.cross_entropy(logits[:, 0], answers, reduction="none")
    test = run.task.splits["test"]
    assert float(loss[test].mean()) == pytest.approx(row["test_answer_loss"], rel=1e-6)
    right = (logits[:, 0].argmax(-1) == answers)[test]
    assert float(right.double().mean()) == pytest.approx(row["test_answer_acc"], abs=1e-12)
