"""Tables, splits and labels of the binary tasks, against independent brute force."""

import contextlib
import itertools
import math
import random

import pytest
import torch

from mechgrok.config import BinaryTask, ConfigError, Seeds
from mechgrok.maths.operations import COMMUTATIVE, NEEDS_PRIME, OPERATIONS, is_prime, next_prime
from mechgrok.tasks._rows import IGNORE, Rows
from mechgrok.tasks.binary import Task

SIZES = (3, 4, 5, 7, 8)


def make(seeds: Seeds | None = None, **fields: object) -> Task:
    """A task with half of its rows in training."""
    return Task.make(BinaryTask(**{"frac_train": 0.5, **fields}), seeds or Seeds())


def right_answers(operation: str, a: int, b: int, n: int) -> set[int]:
    """Every c for which a o b = c holds, by trying them all."""
    holds = {
        "add": lambda c: (a + b - c) % n == 0,
        "subtract": lambda c: (c + b - a) % n == 0,
        "multiply": lambda c: (a * b - c) % n == 0,
        "divide": lambda c: (b * c - a) % n == 0,
        "x2_plus_y": lambda c: (a**2 + b - c) % n == 0,
        "x3_plus_y": lambda c: (a**3 + b - c) % n == 0,
        "x2_plus_y2": lambda c: (a**2 + b**2 - c) % n == 0,
        "x2_plus_xy_plus_y2": lambda c: (a**2 + a * b + b**2 - c) % n == 0,
        "x2_plus_xy_plus_y2_plus_x": lambda c: (a**2 + a * b + b**2 + a - c) % n == 0,
        "x3_plus_xy": lambda c: (a**3 + a * b - c) % n == 0,
        "x3_plus_xy2_plus_y": lambda c: (a**3 + a * b**2 + b - c) % n == 0,
        "divide_or_subtract": lambda c: (b * c - a if b % 2 else c + b - a) % n == 0,
        "add_or_multiply": lambda c: ((a * b if a % 2 else a + b) - c) % n == 0,
        "add_or_subtract": lambda c: ((a - b if a % 2 else a + b) - c) % n == 0,
    }
    return {c for c in range(n) if holds[operation](c)}


CASES = [(op, n) for op in OPERATIONS for n in SIZES if op not in NEEDS_PRIME or is_prime(n)]


@pytest.mark.parametrize(("operation", "n"), CASES)
def test_every_label_is_the_one_right_answer(operation: str, n: int) -> None:
    task = make(operation=operation, n=n)
    first = 1 if operation == "divide" else 0
    expected = [(a, b, n) for a in range(n) for b in range(first, n)]
    assert [tuple(row) for row in task.tokens.tolist()] == expected
    for (a, b, _), label in zip(expected, task.labels[:, 0].tolist(), strict=True):
        assert right_answers(operation, a, b, n) == {label}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_commutative_is_true_exactly_where_it_is_said(operation: str) -> None:
    task = make(operation=operation, n=7)
    table = {
        (a, b): c
        for (a, b, _), c in zip(task.tokens.tolist(), task.labels[:, 0].tolist(), strict=True)
    }
    symmetric = all(table[a, b] == table[b, a] for a, b in table if (b, a) in table)
    assert symmetric == (operation in COMMUTATIVE)


@pytest.mark.parametrize("n", [2, 4, 9, 91, 113, 121])
def test_primes(n: int) -> None:
    # Wilson's theorem: (n-1)! = -1 mod n exactly for primes
    assert is_prime(n) == (math.factorial(n - 1) % n == n - 1)
    assert is_prime(next_prime(n))
    assert not any(is_prime(k) for k in range(n + 1, next_prime(n)))


@pytest.mark.parametrize("seed", [0, 1, 598])
def test_published_split_is_the_shuffled_list_of_triples(seed: int) -> None:
    task = make(Seeds(data=seed), n=113, frac_train=0.3)
    triples = [(a, b, 113) for a in range(113) for b in range(113)]
    random.seed(seed)
    random.shuffle(triples)
    train = [tuple(row) for row in task.tokens[task.splits["train"]].tolist()]
    test = [tuple(row) for row in task.tokens[task.splits["test"]].tolist()]
    assert (len(train), len(test)) == (3830, 8939)
    assert train == triples[:3830]
    assert test == triples[3830:]


