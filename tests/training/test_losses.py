"""The loss is torch's own in float64, for any number of answers a row."""

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mechgrok.config import (
    BinaryTask,
    ConfigError,
    CrossEntropy,
    HaltingCrossEntropy,
    Seeds,
    TransformerModel,
    TRMModel,
)
from mechgrok.models import trm
from mechgrok.models.transformer import build
from mechgrok.tasks._rows import IGNORE as ROWS_IGNORE
from mechgrok.tasks._rows import Rows
from mechgrok.tasks.binary import Task
from mechgrok.training.evaluation import evaluate, evaluate_splits
from mechgrok.training.losses import (
    IGNORE,
    Batch,
    Parts,
    Surprisal,
    check,
    cross_entropy,
    make,
    read_logits,
    stablemax_losses,
    stablemax_scores,
)


def random_logits(seed: int, *shape: int, scale: float = 3.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999),
    rows=st.integers(1, 20),
    classes=st.integers(1, 9),
    scale=st.sampled_from([0.0, 1.0, 30.0, 1e4]),
    double=st.booleans(),
)
def test_surprisal_is_float64_cross_entropy(
    seed: int, rows: int, classes: int, scale: float, double: bool
) -> None:
    dtype = torch.float64 if double else torch.float32
    logits = random_logits(seed, rows, classes, scale=scale).to(dtype).requires_grad_()
    labels = torch.randint(classes, (rows,), generator=torch.Generator().manual_seed(seed))
    weights = random_logits(seed + 1, rows).double()
    ours = Surprisal.apply(logits, labels)
    torchs = F.cross_entropy(logits.double(), labels, reduction="none")
    assert ours.dtype == torch.float64
    # float64 rounding, of terms up to the largest loss
    torch.testing.assert_close(ours, torchs, rtol=1e-12, atol=1e-12)
    (found,) = torch.autograd.grad((ours * weights).sum(), logits)
    (expected,) = torch.autograd.grad((torchs * weights).sum(), logits)
    assert found.dtype == dtype
    # float32 gradients are the float64 ones, rounded once: half a unit in the last place
    bound = 1e-12 if double else 2.0**-23
    torch.testing.assert_close(found, expected, rtol=bound, atol=1e-12)


def test_no_gradient_is_subnormal() -> None:
    """Processors take a hundred times as long over them; a grokked model's logits are full of them
    (margins of 60 to 100 nats)."""
    logits = torch.linspace(-110, 0, 221)[None].requires_grad_()
    loss = Surprisal.apply(logits, torch.tensor([220])).sum() / 1_000  # as a mean over rows
    (found,) = torch.autograd.grad(loss, logits)
    small = found.abs() < torch.finfo(torch.float32).tiny
    assert bool((found[small] == 0).all())
    expected = logits.detach().double().softmax(1) / 1_000
    expected[0, 220] -= 1e-3
    kept = expected > 1.1e-33
    torch.testing.assert_close(found.double()[kept], expected[kept], rtol=1e-6, atol=0)
    assert int(small.sum()) < 90  # those beyond 69 nats, not more


def test_the_gradient_is_the_derivative() -> None:
    logits = random_logits(0, 5, 4).double().requires_grad_()
    labels = torch.tensor([0, 1, 2, 3, 0])
    assert torch.autograd.gradcheck(lambda x: Surprisal.apply(x, labels), (logits,))


def test_second_derivatives_are_right_too() -> None:
    """The curvature of a loss behind a model, as sharpness and Hessian measures ask for it."""
    weights = random_logits(0, 4, 3).double()
    labels = torch.tensor([0, 1, 2, 3, 0])
    inputs = random_logits(1, 5, 3).double()

    def curvature(loss: Any) -> Tensor:
        return torch.autograd.functional.hessian(
            lambda w: loss((inputs @ w.T).tanh()).sum(), weights
        )

    ours = curvature(lambda logits: Surprisal.apply(logits, labels))
    torchs = curvature(lambda logits: F.cross_entropy(logits, labels, reduction="none"))
    torch.testing.assert_close(ours, torchs, rtol=1e-12, atol=1e-12)  # float64 rounding


