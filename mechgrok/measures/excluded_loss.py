"""Excluded loss: cross-entropy with the keys' sum directions removed from the logits.

Nanda et al. 2023 (arXiv 2301.05217), section 5.1. Operator "2-D": cos w_k(a+b), sin w_k(a+b) are
projected out of the logits, for all keys at once (full) and for each key alone; no bias correction.
On the training split by default, where it shows memorisation giving way to the circuit.

Variants: "3-D" removes the cosines cos w_k(a+b-c) instead; "20 terms" all four products per key;
"activation with skip" removes the directions from the neurons, read through W_out W_U, and leaves
the rest of the logits; "activation without skip" keeps the remaining neurons' logits alone, without
skip path and biases (the two forms of TransformerLens's Grokking_Demo).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechgrok.maths.fourier import (
    check_frequencies,
    cosine_coefficients,
    fourier_basis,
    project_frequencies,
    sum_directions,
    sum_index,
    sum_means,
)
from mechgrok.maths.pair_terms import product_terms
from mechgrok.measures._modular import DoesNotApply, Subject, report, sums, typed_absence
from mechgrok.measures.key_frequencies import KeyFrequencies, resolve_keys
from mechgrok.measures.losses import judge, row_losses
from mechgrok.measures.restricted_loss import (
    check_table,
    check_variant,
    split_means,
    variant_arrays,
)
from mechgrok.runs.result import Result, Value

SUBJECT: Final = "checkpoint"
VARIANTS: Final[Mapping[str, str]] = {
    "2-D": "2-D: cos, sin w_k(a+b) of all keys (or of one) removed; no bias correction",
    "3-D": "3-D: cos w_k(a+b-c) of all keys (or of one) removed; no bias correction",
    "20 terms": "20 terms: {cos, sin}(w_k a) x {cos, sin}(w_k b) of all keys (or of one) removed; "
    "no bias correction",
    "activation with skip": "activation with skip: cos, sin w_k(a+b) of all keys (or of one) "
    "removed from the neurons; skip path and biases stay",
    "activation without skip": "activation without skip: cos, sin w_k(a+b) of all keys (or of "
    "one) removed from the neurons; logits N W_out W_U alone",
}
"""Operators by name, as the result's definition states them."""


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


class _Remove:
    """Takes keys out of the logits of some rows, by the named operator."""

    def __init__(
        self,
        variant: str,
        logits: Float[Tensor, "pairs p"],
        acts: Float[Tensor, "pairs d_mlp"] | None,
        W_L: Float[Tensor, "p d_mlp"] | None,
        p: int,
    ) -> None:
        self.variant, self.p, self.logits = variant, p, logits
        self.readout = None if W_L is None else W_L.double()
        self.whole = logits
        if variant == "activation without skip" and acts is not None and self.readout is not None:
            self.whole = acts.double() @ self.readout.T
        # All that the sum directions can see: one pass over the table serves every set of keys.
        self.by_sum = sum_means(logits if acts is None else acts.double(), p)
        self.index = sum_index(p, logits.device)

    def __call__(self, keys: Sequence[int], rows: Int[Tensor, " rows"]) -> Float[Tensor, "rows p"]:
        """Logits of the rows without the keys."""
        if self.variant == "20 terms":
            return (self.whole - product_terms(self.logits, self.p, keys))[rows]
        if self.variant == "3-D":
            part = _cosines(self.logits, self.p, keys)
        else:
            part = project_frequencies(self.by_sum, keys)
            part = part if self.readout is None else part @ self.readout.T
        return self.whole[rows] - part[self.index[rows]]


def _cosines(logits: Float[Tensor, "pairs p"], p: int, keys: Sequence[int]) -> Float[Tensor, "p p"]:
    """v_k C_k of the keys, where C_k is cos w_k(a+b-c) at unit norm over p^3; row s is a+b = s."""
    coefficients = cosine_coefficients(logits, p)
    cosines = fourier_basis(p, logits.dtype, logits.device)[1::2]  # by frequency, norm 1 over p
    chosen = torch.tensor([k - 1 for k in keys], dtype=torch.long, device=logits.device)
    wave = coefficients[chosen] @ cosines[chosen] / p  # of d = a + b - c, each d p^2 times
    element = torch.arange(p, device=logits.device)
    return wave[(element[:, None] - element) % p]


def excluded_loss(
    logits: Float[Tensor, "pairs p"],
    p: int,
    keys: Sequence[int],
    labels: Int[Tensor, " pairs"] | None = None,
    splits: Mapping[str, Int[Tensor, " _"]] | None = None,
    *,
    variant: str = "2-D",
    acts: Float[Tensor, "pairs d_mlp"] | None = None,
    W_L: Float[Tensor, "p d_mlp"] | None = None,
) -> ExcludedLoss:
    """Loss without all keys and without each key, on train (on all pairs if there is no train).

    Rows are all pairs a * p + b, classes the elements of Z_p; labels default to (a+b) mod p. Only
    the activation variants read neurons and W_L. Raises ValueError for an incomplete table, keys
    outside 1..p//2, a split without rows, an unknown variant, or a variant without its arrays.
    """
    check_table(logits, p)
    check_frequencies(keys, p)
    check_variant(variant, VARIANTS, acts, W_L)
    remove = _Remove(variant, logits.double(), acts, W_L, p)
    right = sum_index(p, logits.device) if labels is None else labels
    every = torch.arange(p * p, device=logits.device)
    rows = {**(splits or {}), "all": every}
    split = "train" if "train" in rows else "all"
    judged = rows[split]
    per_key = {k: judge(remove([k], judged), right[judged]) for k in keys}
    without = remove(keys, every)
    by_split = split_means(row_losses(without, right), rows)
    correct = (without.argmax(dim=1) == right).double()
    return ExcludedLoss(
        loss=by_split[split],
        accuracy=float(correct[judged].mean()),
        per_key={k: loss for k, (loss, _) in per_key.items()},
        per_key_accuracy={k: accuracy for k, (_, accuracy) in per_key.items()},
        splits=by_split,
        split=split,
    )


@typed_absence("excluded_loss", "train", "all", "test")
def measure(
    checkpoint: Subject,
    keys: str | Sequence[int] | KeyFrequencies = "final",
    variant: str = "2-D",
) -> Result:
    """Excluded loss on train (headline), test and all, and on train without each key alone.

    Options: keys ("final", "own" or frequencies), variant ("2-D", "3-D", "20 terms",
    "activation with skip", "activation without skip").
    """
    table = sums(checkpoint)
    freqs, rule = resolve_keys(checkpoint, keys)
    if not freqs:
        raise DoesNotApply(f"no key frequencies: {rule}")
    arrays = variant_arrays(checkpoint, variant)
    found = excluded_loss(
        table.logits, table.p, freqs, table.labels, table.splits, variant=variant, **arrays
    )
    values: dict[str, Value] = {found.split: found.loss, **found.splits}
    values[f"{found.split}_accuracy"] = found.accuracy
    values |= {f"without_{k}": loss for k, loss in found.per_key.items()}
    values |= {f"without_{k}_accuracy": x for k, x in found.per_key_accuracy.items()}
    values["keys"] = freqs
    definition = {
        "operator": VARIANTS[variant],
        **DEFINITION,
        "split": f"{found.split} unless named",
        "selection": rule,
    }
    return report("excluded_loss", checkpoint, values, definition)


DEFINITION: Final[Mapping[str, str]] = {
    "centring": "none; softmax over the p classes, '=' dropped",
    "dtype": "float64",
}
