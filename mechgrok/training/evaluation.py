"""Loss and accuracy of a model on a task's splits."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mechgrok.config import CrossEntropy
from mechgrok.training import losses
from mechgrok.training.losses import Batch, Loss

CHUNK = 16_384
"""Rows evaluated at once; bounds memory, and changes no reported digit of a mean in float64."""


def evaluate(model: nn.Module, task: Any, loss: Loss, split: str, device: str) -> dict[str, float]:
    """Mean of every per-row part of the loss over a split, in eval mode, without gradients.

    Raises ValueError for a split the task does not have.
    """
    return _means(_parts(model, task, loss, split, device))


def evaluate_splits(model: nn.Module, task: Any, loss: Loss, device: str) -> dict[str, float]:
    """train_loss, test_loss, train_acc and test_acc (fractions), and more where there is more.

    A task says under which names which splits are watched (`Rows.watched`): usually train and test
    themselves, but a long training set may be watched on a sample, and further splits beside. A
    task of several answers adds those of the first one (`test_answer_loss`, `test_answer_acc`); a
    task with the tag `twin_in_train` adds `test_acc_twin` and `test_acc_no_twin`: accuracy on test
    rows (a, b) whose swapped twin (b, a) is, or is not, trained on, each where such rows exist.
    """
    parts = {name: _parts(model, task, loss, split, device) for name, split in task.watched.items()}
    means = {name: _means(found) for name, found in parts.items()}
    names = {"loss": "loss", "correct": "acc"}
    names |= {"answer_loss": "answer_loss", "answer_correct": "answer_acc"}
    names |= {"halt_loss": "halt_loss"}
    columns = {
        f"{name}_{short}": means[name][part]
        for part, short in names.items()
        for name in task.watched
        if part in means[name]
    }
    return columns | _by_twin(task, torch.cat(parts["test"]["correct"]).cpu())


def _by_twin(task: Any, correct: Float[Tensor, " test"]) -> dict[str, float]:
    if "twin_in_train" not in task.tags:
        return {}
    twin = task.tags["twin_in_train"][task.splits["test"]].bool()
    kinds = {"test_acc_twin": correct[twin], "test_acc_no_twin": correct[~twin]}
    return {name: float(kind.mean()) for name, kind in kinds.items() if len(kind)}


def _parts(
    model: nn.Module, task: Any, loss: Loss, split: str, device: str
) -> dict[str, list[Float[Tensor, " _"]]]:
    """Every per-row part of the loss over a split, in chunks of which the last may be shorter."""
    if split not in task.splits:
        raise ValueError(f"unknown split {split!r}; the task has {sorted(task.splits)}")
    quiet = torch.Generator(device).manual_seed(0)
    found: dict[str, list[Tensor]] = {}
    with evaluating(model), torch.no_grad():
        for chunk in task.splits[split].split(CHUNK):
            _, parts = loss(model, Batch.of(task, chunk, device), quiet)
            for name, part in parts.items():
                found.setdefault(name, []).append(part.double())
    return found


def _means(parts: Mapping[str, list[Float[Tensor, " _"]]]) -> dict[str, float]:
    return {
        name: sum(float(chunk.sum()) for chunk in chunks) / sum(map(len, chunks))
        for name, chunks in parts.items()
    }


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside, and the mode before it afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def evaluate_model(model: nn.Module, task: Any, split: str = "test") -> dict[str, float]:
    """Loss (float64 cross-entropy) and accuracy (`correct`, fraction) of any model on a split.

    Raises ValueError for a split the task does not have.
    """
    device = str(next(model.parameters()).device)
    return evaluate(model, task, losses.make(CrossEntropy()), split, device)
