"""Restricted loss: cross-entropy when only the key frequencies' sum directions of the logits stay.

Nanda et al. 2023 (arXiv 2301.05217), section 5.1. Operator "10 directions": the logits are
projected on cos w_k(a+b), sin w_k(a+b) for the keys k (10 directions for 5 keys), and the mean over
all pairs of what was removed is added back per class (bias correction). On all pairs by default.

Variants: "20 terms" keeps all four products of cos, sin w_k a with cos, sin w_k b per key (the
paper's prose); "activation" projects the neurons instead, reads them through W_out W_U and adds the
mean logits (TransformerLens's Grokking_Demo).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from jaxtyping import Float, Int
from torch import Tensor

from mechgrok.maths.fourier import check_pairs, sum_directions, sum_index, sum_means
from mechgrok.maths.pair_terms import product_terms
from mechgrok.measures._modular import (
    DoesNotApply,
    Pairs,
    Subject,
    matrices,
    neurons,
    report,
    sums,
    typed_absence,
)
from mechgrok.measures.key_frequencies import KeyFrequencies, resolve_keys
from mechgrok.measures.losses import row_losses
from mechgrok.runs.result import NotApplicable, Result, Value

SUBJECT: Final = "checkpoint"
VARIANTS: Final[Mapping[str, str]] = {
    "10 directions": "10 directions: cos, sin w_k(a+b) of the keys (2 per key, 10 for the paper's "
    "5); mean of the removed part added back",
    "20 terms": "20 terms: {cos, sin}(w_k a) x {cos, sin}(w_k b) of the keys (4 per key, 20 for "
    "the paper's 5); mean of the removed part added back",
    "activation": "activation: neurons projected on cos, sin w_k(a+b) of the keys, times "
    "W_out W_U; mean logits added",
}
"""Operators by name, as the result's definition states them."""


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
    *,
    variant: str = "10 directions",
    acts: Float[Tensor, "pairs d_mlp"] | None = None,
    W_L: Float[Tensor, "p d_mlp"] | None = None,
) -> RestrictedLoss:
    """Loss of the restricted logits, by default 2 directions per key with bias correction.

    Rows are all pairs a * p + b, classes the elements of Z_p; labels default to (a+b) mod p. Only
    the variant "activation" reads neurons and W_L. Raises ValueError for an incomplete table, keys
    outside 1..p//2, a split without rows, an unknown variant, or "activation" without its arrays.
    """
    check_table(logits, p)
    check_variant(variant, VARIANTS, acts, W_L)
    by_sum = sum_index(p, logits.device)
    right = by_sum if labels is None else labels
    if variant == "20 terms":
        kept, row = _twenty_terms(logits.double(), p, keys), slice(None)
    elif acts is not None and W_L is not None:
        kept, row = _activation_logits(logits.double(), acts, W_L, p, keys), by_sum
    else:
        kept, row = restricted_logits(logits.double(), p, keys), by_sum
    loss = -kept.log_softmax(dim=1)[row].gather(1, right[:, None])[:, 0]
    correct = (kept.argmax(dim=1)[row] == right).double()
    return RestrictedLoss(
        all=float(loss.mean()),
        accuracy=float(correct.mean()),
        splits=split_means(loss, splits),
        split_accuracy=split_means(correct, splits),
    )


def _twenty_terms(
    logits: Float[Tensor, "pairs p"], p: int, keys: Sequence[int]
) -> Float[Tensor, "pairs p"]:
    """The keys' four products each, with bias correction."""
    return product_terms(logits, p, keys) + logits.mean(dim=0)


def _activation_logits(
    logits: Float[Tensor, "pairs p"],
    acts: Float[Tensor, "pairs d_mlp"],
    W_L: Float[Tensor, "p d_mlp"],
    p: int,
    keys: Sequence[int],
) -> Float[Tensor, "p p"]:
    """Logits of the neurons' sum directions, and the mean logits; row s is a + b = s."""
    return sum_directions(acts.double(), p, keys) @ W_L.double().T + logits.mean(dim=0)


def check_variant(
    variant: str,
    variants: Mapping[str, str],
    acts: Float[Tensor, "pairs d_mlp"] | None,
    W_L: Float[Tensor, "p d_mlp"] | None,
) -> None:
    """Raise ValueError unless the variant is known, and comes with neurons if and only if it reads
    them."""
    if variant not in variants:
        raise ValueError(f"got variant={variant!r}, expected one of {list(variants)}")
    reads = variant.startswith("activation")
    if reads != (acts is not None) or reads != (W_L is not None):
        raise ValueError(f"variant {variant!r}: acts and W_L are for 'activation' variants, both")


def variant_arrays(checkpoint: Subject, variant: str) -> dict[str, Tensor]:
    """Neurons and W_L where the variant reads them; DoesNotApply without an MLP."""
    if not variant.startswith("activation"):
        return {}
    return {"acts": neurons(checkpoint), "W_L": matrices(checkpoint)["W_L"]}


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
def measure(
    checkpoint: Subject,
    keys: str | Sequence[int] | KeyFrequencies = "final",
    variant: str = "10 directions",
) -> Result:
    """Restricted loss on all pairs (headline), train and test, with accuracies and the ratio.

    Options: keys ("final", "own" or frequencies), variant ("10 directions", "20 terms",
    "activation").
    """
    table = sums(checkpoint)
    freqs, rule = resolve_keys(checkpoint, keys)
    if not freqs:
        raise DoesNotApply(f"no key frequencies: {rule}")
    arrays = variant_arrays(checkpoint, variant)
    found = restricted_loss(
        table.logits, table.p, freqs, table.labels, table.splits, variant=variant, **arrays
    )
    values: dict[str, Value] = {"all": found.all, **found.splits}
    values["test_loss_over_restricted"] = _ratio(table, found.all)
    values["all_accuracy"] = found.accuracy
    values |= {f"{split}_accuracy": x for split, x in found.split_accuracy.items()}
    values["keys"] = freqs
    definition = {"operator": VARIANTS[variant], **DEFINITION, "selection": rule}
    return report("restricted_loss", checkpoint, values, definition)


def _ratio(table: Pairs, restricted: float) -> float | NotApplicable:
    """Test loss over restricted loss: rises in circuit formation, near 1 after cleanup."""
    if restricted == 0:
        return NotApplicable("the restricted loss is exactly 0 in float64")
    test = row_losses(table.logits, table.labels)[table.splits["test"]].mean()
    return float(test) / restricted


DEFINITION: Final[Mapping[str, str]] = {
    "centring": "none; softmax over the p classes, '=' dropped",
    "split": "all pairs; train and test beside it; the ratio takes the test loss over p classes",
    "dtype": "float64",
}
