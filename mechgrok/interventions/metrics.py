"""What an intervention is judged by: one number per row, from the logits at the answer.

`logit_diff` is the default for patching, `correct_minus_mean` for attribution; both are linear in
the logits. Loss and accuracy saturate on a grokked model: its gradient vanishes where p(right) is
near 1, although exact effects are large, so differentiating one there is warned about.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

SURE: Final = 0.999
"""A row is saturated when the right answer has more than this probability."""
SATURATED_SHARE: Final = 0.5
"""Share of saturated rows from which a gradient of the metric is warned about."""

Logits = Float[Tensor, "batch classes"]
Labels = Int[Tensor, " batch"]
PerRow = Float[Tensor, " batch"]


class SaturatedMetric(UserWarning):
    """A gradient was taken of a metric that hardly changes any more."""


def right_logit(logits: Logits, labels: Labels) -> PerRow:
    """Logit of the right answer."""
    return logits.gather(1, labels[:, None])[:, 0]


def correct_minus_mean(logits: Logits, labels: Labels) -> PerRow:
    """Logit of the right answer minus the mean over classes; linear in the logits."""
    return right_logit(logits, labels) - logits.mean(dim=1)


def loss(logits: Logits, labels: Labels) -> PerRow:
    """Cross-entropy in nats, in float64: float32 rounds losses below 6e-8 to 0."""
    return -right_logit(logits.double().log_softmax(dim=1), labels)


def accuracy(logits: Logits, labels: Labels) -> PerRow:
    """1 where the largest logit is the right one, else 0."""
    return (logits.argmax(dim=1) == labels).to(logits.dtype)


def margin(logits: Logits, labels: Labels) -> PerRow:
    """Logit of the right answer minus the largest other one; above 0 where the answer is right."""
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return right_logit(logits, labels) - others.amax(dim=1)


ONE_ANSWER: Final[Mapping[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "correct_minus_mean": correct_minus_mean,
    "loss": loss,
    "accuracy": accuracy,
    "margin": margin,
}
SATURATING: Final = ("loss", "accuracy")


@dataclass(frozen=True, eq=False)
class Metric:
    """A named metric with its answers; call it on a model's logits, as any metric of a patch.

    Declaring where it reads lets patches that cannot reach that position be skipped.
    """

    name: str
    """logit_diff or a key of ONE_ANSWER."""
    labels: Labels
    """Right answers (those of the clean rows)."""
    against: Labels | None = None
    """For logit_diff: answers of the corrupted rows."""
    position: int = -1
    """Position whose logits are read."""
    classes: int | None = None
    """Only the first so many classes count; None for all ("=" included, where it is a class)."""

    def rows(self, logits: Logits) -> PerRow:
        """The metric of every row, from the logits at its position."""
        self._check(logits)
        kept = logits[:, : self.classes]
        if self.against is not None:
            return right_logit(kept, self.labels) - right_logit(kept, self.against)
        return ONE_ANSWER[self.name](kept, self.labels)

    def __call__(self, logits: Float[Tensor, "batch pos classes"]) -> Float[Tensor, ""]:
        """Mean over rows. Warns with SaturatedMetric when a gradient of it would say little."""
        read = logits[:, self.position]
        if read.requires_grad and self.name in SATURATING:
            warn_if_saturated(read.detach(), self.labels, self.name)
        return self.rows(read).mean()

    def _check(self, logits: Tensor) -> None:
        if len(logits) != len(self.labels):
            raise ValueError(f"got {len(logits)} rows of logits for {len(self.labels)} labels")


def metric(
    name: str,
    labels: Labels,
    against: Labels | None = None,
    *,
    position: int = -1,
    classes: int | None = None,
) -> Metric:
    """A metric by name: logit_diff, correct_minus_mean, loss, accuracy or margin.

    logit_diff is the logit of the clean answer (`labels`) minus that of the corrupted one
    (`against`). Raises ValueError for an unknown name, and for logit_diff without a second answer
    or with one that is the same.
    """
    if name not in ("logit_diff", *ONE_ANSWER):
        raise ValueError(f"unknown metric {name!r}; expected logit_diff or one of {[*ONE_ANSWER]}")
    if name == "logit_diff":
        if against is None or against.shape != labels.shape:
            raise ValueError("logit_diff needs the corrupted rows' answers too: against=labels[..]")
        same = int((against == labels).sum())
        if same == len(labels):
            raise ValueError("every corrupted answer equals the clean one; logit_diff is 0")
    return Metric(name, labels, against if name == "logit_diff" else None, position, classes)


def saturated_share(logits: Logits, labels: Labels) -> float:
    """Share 0..1 of rows whose right answer has probability above .999."""
    return float((loss(logits, labels).neg().exp() > SURE).double().mean())


def warn_if_saturated(logits: Logits, labels: Labels, name: str = "loss") -> None:
    """Warn with SaturatedMetric when at least half of the rows are saturated."""
    share = saturated_share(logits, labels)
    if share >= SATURATED_SHARE:
        warnings.warn(
            f"{share:.0%} of the rows have p(right) > {SURE}: a gradient of the {name} says little "
            f"about its effects; differentiate logit_diff or correct_minus_mean",
            SaturatedMetric,
            stacklevel=3,
        )