def test_torch_randperm_is_the_demos_formula() -> None:
    task = make(Seeds(data=598), n=113, frac_train=0.3, split="torch_randperm")
    with torch.random.fork_rng():
        torch.manual_seed(598)
        indices = torch.randperm(113 * 113)
    cutoff = int(113 * 113 * 0.3)
    assert torch.equal(task.splits["train"], indices[:cutoff])
    assert torch.equal(task.splits["test"], indices[cutoff:])


@pytest.mark.parametrize("operation", ["add", "divide"])
@pytest.mark.parametrize("seed", range(3))
def test_symmetric_keeps_twins_on_one_side(operation: str, seed: int) -> None:
    task = make(Seeds(data=seed), n=11, operation=operation, split="symmetric")
    a, b, train = task.tags["a"].tolist(), task.tags["b"].tolist(), task.mask("train").tolist()
    side = dict(zip(zip(a, b, strict=True), train, strict=True))
    assert all(side[x, y] == side[y, x] for x, y in side if (y, x) in side)


def test_nanda2023_does_separate_twins() -> None:
    """The negative control of the test above."""
    task = make(n=11)
    own = task.mask("train")
    assert (task.tags["twin_in_train"].bool() != own).any()


@pytest.mark.parametrize("split", ["nanda2023", "torch_randperm", "symmetric"])
def test_splits_are_a_partition(split: str) -> None:
    task = make(n=9, split=split)
    both = torch.cat([task.splits["train"], task.splits["test"]])
    assert torch.equal(both.sort().values, torch.arange(81))
    assert torch.equal(task.mask("train"), ~task.mask("test"))


def test_twin_tag_says_whether_the_swapped_row_is_trained_on() -> None:
    task = make(n=5, operation="subtract")
    trained = {tuple(row) for row in task.tokens[task.splits["train"]].tolist()}
    expected = [(b, a, e) in trained for a, b, e in task.tokens.tolist()]
    assert task.tags["twin_in_train"].bool().tolist() == expected


@pytest.mark.parametrize("operation", ["add", "subtract", "divide"])
def test_relabelled_facts_hold_through_vocabulary_and_renamed(operation: str) -> None:
    task = make(Seeds(relabel=3), n=7, operation=operation, relabel=True)
    assert task.renamed.tolist() != list(range(7))
    assert task.vocabulary[-1] == "="
    for (x, y, equals), z in zip(task.tokens.tolist(), task.labels[:, 0].tolist(), strict=True):
        a, b, c = (int(task.vocabulary[token]) for token in (x, y, z))
        assert equals == 7
        assert right_answers(operation, a, b, 7) == {c}
        assert [int(task.renamed[element]) for element in (a, b, c)] == [x, y, z]


def test_relabelling_changes_neither_rows_nor_splits() -> None:
    plain, renamed = make(n=7), make(n=7, relabel=True)
    assert torch.equal(plain.splits["train"], renamed.splits["train"])
    assert torch.equal(plain.tags["a"], renamed.tags["a"])
    assert torch.equal(renamed.renamed[plain.tokens[:, 0]], renamed.tokens[:, 0])


def test_random_labels_are_fixed_by_their_own_seed() -> None:
    def labels(**seeds: int) -> list[int]:
        return make(Seeds(**seeds), n=8, operation="random_labels").labels[:, 0].tolist()

    assert labels(labels=4) == labels(labels=4) == labels(labels=4, data=1, init=2)
    assert labels(labels=4) != labels(labels=5)
    assert set(labels(labels=4)) <= set(range(8))


def test_seeds_are_separate() -> None:
    base = make(n=7, relabel=True)
    other = make(Seeds(init=9, batch=9, noise=9, probe=9, labels=9), n=7, relabel=True)
    assert base.sha256 == other.sha256
    assert torch.equal(base.splits["train"], other.splits["train"])


def test_output_classes() -> None:
    assert make(n=7).d_vocab_out == 8
    assert make(n=7, outputs="answers").d_vocab_out == 7
    assert (make(n=7).d_vocab, make(n=7).n_ctx, make(n=7).positions) == (8, 3, (2,))


def test_dataset_holds_the_rows_of_each_split() -> None:
    task = make(n=5, frac_train=0.3)
    found = task.to_dataset()
    assert sorted(found) == ["test", "train"]
    assert found["train"].column_names == [
        "tokens", "answer_positions", "labels", "a", "b", "twin_in_train",
    ]  # fmt: skip
    assert found["train"].num_rows == 7
    for name, rows in task.splits.items():
        assert found[name]["tokens"][:] == task.tokens[rows].tolist()
        assert found[name]["labels"][:] == task.labels[rows].tolist()
        assert found[name]["a"][:] == task.tags["a"][rows].tolist()


