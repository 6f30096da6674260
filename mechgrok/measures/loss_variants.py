"""Every published operator of restricted and excluded loss on one checkpoint, side by side.

Nanda et al. 2023 (arXiv 2301.05217), sections 4.4 and 5.1, and TransformerLens's Grokking_Demo. The
names are those of `restricted_loss.VARIANTS` and `excluded_loss.VARIANTS`, to which one line is
added: removing the sum directions of all frequencies that are not keys. How much that changes
beside "restricted" says where the harm sits: in those directions, or in difference, linear and
cross terms.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from jaxtyping import Float, Int
from torch import Tensor

from mechgrok.maths.fourier import sum_index
from mechgrok.measures._modular import (
    DoesNotApply,
    Subject,
    matrices,
    neurons,
    report,
    sums,
    typed_absence,
)
from mechgrok.measures.excluded_loss import VARIANTS as EXCLUDED
from mechgrok.measures.excluded_loss import excluded_logits, excluded_loss
from mechgrok.measures.key_frequencies import KeyFrequencies, resolve_keys
from mechgrok.measures.losses import row_losses
from mechgrok.measures.restricted_loss import VARIANTS as RESTRICTED
from mechgrok.measures.restricted_loss import restricted_loss, split_means
from mechgrok.runs.result import Result, Value

SUBJECT: Final = "checkpoint"
OTHERS: Final = "excluded non-keys 2-D"
"""Name of the line without the sum directions of all other frequencies."""


def loss_variants(
    logits: Float[Tensor, "pairs p"],
    p: int,
    keys: Sequence[int],
    labels: Int[Tensor, " pairs"] | None = None,
    splits: Mapping[str, Int[Tensor, " _"]] | None = None,
    *,
    acts: Float[Tensor, "pairs d_mlp"] | None = None,
    W_L: Float[Tensor, "p d_mlp"] | None = None,
) -> dict[str, dict[str, float]]:
    """Loss by operator and split ('all' included), nats; activation variants only with neurons.

    Also the loss on all pairs without each key alone ('excluded 23 2-D'). Raises ValueError as
    `restricted_loss` and `excluded_loss` do.
    """
    found: dict[str, dict[str, float]] = {}
    for variant in _covered(RESTRICTED, acts):
        one = restricted_loss(
            logits, p, keys, labels, splits, variant=variant, **_arrays(variant, acts, W_L)
        )
        found[f"restricted {variant}"] = {"all": one.all, **one.splits}
    for variant in _covered(EXCLUDED, acts):
        one = excluded_loss(
            logits, p, keys, labels, splits, variant=variant, **_arrays(variant, acts, W_L)
        )
        found[f"excluded {variant}"] = dict(one.splits)
    alone = excluded_loss(logits, p, keys, labels).per_key
    found |= {f"excluded {k} 2-D": {"all": loss} for k, loss in alone.items()}
    others = [k for k in range(1, p // 2 + 1) if k not in keys]
    found[OTHERS] = _without(logits, p, others, labels, splits)
    return found


def _covered(variants: Mapping[str, str], acts: Float[Tensor, "pairs d_mlp"] | None) -> list[str]:
    return [v for v in variants if acts is not None or not v.startswith("activation")]


def _arrays(
    variant: str,
    acts: Float[Tensor, "pairs d_mlp"] | None,
    W_L: Float[Tensor, "p d_mlp"] | None,
) -> dict[str, Tensor | None]:
    return {"acts": acts, "W_L": W_L} if variant.startswith("activation") else {}


def _without(
    logits: Float[Tensor, "pairs p"],
    p: int,
    freqs: Sequence[int],
    labels: Int[Tensor, " pairs"] | None,
    splits: Mapping[str, Int[Tensor, " _"]] | None,
) -> dict[str, float]:
    """Loss by split without the sum directions of these frequencies."""
    left = excluded_logits(logits.double(), p, freqs)
    right = sum_index(p, logits.device) if labels is None else labels
    loss = row_losses(left, right)
    return {"all": float(loss.mean()), **split_means(loss, splits)}


@typed_absence("loss_variants", "excluded 3-D_train", "restricted 20 terms_all")
def measure(checkpoint: Subject, keys: str | Sequence[int] | KeyFrequencies = "final") -> Result:
    """Every operator's loss on all pairs, train and test; headline excluded 3-D on train.

    Options: keys ("final", "own" or frequencies).
    """
    table = sums(checkpoint)
    freqs, rule = resolve_keys(checkpoint, keys)
    if not freqs:
        raise DoesNotApply(f"no key frequencies: {rule}")
    arrays: dict[str, Tensor] = {}
    if not checkpoint.model.cfg.attn_only:
        arrays = {"acts": neurons(checkpoint), "W_L": matrices(checkpoint)["W_L"]}
    splits = {name: rows for name, rows in table.splits.items() if len(rows)}
    found = loss_variants(table.logits, table.p, freqs, table.labels, splits, **arrays)
    flat: dict[str, Value] = {
        f"{name}_{split}": loss for name, one in found.items() for split, loss in one.items()
    }
    first = "excluded 3-D_train" if "excluded 3-D_train" in flat else "excluded 3-D_all"
    values: dict[str, Value] = {first: flat[first], **flat, "keys": freqs}
    definition = {**_operators(), **DEFINITION, "selection": rule}
    return report("loss_variants", checkpoint, values, definition)


def _operators() -> dict[str, str]:
    given = {"restricted": RESTRICTED, "excluded": EXCLUDED}
    lines = [f"{kind} {text}" for kind, texts in given.items() for text in texts.values()]
    lines.append(f"{OTHERS}: cos, sin w_k(a+b) of every other k removed")
    return {"operator": "; ".join(lines)}


DEFINITION: Final[Mapping[str, str]] = {
    "centring": "none; softmax over the p classes, '=' dropped",
    "split": "as named; single keys on all pairs",
    "dtype": "float64, neurons in the model's",
}
