"""Cross-entropy and accuracy on every split, over all output classes ("=" included), in float64.

Nanda et al. 2023 (arXiv 2301.05217), section 3: the loss is taken in float64, because float32
rounds losses below 6e-8 to exactly 0; the released code casts to float32 in spite of its comment.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechgrok.measures._modular import Subject, report
from mechgrok.runs.result import NotApplicable, Result, Value

SUBJECT: Final = "checkpoint"
CHUNK: Final = 8192
"""Rows judged at once; bounds the memory of float64 softmaxes, changes no number."""


@dataclass(frozen=True)
class Losses:
    """By split name, 'all' included; answers a row does not have are left out of every mean."""

    loss: Mapping[str, float]
    """Mean cross-entropy in nats, float64."""
    accuracy: Mapping[str, float]
    """Fraction of answers whose largest logit is the right one."""
    zero_share: Mapping[str, float]
    """Fraction of answers whose float64 loss is exactly 0."""
    zero_share_float32: Mapping[str, float]
    """Fraction of answers whose float32 loss is exactly 0, which stops their gradient there."""
    margin: Mapping[str, float]
    """Mean of right logit minus largest other; negative where most answers are wrong."""


def row_losses(
    logits: Float[Tensor, "... classes"], labels: Int[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """Cross-entropy of every row in nats, in the dtype of the logits."""
    return -logits.log_softmax(dim=-1).gather(-1, labels[..., None])[..., 0]


def judge(
    logits: Float[Tensor, "rows classes"], labels: Int[Tensor, " rows"]
) -> tuple[float, float]:
    """(mean cross-entropy in nats by float64, fraction answered right)."""
    loss, right = 0.0, 0
    for part, label in zip(logits.split(CHUNK), labels.split(CHUNK), strict=True):
        loss += float(row_losses(part.double(), label).sum())
        right += int((part.argmax(dim=1) == label).sum())
    return loss / len(labels), right / len(labels)


def margins(
    logits: Float[Tensor, "... classes"], labels: Int[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """Right logit minus the largest other one, of every row; inf where there is one class."""
    right = logits.gather(-1, labels[..., None])
    others = logits.scatter(-1, labels[..., None], -torch.inf)
    return (right[..., 0] - others.amax(dim=-1)).double()


def losses(
    logits: Float[Tensor, "rows ... classes"],
    labels: Int[Tensor, "rows ..."],
    splits: Mapping[str, Int[Tensor, " _"]] | None = None,
) -> Losses:
    """Loss and accuracy on every split and on all rows; negative labels are ignored.

    Raises ValueError for a split without any answer.
    """
    present = labels >= 0
    right = labels.clamp(min=0)
    loss = row_losses(logits.double(), right)
    rows = {**(splits or {}), "all": torch.arange(len(labels), device=labels.device)}
    per_answer = {
        "loss": loss,
        "accuracy": (logits.argmax(dim=-1) == right).double(),
        "zero_share": (loss == 0).double(),
        "zero_share_float32": (row_losses(logits.float(), right) == 0).double(),
        "margin": margins(logits, right),
    }
    return Losses(
        **{
            name: {split: _mean(x, present, rows[split], split) for split in rows}
            for name, x in per_answer.items()
        }
    )


def _mean(
    x: Float[Tensor, "rows ..."],
    present: Bool[Tensor, "rows ..."],
    rows: Int[Tensor, " _"],
    split: str,
) -> float:
    chosen = x[rows][present[rows]]
    if chosen.numel() == 0:
        raise ValueError(f"split {split!r} has no answers; leave it out of splits")
    return float(chosen.mean())


def measure(checkpoint: Subject) -> Result:
    """Loss, accuracy and share of exactly-zero losses on train, test and all rows. No options."""
    task = checkpoint.task
    logits = checkpoint.answer_logits
    splits = {name: rows.to(logits.device) for name, rows in task.splits.items() if len(rows)}
    found = losses(logits, task.labels.to(logits.device), splits)
    values: dict[str, Value] = {}
    for split in ("test", "train", "all", *(set(splits) - {"train", "test"})):
        for name, by_split in vars(found).items():
            absent = NotApplicable(f"split {split!r} is empty")
            values[f"{split}_{name}"] = by_split.get(split, absent)
    return report("losses", checkpoint, values, definition=DEFINITION)


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "mean cross-entropy at the answer positions over all output classes, '=' included",
    "centring": "none",
    "split": "as named: train, test, all",
    "dtype": "log-softmax in float64; zero_share_float32 in float32",
    "selection": "none",
}