def test_sha256_is_that_of_the_facts() -> None:
    digests = [
        make(n=7).sha256,
        make(n=8).sha256,
        make(n=7, operation="subtract").sha256,
        make(n=7, relabel=True).sha256,
    ]
    assert len(set(digests)) == 4
    assert make(n=7).sha256 == make(Seeds(data=5), n=7, frac_train=0.8).sha256 == digests[0]
    rows = several_answers()
    moved = several_answers(answer_positions=torch.tensor([[1, 3], [3, 2]]))
    assert rows.sha256 != moved.sha256


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"n": 2}, "at least 3"),
        ({"n": 0}, "at least 3"),
        ({"n": -5}, "at least 3"),
        ({"n": 9, "operation": "divide"}, "try 11"),
        ({"operation": "adition"}, "expected one of"),
        ({"split": "nanda"}, "expected one of"),
        ({"frac_train": 0.0}, "strictly between 0 and 1"),
        ({"frac_train": 1.0}, "strictly between 0 and 1"),
        ({"frac_train": -0.1}, "strictly between 0 and 1"),
        ({"frac_train": math.nan}, "strictly between 0 and 1"),
        ({"n": 3, "frac_train": 0.01}, "leaves 0 of 9 rows"),
    ],
)
def test_impossible_settings_are_named(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make(**{"n": 7, **fields})


def test_a_symmetric_split_never_loses_its_test_side() -> None:
    """8 of 9 rows wanted: where a pair of twins comes last, none is left to test on."""
    refused = 0
    for seed in range(20):
        with contextlib.suppress(ValueError):
            task = make(Seeds(data=seed), n=3, frac_train=0.99, split="symmetric")
            assert len(task.splits["train"]) == 8
            continue
        refused += 1
        with pytest.raises(ValueError, match="test split is empty"):
            make(Seeds(data=seed), n=3, frac_train=0.99, split="symmetric")
    assert 0 < refused < 20


def several_answers(**changes: object) -> Rows:
    """Two rows of four tokens; the first is read at 1 and 2, the second at 3 only."""
    fields: dict[str, object] = {
        "vocabulary": ("x", "y", "z"),
        "tokens": torch.tensor([[0, 1, 2, 0], [2, 1, 0, 1]]),
        "answer_positions": torch.tensor([[1, 2], [3, 3]]),
        "labels": torch.tensor([[2, 0], [1, IGNORE]]),
        "splits": {
            "train": torch.tensor([0]),
            "test": torch.tensor([1]),
            "probe": torch.tensor([0, 1]),
        },
        "d_vocab_out": 3,
    }
    return Rows(**{**fields, **changes})


def test_rows_may_have_several_answers_and_overlapping_splits() -> None:
    rows = several_answers()
    assert (rows.d_vocab, rows.n_ctx) == (3, 4)
    assert rows.mask("probe").all()
    assert rows.to_dataset()["probe"]["labels"][:] == [[2, 0], [1, IGNORE]]
    with pytest.raises(ValueError, match="differ between rows"):
        _ = rows.positions
    same = several_answers(answer_positions=torch.tensor([[1, 3], [1, 3]]))
    assert same.positions == (1, 3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tokens": torch.tensor([[0, 1, 2, 3], [0, 0, 0, 0]])}, "expected 0..2"),
        ({"tokens": torch.tensor([[0, 1, 2, -1], [0, 0, 0, 0]])}, "from -1"),
        ({"labels": torch.tensor([[2, 3], [1, IGNORE]])}, "label 3"),
        ({"labels": torch.tensor([[2, -1], [1, IGNORE]])}, "label -1"),
        ({"splits": {"train": torch.tensor([0])}}, "test split is empty"),
        (
            {"splits": {"train": torch.tensor([], dtype=torch.long), "test": torch.tensor([1])}},
            "train",
        ),
    ],
)
def test_rows_no_model_could_use_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        several_answers(**changes)


def test_brute_force_itself_can_fail() -> None:
    """Planted: one wrong label is seen by the oracle of the table test."""
    task = make(n=5)
    wrong = task.labels.clone()
    wrong[7] = (wrong[7] + 1) % 5
    pairs = itertools.product(range(5), repeat=2)
    seen = [
        right_answers("add", a, b, 5) == {c}
        for (a, b), c in zip(pairs, wrong[:, 0].tolist(), strict=True)
    ]
    assert seen.count(False) == 1
    assert not seen[7]
