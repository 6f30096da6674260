"""Losses: `loss(model, batch, generator) -> (scalar, {name: per-row tensor})`.

The per-row parts are what evaluation averages: every loss gives `loss` and `correct`, and may give
more (a halting term, say).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mechgrok.config import ConfigError, CrossEntropy
from mechgrok.models.shared_prefix import row_logits

IGNORE = -100
"""Label of an answer position that a row does not use."""


@dataclass(frozen=True)
class Batch:
    """Rows to learn from."""

    tokens: Int[Tensor, "rows n_ctx"]
    """Inputs."""
    answer_positions: Int[Tensor, "rows n_answers"]
    """Positions whose logits are read."""
    labels: Int[Tensor, "rows n_answers"]
    """Right answers, IGNORE where a row has none."""
    positions: tuple[int, ...]
    """Every answer position that occurs, in order."""

    @classmethod
    def of(cls, task: Any, rows: Int[Tensor, " rows"], device: str) -> "Batch":
        """The given rows of a task."""
        at = task.answer_positions[rows]
        positions = tuple(torch.unique(at).tolist())
        tensors = (task.tokens[rows], at, task.labels[rows])
        return cls(*(t.to(device) for t in tensors), positions=positions)


Parts = Mapping[str, Float[Tensor, " rows"]]
Loss = Callable[[Any, Batch, torch.Generator], tuple[Float[Tensor, ""], Parts]]


def make(config: CrossEntropy) -> Loss:
    """The loss of a config. Raises ConfigError for an unknown name."""
    if config.name != "cross_entropy":
        raise ConfigError(f"loss.name = {config.name!r}; expected cross_entropy")
    in_float64 = config.dtype == "float64"

    def loss(
        model: Any, batch: Batch, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], Parts]:
        return cross_entropy(read_logits(model, batch, generator), batch.labels, in_float64)

    return loss


def cross_entropy(
    logits: Float[Tensor, "rows n_answers d_vocab_out"],
    labels: Int[Tensor, "rows n_answers"],
    in_float64: bool = True,
) -> tuple[Float[Tensor, ""], Parts]:
    """Mean cross-entropy over all answers; per row its mean loss and whether every answer is right.

    Rows of several answers also get the loss of their first and whether that one is right:
    openai/grok averages the answer with the closing eos, which halves the loss of the answer.
    Raises ValueError when no row has an answer.
    """
    present = labels != IGNORE
    if not bool(present.any()):
        raise ValueError("no row of the batch has an answer; every label is IGNORE")
    safe = torch.where(present, labels, 0)
    flat, targets = logits.flatten(0, 1), safe.flatten()
    if in_float64:
        losses = Surprisal.apply(flat, targets)
    else:
        losses = F.cross_entropy(flat, targets, reduction="none")
    losses = losses.unflatten(0, labels.shape) * present
    right = (logits.argmax(-1) == labels) | ~present
    per_row = losses.sum(1) / present.sum(1).clamp(min=1)
    scalar = losses.sum() / present.sum()
    parts = {"loss": per_row.detach(), "correct": right.all(1).to(losses.dtype)}
    if labels.shape[1] > 1:
        first = present.int().argmax(dim=1, keepdim=True)
        parts["answer_loss"] = losses.detach().gather(1, first)[:, 0]
        parts["answer_correct"] = right.gather(1, first)[:, 0].to(losses.dtype)
    return scalar, parts


def read_logits(
    model: Any, batch: Batch, generator: torch.Generator | None = None
) -> Float[Tensor, "rows n_answers d_vocab_out"]:
    """Logits at each row's own answer positions; noise in training is drawn from `generator`."""
    return row_logits(model, batch.tokens, batch.answer_positions, batch.positions, generator)


class Surprisal(torch.autograd.Function):
    """-log softmax(logits)[label] in float64, keeping the exponentials for the backward pass.

    float32 rounds a loss below 6e-8 to exactly 0 and its gradient with it (Prieto et al. 2025,
    arXiv 2501.04697, call it softmax collapse); grokking happens well below that.
    """

    @staticmethod
    def forward(  # noqa: D102 (torch's own)
        ctx: Any, logits: Float[Tensor, "n classes"], labels: Int[Tensor, " n"]
    ) -> Float[Tensor, " n"]:
        powers = logits.to(torch.float64, copy=True).sub_(logits.amax(1, keepdim=True))
        own = powers.gather(1, labels[:, None])
        total = powers.exp_().sum(1, keepdim=True)
        ctx.save_for_backward(powers, total, labels, logits)
        return (total.log() - own)[:, 0]

    @staticmethod
    def backward(  # noqa: D102  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Float[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n classes"], None]:
        powers, total, labels, logits = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is asked for: it goes through the logits
            powers = (logits.double() - logits.detach().amax(1, keepdim=True)).exp()
            total = powers.sum(1, keepdim=True)
        scale = grad[:, None] / total
        own = powers.gather(1, labels[:, None]) * scale - grad[:, None]  # in float64: it cancels
        if torch.is_grad_enabled():
            return (powers * scale).scatter(1, labels[:, None], own).to(logits.dtype), None
        gradient = torch.mul(powers, scale, out=torch.empty_like(logits))
        return gradient.scatter_(1, labels[:, None], own.to(logits.dtype)), None
