"""Neurons and attention replaced by their best polynomials of degree 2 in a single frequency.

Nanda et al. 2023 (arXiv 2301.05217), sections 4.2 and 4.4: each neuron of the last layer, and each
head's attention from "=", is a polynomial of degree 2 in cos, sin w_k a and cos, sin w_k b of one
frequency; put in their place, the fits do the task. Variants: "8 terms" are the linear terms and
products of the paper's neuron rule; "12 terms" add the squares. Controls: fits in other
frequencies (as many terms; all shifted by one random number), and the constant term alone.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechgrok.maths.fourier import check_pairs
from mechgrok.maths.pair_terms import polynomial
from mechgrok.measures._last_block import LastBlock, record
from mechgrok.measures._modular import Subject, report, sums, typed_absence
from mechgrok.measures.losses import judge
from mechgrok.measures.neuron_clusters import THRESHOLD, neuron_clusters, single_frequency_power
from mechgrok.runs.result import NotApplicable, Result, Value

SUBJECT: Final = "checkpoint"
VARIANTS: Final = ("8 terms", "12 terms")
N_CONTROLS: Final = 3
CHUNK: Final = 64
"""Neurons fitted at once; bounds memory, changes no number."""


def polynomial_replacement(
    acts: Float[Tensor, "pairs columns"],
    p: int,
    freqs: Int[Tensor, " columns"],
    variant: str = "8 terms",
) -> Float[Tensor, "pairs columns"]:
    """Every column's best polynomial in its own frequency; a frequency below 1 means its mean.

    Rows are all pairs a * p + b; float64. Raises ValueError for an incomplete table or an unknown
    variant.
    """
    check_pairs(acts.shape[0], p)
    if variant not in VARIANTS:
        raise ValueError(f"got variant={variant!r}, expected one of {list(VARIANTS)}")
    fitted = acts.double().mean(dim=0).repeat(len(acts), 1)
    for k in freqs[freqs > 0].unique().tolist():
        own = freqs == k
        fitted[:, own] = polynomial(acts[:, own].double(), p, k, squares=variant == "12 terms")
    return fitted


def _change(
    acts: Float[Tensor, "pairs d_mlp"],
    W_L: Float[Tensor, "classes d_mlp"],
    p: int,
    freqs: Int[Tensor, " d_mlp"],
    chosen: Bool[Tensor, " d_mlp"],
    variant: str,
) -> Float[Tensor, "pairs classes"]:
    """What the logits change by when the chosen neurons are replaced by their fits."""
    change = torch.zeros(len(acts), len(W_L), dtype=torch.float64, device=acts.device)
    order = freqs.argsort()  # neighbours share a frequency, and are fitted together
    for part in order[chosen[order]].split(CHUNK):
        fitted = polynomial_replacement(acts[:, part], p, freqs[part], variant)
        change += (fitted - acts[:, part]) @ W_L[:, part].double().T
    return change


def _replaced_attention(block: LastBlock, p: int, variant: str) -> tuple[LastBlock, list[int]]:
    """The block with each head's pattern replaced by its fit in its best frequency.

    A head has one frequency for all sources, so that its weights still sum to 1.
    """
    sources = block.pattern.shape[2]
    table = block.pattern.double().flatten(1)
    power = single_frequency_power(table, p).unflatten(1, (-1, sources)).sum(dim=2)
    best = power.argmax(dim=0) + 1
    fitted = polynomial_replacement(table, p, best.repeat_interleave(sources), variant)
    pattern = fitted.unflatten(1, (-1, sources)).to(block.pattern.dtype)
    return LastBlock(block.model, block.resid_pre, pattern, block.v), best.tolist()


def _other(freqs: Int[Tensor, " d_mlp"], p: int, chance: torch.Generator) -> Int[Tensor, " d_mlp"]:
    """Every neuron's frequency shifted by one random number, so that as many stay in use."""
    shift = int(torch.randint(1, p // 2, (), generator=chance))
    return (freqs - 1 + shift) % (p // 2) + 1


@typed_absence("polynomial_replacement", "clustered_test_loss", "live_test_loss")
def measure(
    checkpoint: Subject, variant: str = "8 terms", n_controls: int = N_CONTROLS, seed: int = 0
) -> Result:
    """Losses with fitted neurons (clustered or all live) and attention; headline clustered, test.

    Options: variant ("8 terms", "12 terms"), n_controls (>= 1), seed (of the controls).
    """
    if n_controls < 1 or variant not in VARIANTS:
        expected = f"at least 1 and one of {list(VARIANTS)}"
        raise ValueError(f"got n_controls={n_controls}, variant={variant!r}; expected {expected}")
    table = sums(checkpoint)
    order = checkpoint.task.renamed.to(table.labels.device)
    block = record(checkpoint, torch.arange(len(table.labels)))
    with torch.no_grad():
        fitted, heads = _replaced_attention(block, table.p, variant)
        logits = {"original": table.logits, "attention": fitted.logits()[:, order].double()}
        acts = block.neurons(block.mid(block.z()))
        W_L = block.neuron_logits()[order]
    clusters = neuron_clusters(acts, table.p)
    clustered, rest = clusters.cluster > 0, (clusters.cluster < 0) & ~clusters.dead
    chance = torch.Generator().manual_seed(seed)
    fits = {"": clusters.freq, " constant": torch.zeros_like(clusters.freq)}
    for i in range(n_controls):
        fits[f" control {i}"] = _other(clusters.freq, table.p, chance)
    values: dict[str, Value] = {}
    if not clustered.any():
        values["clustered_test_loss"] = NotApplicable(f"no neuron is in a cluster ({THRESHOLD})")
    for which, freqs in fits.items():
        edited = table.logits + _change(acts, W_L, table.p, freqs, clustered, variant)
        if clustered.any():
            values |= _judged(f"clustered{which}", edited, table.labels, table.splits)
        edited += _change(acts, W_L, table.p, freqs, rest, variant)
        values |= _judged(f"live{which}", edited, table.labels, table.splits)
    values |= {"clustered_size": int(clustered.sum()), "live_size": clusters.n_live}
    for which, edited in logits.items():
        values |= _judged(which, edited, table.labels, table.splits)
    values["attention_freqs"] = heads
    definition = {**DEFINITION, "variant": variant, "controls": f"{n_controls}, seed {seed}"}
    return report("polynomial_replacement", checkpoint, values, definition)


def _judged(
    name: str,
    logits: Float[Tensor, "pairs p"],
    labels: Int[Tensor, " pairs"],
    splits: Mapping[str, Int[Tensor, " _"]],
) -> dict[str, Value]:
    """Loss and accuracy on test, train and all pairs."""
    found: dict[str, Value] = {}
    rows: Sequence[tuple[str, Tensor | slice]] = [
        *((split, splits[split]) for split in ("test", "train") if len(splits[split])),
        ("all", slice(None)),
    ]
    for split, chosen in rows:
        loss, accuracy = judge(logits[chosen], labels[chosen])
        found |= {f"{name}_{split}_loss": loss, f"{name}_{split}_accuracy": accuracy}
    return found


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "last layer's neurons (clustered: explained fraction >= .85; live: all that vary) "
    "or attention from '=' replaced by their least-squares polynomials of degree 2 in cos, sin of "
    "their best frequency; controls: frequencies shifted by one random number, and the mean alone",
    "centring": "none; the constant term is part of the fit",
    "split": "fits over all pairs; losses over the p classes, '=' dropped, on each split",
    "dtype": "fits and losses in float64, forward in the model's",
    "selection": "the frequency with the largest share of variance in the 8 terms",
}
