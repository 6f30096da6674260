"""Loss and accuracy of a model on a task's splits."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from mechgrok.config import CrossEntropy
from mechgrok.training import losses
from mechgrok.training.losses import Batch, Loss

CHUNK = 16_384
"""Rows evaluated at once; bounds memory, and changes no reported digit of a mean in float64."""


def evaluate(model: nn.Module, task: Any, loss: Loss, split: str, device: str) -> dict[str, float]:
    """Mean of every per-row part of the loss over a split, in eval mode, without gradients.

    Raises ValueError for a split the task does not have.
    """
    if split not in task.splits:
        raise ValueError(f"unknown split {split!r}; the task has {sorted(task.splits)}")
    rows = task.splits[split]
    quiet = torch.Generator(device).manual_seed(0)
    totals: dict[str, float] = {}
    with _evaluating(model), torch.no_grad():
        for chunk in rows.split(CHUNK):
            _, parts = loss(model, Batch.of(task, chunk, device), quiet)
            for name, part in parts.items():
                totals[name] = totals.get(name, 0.0) + float(part.double().sum())
    return {name: total / len(rows) for name, total in totals.items()}


def evaluate_splits(model: nn.Module, task: Any, loss: Loss, device: str) -> dict[str, float]:
    """train_loss, test_loss, train_acc and test_acc (fractions)."""
    found: dict[str, Mapping[str, float]] = {
        split: evaluate(model, task, loss, split, device) for split in ("train", "test")
    }
    names = {"loss": "loss", "correct": "acc"}
    return {
        f"{split}_{short}": found[split][part]
        for part, short in names.items()
        for split in ("train", "test")
    }


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
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
