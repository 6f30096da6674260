"""Restricted loss: cross-entropy when only the key frequencies' sum directions of the logits stay.

Nanda et al. 2023 (arXiv 2301.05217), section 5.1. Operator "10 directions": the logits are
projected on cos w_k(a+b), sin w_k(a+b) for the keys k (10 directions for 5 keys), and the mean over
all pairs of what was removed is added back per class (bias correction). On all pairs by default.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from jaxtyping import Float, Int
from torch import Tensor

from mechgrok.maths.fourier import check_pairs, sum_directions, sum_index, sum_means
from mechgrok.measures._modular import DoesNotApply, Pairs, Subject, report, sums, typed_absence
from mechgrok.measures.key_frequencies import KeyFrequencies, resolve_keys
from mechgrok.measures.losses import row_losses
from mechgrok.runs.result import NotApplicable, Result, Value

SUBJECT: Final = "checkpoint"


@dataclass(frozen=True)
class RestrictedLoss:
    """Loss and accuracy of the restricted logits; `float()` gives the loss on all pairs."""

    all: float
    """Mean cross-entropy over all pairs, nats."""
    accuracy: float
    """Fraction of all pairs answered right."""
    splits: Mapping[str, float]
    """Loss by split name."""
    split_accuracy: Mapping[str, float]
    """Accuracy by split name."""

    def __float__(self) -> float:
        return self.all


def restricted_logits(
    logits: Float[Tensor, "pairs p"], p: int, keys: Sequence[int], bias_correction: bool = True
) -> Float[Tensor, "p p"]:
    """Restricted logits of every pair with a + b = s, as row s; they depend on the sum alone."""
    kept = sum_directions(logits, p, keys)
    if not bias_correction:
        return kept
    return kept + sum_means(logits, p).mean(dim=0)  # the kept part has mean 0 over pairs


def restricted_loss(
    logits: Float[Tensor, "pairs p"],
    p: int,
    keys: Sequence[int],
    labels: Int[Tensor, " pairs"] | None = None,
    splits: Mapping[str, Int[Tensor, " _"]] | None = None,
) -> RestrictedLoss:
    """Loss of the logits restricted to 2 directions per key, with bias correction.

    Rows are all pairs a * p + b, classes the elements of Z_p; labels default to (a+b) mod p. Raises
    ValueError for an incomplete table, keys outside 1..p//2, or a split without rows.
    """
    check_table(logits, p)
    by_sum = sum_index(p, logits.device)
    right = by_sum if labels is None else labels
    kept = restricted_logits(logits.double(), p, keys)
    loss = -kept.log_softmax(dim=1)[by_sum, right]
    correct = (kept.argmax(dim=1)[by_sum] == right).double()
    return RestrictedLoss(
        all=float(loss.mean()),
        accuracy=float(correct.mean()),
        splits=split_means(loss, splits),
        split_accuracy=split_means(correct, splits),
    )


def check_table(logits: Float[Tensor, "pairs classes"], p: int) -> None:
    """Raise ValueError unless the logits are a complete p * p table over the classes 0..p-1."""
    check_pairs(logits.shape[0], p)
    if logits.shape[1] != p:
        raise ValueError(
            f"got {logits.shape[1]} classes, expected p={p}; drop the '=' class: logits[:, :{p}]"
        )


def split_means(
    x: Float[Tensor, " pairs"], splits: Mapping[str, Int[Tensor, " _"]] | None
) -> dict[str, float]:
    """Mean of x over the rows of every split; ValueError for a split without rows."""
    empty = [name for name, rows in (splits or {}).items() if len(rows) == 0]
    if empty:
        raise ValueError(f"got splits without rows: {empty}; leave them out")
    return {name: float(x[rows].mean()) for name, rows in (splits or {}).items()}


@typed_absence("restricted_loss", "all", "train", "test", "test_loss_over_restricted")
def measure(checkpoint: Subject, keys: str | Sequence[int] | KeyFrequencies = "final") -> Result:
    """Restricted loss on all pairs (headline), train and test, with accuracies and the ratio.

    Options: keys ("final", "own" or frequencies).
    """
    table = sums(checkpoint)
    freqs, rule = resolve_keys(checkpoint, keys)
    if not freqs:
        raise DoesNotApply(f"no key frequencies: {rule}")
    found = restricted_loss(table.logits, table.p, freqs, table.labels, table.splits)
    values: dict[str, Value] = {"all": found.all, **found.splits}
    values["test_loss_over_restricted"] = _ratio(table, found.all)
    values["all_accuracy"] = found.accuracy
    values |= {f"{split}_accuracy": x for split, x in found.split_accuracy.items()}
    values["keys"] = freqs
    return report("restricted_loss", checkpoint, values, {**DEFINITION, "selection": rule})


def _ratio(table: Pairs, restricted: float) -> float | NotApplicable:
    """Test loss over restricted loss: rises in circuit formation, near 1 after cleanup."""
    if restricted == 0:
        return NotApplicable("the restricted loss is exactly 0 in float64")
    test = row_losses(table.logits, table.labels)[table.splits["test"]].mean()
    return float(test) / restricted


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "10 directions: cos, sin w_k(a+b) of the keys; mean of the removed part added back",
    "centring": "none; softmax over the p classes, '=' dropped",
    "split": "all pairs; train and test beside it; the ratio takes the test loss over p classes",
    "dtype": "float64",
}