def test_the_gradient_survives_where_float32_rounds_it_away() -> None:
    # margin 40: the loss is e^-40 = 4e-18, its gradient too; float32 sums 1 + 4e-18 to 1
    logits = torch.tensor([[[40.0, 0.0]]], requires_grad=True)
    labels = torch.tensor([[0]])
    (in_float32,) = torch.autograd.grad(cross_entropy(logits, labels, in_float64=False)[0], logits)
    assert in_float32[0, 0, 0] == 0
    loss, _ = cross_entropy(logits, labels)
    (in_float64,) = torch.autograd.grad(loss, logits)
    # float64 loses 1 + e^-40 as well, but the other class keeps its own e^-40
    assert float(in_float64[0, 0, 1]) == pytest.approx(4.248354255291589e-18, rel=1e-6)
    margin = torch.tensor([[[20.0, 0.0]]], requires_grad=True)
    loss, _ = cross_entropy(margin, labels)
    (gradient,) = torch.autograd.grad(loss, margin)
    assert float(loss.detach()) == pytest.approx(2.061153620314381e-09, rel=1e-6)  # log(1 + e^-20)
    assert float(gradient[0, 0, 0]) == pytest.approx(-2.061153618190204e-09, rel=1e-6)


@pytest.mark.parametrize("in_float64", [True, False])
def test_answers_are_averaged_and_rows_are_reported(in_float64: bool) -> None:
    logits = random_logits(2, 4, 3, 5).requires_grad_()
    labels = torch.tensor([[1, 2, 3], [0, IGNORE, IGNORE], [4, IGNORE, 0], [IGNORE, 1, 1]])
    scalar, parts = cross_entropy(logits, labels, in_float64)
    by_hand = {
        (row, answer): float(
            F.cross_entropy(logits.detach()[row, answer].double(), labels[row, answer])
        )
        for row in range(4)
        for answer in range(3)
        if labels[row, answer] != IGNORE
    }
    tolerance = 1e-12 if in_float64 else 1e-6  # of the dtype of the log-softmax
    assert float(scalar.detach()) == pytest.approx(sum(by_hand.values()) / 8, rel=tolerance)
    for row in range(4):
        own = [value for (r, _), value in by_hand.items() if r == row]
        assert float(parts["loss"][row]) == pytest.approx(sum(own) / len(own), rel=tolerance)
    best = logits.argmax(-1)
    right = [
        all(best[r, a] == labels[r, a] for a in range(3) if labels[r, a] != IGNORE)
        for r in range(4)
    ]
    assert parts["correct"].bool().tolist() == right
    (gradient,) = torch.autograd.grad(scalar, logits)
    assert not gradient[labels == IGNORE].any()
    assert gradient[labels != IGNORE].all()


def test_a_row_is_right_only_if_every_answer_is() -> None:
    logits = torch.eye(3)[None]  # answers 0, 1, 2 at the three positions
    for labels, right in [
        ([0, 1, 2], 1.0),
        ([0, 1, 1], 0.0),
        ([0, IGNORE, 2], 1.0),
        ([1, IGNORE, 2], 0.0),
    ]:
        assert cross_entropy(logits, torch.tensor([labels]))[1]["correct"].tolist() == [right]


def test_a_batch_without_any_answer_is_an_error() -> None:
    with pytest.raises(ValueError, match="no row of the batch has an answer"):
        cross_entropy(random_logits(0, 2, 1, 3), torch.full((2, 1), IGNORE))


def test_one_ignore_index() -> None:
    assert IGNORE == ROWS_IGNORE == torch.nn.CrossEntropyLoss().ignore_index


@dataclass(frozen=True, kw_only=True)
class Sequences(Rows):
    """A task with answers at each row's own positions."""


def sequences() -> Sequences:
    return Sequences(
        vocabulary=tuple("abcde"),
        tokens=torch.tensor([[0, 1, 2, 3], [4, 3, 2, 1], [0, 0, 1, 1]]),
        answer_positions=torch.tensor([[1, 2], [3, 3], [0, 3]]),
        labels=torch.tensor([[2, 0], [1, IGNORE], [4, 3]]),
        splits={
            "train": torch.tensor([0, 2]),
            "test": torch.tensor([1]),
            "probe": torch.tensor([0, 1, 2]),
        },
        d_vocab_out=5,
    )


