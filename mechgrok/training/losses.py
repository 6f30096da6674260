"""Losses: `loss(model, batch, generator) -> (scalar, {name: per-row tensor})`.

The per-row parts are what evaluation averages: every loss gives `loss` and `correct`, and may give
more (a halting term, say).
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechgrok.config import ConfigError, CrossEntropy, HaltingCrossEntropy, LossConfig
from mechgrok.models.shared_prefix import at_own_positions, row_logits
from mechgrok.models.trm import HookedTRM
from mechgrok.models.trm_fast import segments

IGNORE = -100
"""Label of an answer position that a row does not use."""
FLOOR = 1e-30
"""Probabilities below it, over the largest, have no gradient: in float32 theirs would be subnormal,
which makes the matrix products that read it several times slower."""


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


def make(config: LossConfig) -> Loss:
    """The loss of a config. Raises ConfigError for an unknown name."""
    names = ["cross_entropy", "halting_cross_entropy"]
    if config.name not in names:
        raise ConfigError(f"loss.name = {config.name!r}; expected one of {names}")
    return _plain(config) if isinstance(config, CrossEntropy) else _halting(config)


def _plain(config: CrossEntropy) -> Loss:
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
    losses, present = answer_losses(logits, labels, softmax_losses if in_float64 else _in_float32)
    return losses.sum() / present.sum(), _parts(losses, present, logits, labels)


PerAnswer = Callable[[Float[Tensor, "n classes"], Int[Tensor, " n"]], Float[Tensor, " n"]]


def answer_losses(
    logits: Float[Tensor, "rows n_answers d_vocab_out"],
    labels: Int[Tensor, "rows n_answers"],
    of: PerAnswer,
) -> tuple[Float[Tensor, "rows n_answers"], Bool[Tensor, "rows n_answers"]]:
    """Loss of every answer, 0 where there is none, and where there are some.

    Raises ValueError when no row has an answer.
    """
    present = labels != IGNORE
    if not bool(present.any()):
        raise ValueError("no row of the batch has an answer; every label is IGNORE")
    targets = torch.where(present, labels, 0).flatten()
    return of(logits.flatten(0, 1), targets).unflatten(0, labels.shape) * present, present


def _parts(
    losses: Float[Tensor, "rows n_answers"],
    present: Bool[Tensor, "rows n_answers"],
    logits: Float[Tensor, "rows n_answers d_vocab_out"],
    labels: Int[Tensor, "rows n_answers"],
) -> dict[str, Tensor]:
    right = (logits.argmax(-1) == labels) | ~present
    per_row = losses.sum(1) / present.sum(1).clamp(min=1)
    parts = {"loss": per_row.detach(), "correct": right.all(1).to(losses.dtype)}
    if labels.shape[1] > 1:
        first = present.int().argmax(dim=1, keepdim=True)
        parts["answer_loss"] = losses.detach().gather(1, first)[:, 0]
        parts["answer_correct"] = right.gather(1, first)[:, 0].to(losses.dtype)
    return parts


def check(config: LossConfig, model: Any) -> None:
    """Raise ConfigError for a halting term without a halting head."""
    if isinstance(config, HaltingCrossEntropy):
        if not 0 <= config.halt_weight < math.inf:
            raise ConfigError(f"loss.halt_weight = {config.halt_weight}; expected at least 0")
        if config.halt_weight and not isinstance(model, HookedTRM):
            raise ConfigError(
                f"a {type(model).__name__} has no halting head; set loss.halt_weight to 0, or "
                "model.name to trm"
            )


def _halting(config: HaltingCrossEntropy) -> Loss:
    """The mean over rows, and over the passes each of them takes, of both terms."""
    of = stablemax_losses if config.probabilities == "stablemax" else softmax_losses
    dtype = getattr(torch, config.dtype)

    def loss(
        model: Any, batch: Batch, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], Parts]:
        totals, counts, parts = [], [], {}
        for logits, halt, active in passes(model, batch, generator):
            losses, present = answer_losses(logits.to(dtype), batch.labels, of)
            parts = _parts(losses, present, logits, batch.labels)
            terms = losses.sum(1) / present.sum(1).clamp(min=1)
            if halt is not None:
                asked = halt[:, 0].to(losses.dtype)
                right = parts["correct"]
                surprise = F.binary_cross_entropy_with_logits(asked, right, reduction="none")
                terms = terms + config.halt_weight * surprise
                parts["halt_loss"] = surprise.detach()
            totals.append((terms * active).sum())
            counts.append(active.sum())
        return torch.stack(totals).sum() / torch.stack(counts).sum(), parts

    return loss


def passes(
    model: Any, batch: Batch, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor | None, Tensor]]:
    """(logits at each row's own answers, halting logits if there are any, rows that still run)."""
    if isinstance(model, HookedTRM):
        for found in segments(model, batch.tokens, batch.positions, generator):
            own = at_own_positions(found.logits, batch.answer_positions, batch.positions)
            yield own, found.halt, found.active
    else:
        logits = read_logits(model, batch, generator)
        yield logits, None, torch.ones_like(batch.labels[:, 0], dtype=torch.bool)


def softmax_losses(
    logits: Float[Tensor, "n classes"], labels: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """-log softmax(logits)[label], in float64."""
    return Surprisal.apply(logits, labels)


def _in_float32(
    logits: Float[Tensor, "n classes"], labels: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    return F.cross_entropy(logits, labels, reduction="none")


def stablemax_losses(
    logits: Float[Tensor, "n classes"], labels: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """-log s(logit of the label) / sum of s(logits), of StableMax (arXiv 2501.04697, eq. 8)."""
    s = stablemax_scores(logits)
    return s.sum(1).log() - s.gather(1, labels[:, None])[:, 0].log()


def stablemax_scores(logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """x + 1 for x >= 0, 1 / (1 - x) for x < 0."""
    size = logits.abs() + 1  # at least 1, so that no branch divides by 0, also in its gradient
    return torch.where(logits >= 0, size, 1 / size)


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
        total = F.threshold(powers.exp_(), FLOOR, 0.0, inplace=True).sum(1, keepdim=True)
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
