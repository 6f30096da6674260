"""Excluded loss: cross-entropy with the keys' sum directions removed from the logits.

Nanda et al. 2023 (arXiv 2301.05217), section 5.1. Operator "2-D": cos w_k(a+b), sin w_k(a+b) are
projected out of the logits, for all keys at once (full) and for each key alone; no bias correction.
On the training split by default, where it shows memorisation giving way to the circuit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechgrok.maths.fourier import sum_directions, sum_index
from mechgrok.measures._modular import DoesNotApply, Subject, report, sums, typed_absence
from mechgrok.measures.key_frequencies import KeyFrequencies, resolve_keys
from mechgrok.measures.losses import row_losses
from mechgrok.measures.restricted_loss import check_table, split_means
from mechgrok.runs.result import Result, Value

SUBJECT: Final = "checkpoint"


@dataclass(frozen=True)
class ExcludedLoss:
    """Loss and accuracy without the keys; `float()` gives the loss on the judged split."""

    loss: float
    """Mean cross-entropy without all keys, on `split`, nats."""
    accuracy: float
    """Fraction answered right without all keys, on `split`."""
    per_key: Mapping[int, float]
    """Loss without this one key, on `split`."""
    per_key_accuracy: Mapping[int, float]
    """Accuracy without this one key, on `split`."""
    splits: Mapping[str, float]
    """Loss without all keys by split name, 'all' included."""
    split: str
    """The judged split: 'train', or 'all' when no train split was given."""

    def __float__(self) -> float:
        return self.loss


def excluded_logits(
    logits: Float[Tensor, "pairs p"], p: int, keys: Sequence[int]
) -> Float[Tensor, "pairs p"]:
    """Logits without the directions cos w_k(a+b), sin w_k(a+b) of the keys."""
    return logits - sum_directions(logits, p, keys)[sum_index(p, logits.device)]


def excluded_loss(
    logits: Float[Tensor, "pairs p"],
    p: int,
    keys: Sequence[int],
    labels: Int[Tensor, " pairs"] | None = None,
    splits: Mapping[str, Int[Tensor, " _"]] | None = None,
) -> ExcludedLoss:
    """Loss without all keys and without each key, on train (on all pairs if there is no train).

    Rows are all pairs a * p + b, classes the elements of Z_p; labels default to (a+b) mod p. Raises
    ValueError for an incomplete table, keys outside 1..p//2, or a split without rows.
    """
    check_table(logits, p)
    logits = logits.double()
    right = sum_index(p, logits.device) if labels is None else labels
    every = torch.arange(p * p, device=logits.device)
    rows = {**(splits or {}), "all": every}
    split = "train" if "train" in rows else "all"
    judged = rows[split]
    without = excluded_logits(logits, p, keys)
    per_key = {k: _judge(excluded_logits(logits, p, [k])[judged], right[judged]) for k in keys}
    by_split = split_means(row_losses(without, right), rows)
    return ExcludedLoss(
        loss=by_split[split],
        accuracy=_judge(without[judged], right[judged])[1],
        per_key={k: loss for k, (loss, _) in per_key.items()},
        per_key_accuracy={k: accuracy for k, (_, accuracy) in per_key.items()},
        splits=by_split,
        split=split,
    )


def _judge(logits: Float[Tensor, "rows p"], labels: Int[Tensor, " rows"]) -> tuple[float, float]:
    correct = (logits.argmax(dim=1) == labels).double()
    return float(row_losses(logits, labels).mean()), float(correct.mean())


@typed_absence("excluded_loss", "train", "all", "test")
def measure(checkpoint: Subject, keys: str | Sequence[int] | KeyFrequencies = "final") -> Result:
    """Excluded loss on train (headline), test and all, and on train without each key alone.

    Options: keys ("final", "own" or frequencies).
    """
    table = sums(checkpoint)
    freqs, rule = resolve_keys(checkpoint, keys)
    if not freqs:
        raise DoesNotApply(f"no key frequencies: {rule}")
    found = excluded_loss(table.logits, table.p, freqs, table.labels, table.splits)
    values: dict[str, Value] = {found.split: found.loss, **found.splits}
    values[f"{found.split}_accuracy"] = found.accuracy
    values |= {f"without_{k}": loss for k, loss in found.per_key.items()}
    values |= {f"without_{k}_accuracy": x for k, x in found.per_key_accuracy.items()}
    values["keys"] = freqs
    definition = {**DEFINITION, "split": f"{found.split} unless named", "selection": rule}
    return report("excluded_loss", checkpoint, values, definition)


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "2-D: cos, sin w_k(a+b) of all keys (or of one) removed; no bias correction",
    "centring": "none; softmax over the p classes, '=' dropped",
    "dtype": "float64",
}