def model(**fields: Any) -> Any:
    sizes = {"d_model": 8, "n_heads": 2, "d_head": 4, "d_mlp": 16, "dtype": "float64", **fields}
    return build(TransformerModel(**sizes), d_vocab=5, n_ctx=4, d_vocab_out=5, seed=0)


@pytest.mark.parametrize("n_layers", [1, 2])
def test_each_row_is_read_at_its_own_positions(n_layers: int) -> None:
    task, of = sequences(), model(n_layers=n_layers)
    batch = Batch.of(task, torch.arange(3), "cpu")
    assert batch.positions == (0, 1, 2, 3)
    everything = of(task.tokens)
    found = read_logits(of, batch)
    for row, positions in enumerate(task.answer_positions.tolist()):
        for answer, position in enumerate(positions):
            # the same sums in another order, in float64
            torch.testing.assert_close(
                found[row, answer], everything[row, position], rtol=1e-10, atol=1e-12
            )


def test_evaluation_is_the_mean_over_a_splits_rows() -> None:
    task, of, loss = sequences(), model(), make(CrossEntropy())
    of.train()
    found = evaluate(of, task, loss, "probe", "cpu")
    _, parts = loss(of, Batch.of(task, torch.arange(3), "cpu"), torch.Generator())
    assert found["loss"] == pytest.approx(float(parts["loss"].mean()), rel=1e-12)  # float64 sums
    assert found["correct"] == float(parts["correct"].mean())
    assert of.training  # as it was
    parts = ("loss", "acc", "answer_loss", "answer_acc")  # sequences have several answers
    assert set(evaluate_splits(of, task, loss, "cpu")) == {
        f"{split}_{part}" for split in ("train", "test") for part in parts
    }
    with pytest.raises(ValueError, match=r"unknown split 'validation'.*probe"):
        evaluate(of, task, loss, "validation", "cpu")


def test_accuracy_is_told_apart_by_the_swapped_twin() -> None:
    """A stand-in that knows exactly the rows whose twin is trained on: 1 beside 0."""
    task = Task.make(BinaryTask(n=5, frac_train=0.5), Seeds())
    knows = task.tags["twin_in_train"].bool()
    table = {tuple(row): bool(k) for row, k in zip(task.tokens.tolist(), knows, strict=True)}

    def loss(model: object, batch: Batch, chance: object) -> tuple[torch.Tensor, Parts]:
        correct = torch.tensor([float(table[tuple(row)]) for row in batch.tokens.tolist()])
        return correct.mean(), {"loss": correct, "correct": correct}

    found = evaluate_splits(torch.nn.Linear(1, 1), task, loss, "cpu")
    assert (found["test_acc_twin"], found["test_acc_no_twin"]) == (1.0, 0.0)
    assert 0 < found["test_acc"] < 1
    together = Task.make(BinaryTask(n=5, frac_train=0.5, split="symmetric"), Seeds())
    found = evaluate_splits(torch.nn.Linear(1, 1), together, loss, "cpu")
    assert "test_acc_twin" not in found, "no test row has its twin in training"
    assert found["test_acc_no_twin"] == found["test_acc"]


def test_rows_of_several_answers_tell_the_first_apart() -> None:
    logits = torch.tensor([[[4.0, 0], [4, 0]], [[4, 0], [0, 4]], [[4, 0], [0, 4]]])
    labels = torch.tensor([[0, 1], [0, 1], [IGNORE, 0]])
    _, parts = cross_entropy(logits, labels)
    assert parts["answer_correct"].tolist() == [1, 1, 0]  # the third row's first answer is its only
    assert parts["correct"].tolist() == [0, 1, 0]
    near, far = math.log1p(math.exp(-4)), math.log1p(math.exp(4))
    assert parts["answer_loss"].tolist() == pytest.approx([near, near, far])
    assert set(cross_entropy(logits[:, :1], labels[:2, :1].new_zeros(3, 1))[1]) == {
        "loss", "correct",
    }  # fmt: skip


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task.make(BinaryTask(n=5, frac_train=0.5), Seeds())
    of = build(
        TransformerModel(d_model=8, n_heads=2, d_head=4), d_vocab=6, n_ctx=3, d_vocab_out=6, seed=0
    )
    loss = make(CrossEntropy())
    whole = evaluate(of, task, loss, "test", "cpu")
    monkeypatch.setattr("mechgrok.training.evaluation.CHUNK", 4)
    pieces = evaluate(of, task, loss, "test", "cpu")
    assert pieces["correct"] == whole["correct"]
    assert pieces["loss"] == pytest.approx(whole["loss"], rel=1e-6)  # float32 logits, other sums


def test_an_unknown_loss_is_an_error() -> None:
    with pytest.raises(ConfigError, match="expected one of.*cross_entropy"):
        make(CrossEntropy(name="mse"))


def test_stablemax_has_both_branches_and_sums_to_one() -> None:
    logits = torch.tensor([[-3.0, -0.5, 0.0, 1.0, 9.0]]).double()
    assert stablemax_scores(logits).tolist() == [[1 / 4, 1 / 1.5, 1.0, 2.0, 10.0]]
    shares = torch.stack([(-stablemax_losses(logits, torch.tensor([i]))).exp() for i in range(5)])
    assert float(shares.sum()) == pytest.approx(1, abs=1e-14)
    assert float(shares[4]) == pytest.approx(10 / (1 / 4 + 1 / 1.5 + 13))
    random = random_logits(0, 4, 5).double().requires_grad_()
    labels = torch.tensor([0, 1, 2, 3])
    assert torch.autograd.gradcheck(lambda x: stablemax_losses(x, labels), (random,))
    at_one = torch.ones(1, 2, dtype=torch.float64, requires_grad=True)  # where 1 - x is 0
    (found,) = torch.autograd.grad(stablemax_losses(at_one, torch.tensor([0])).sum(), at_one)
    assert found.tolist() == [[-0.25, 0.25]]  # 1/4 - 1/2, and 1/4: s is 2 for both, s' is 1


@pytest.mark.parametrize("probabilities", ["softmax", "stablemax"])
def test_the_halting_loss_is_row_means_and_half_the_surprise(probabilities: Any) -> None:
    task = sequences()
    of = trm.build(
        TRMModel(d_model=8, dtype="float64"), d_vocab=5, n_ctx=4, d_vocab_out=5, seed=0
    ).eval()
    batch = Batch.of(task, torch.arange(3), "cpu")
    config = HaltingCrossEntropy(probabilities=probabilities)
    scalar, parts = make(config)(of, batch, torch.Generator())
    everything, asked = of(task.tokens), of.unroll(task.tokens)[0].halt[:, 0]
    total, surprises = 0.0, []
    for row, (positions, labels) in enumerate(
        zip(task.answer_positions.tolist(), task.labels.tolist(), strict=True)
    ):
        own, right = [], True
        for at, label in zip(positions, labels, strict=True):
            if label == IGNORE:
                continue
            x = everything[row, at]
            scores = x.exp() if probabilities == "softmax" else stablemax_scores(x)
            own.append(-math.log(float((scores[label] / scores.sum()).detach())))
            right = right and int(x.argmax()) == label
        halt = 1 / (1 + math.exp(-float(asked[row].detach())))
        surprises.append(-math.log(halt if right else 1 - halt))
        total += sum(own) / len(own) + 0.5 * surprises[-1]
    assert float(scalar.detach()) == pytest.approx(total / 3, rel=1e-12)
    assert parts["halt_loss"].tolist() == pytest.approx(surprises, rel=1e-12)
    without = make(HaltingCrossEntropy(probabilities=probabilities, halt_weight=0.0))
    plain = float(without(of, batch, torch.Generator())[0].detach())
    assert plain == pytest.approx(total / 3 - sum(surprises) / 6, rel=1e-12)


def test_a_halting_term_needs_a_halting_head() -> None:
    with pytest.raises(ConfigError, match="no halting head; set loss.halt_weight to 0"):
        check(HaltingCrossEntropy(), model())
    check(HaltingCrossEntropy(halt_weight=0.0), model())
    task = sequences()
    batch = Batch.of(task, torch.arange(3), "cpu")
    loss = make(HaltingCrossEntropy("halting_cross_entropy", "softmax", 0.0))
    scalar, parts = loss(model(), batch, torch.Generator())
    assert float(scalar.detach()) == pytest.approx(float(parts["loss"].mean()), rel=1e-12)
    with pytest.raises(ConfigError, match="halt_weight = -1"):
        check(HaltingCrossEntropy(halt_weight=-1.0), model())
