"""Removing frequencies from neurons, logits and W_L, with size-matched controls.

Nanda et al. 2023 (arXiv 2301.05217), section 4.4, and the controls of `frequency_ablation.py`,
which does the same to the embedding: keys, random sets of as many other frequencies, all others at
once, and keys scaled. The power removed is a share of the power of the space that is edited.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechgrok.maths.fourier import (
    frequency_power,
    frequency_rows,
    power_shares,
    sum_index,
    sum_means,
    to_fourier,
)
from mechgrok.measures._modular import (
    DoesNotApply,
    Subject,
    matrices,
    neurons,
    report,
    sums,
    typed_absence,
)
from mechgrok.measures.component_ablation import solved_split
from mechgrok.measures.frequency_ablation import (
    MIN_CONTROLS,
    Edit,
    FrequencyAblation,
    frequency_ablation,
)
from mechgrok.measures.key_frequencies import KeyFrequencies, resolve_keys
from mechgrok.measures.losses import judge
from mechgrok.measures.restricted_loss import check_table
from mechgrok.runs.result import NotApplicable, Result, Value

SUBJECT: Final = "checkpoint"
SPACES: Final[Mapping[str, str]] = {
    "logits": "cos, sin w_k(a+b) of the logits",
    "activations": "cos, sin w_k(a+b) of the last layer's neurons, read through W_L",
    "W_L": "cos, sin w_k c of the rows of W_L, read from the neurons",
}
"""What is removed where."""
DOSES: Final = (0.1, 0.3, 0.5, 0.7, 0.9)


def frequency_removal(
    logits: Float[Tensor, "pairs p"],
    p: int,
    keys: Sequence[int],
    labels: Int[Tensor, " pairs"] | None = None,
    rows: Int[Tensor, " rows"] | None = None,
    *,
    acts: Float[Tensor, "pairs d_mlp"] | None = None,
    W_L: Float[Tensor, "p d_mlp"] | None = None,
    generator: torch.Generator,
    n_controls: int = MIN_CONTROLS,
) -> dict[str, FrequencyAblation]:
    """Every edit of the check in the logits and, with neurons and W_L, in those two as well.

    Logits, neurons: all pairs a * p + b; judged on `rows` (all by default). Raises ValueError for
    an incomplete table, neurons without W_L, and as `frequency_ablation` does.
    """
    check_table(logits, p)
    if (acts is None) != (W_L is None):
        raise ValueError("got one of acts and W_L, expected both or neither")
    logits = logits.double()
    spaces = {"logits": _of_sums(logits, p, None)}
    shares = {"logits": sum_shares(logits, p)}
    if acts is not None and W_L is not None:
        acts, W_L = acts.double(), W_L.double()
        spaces["activations"] = _of_sums(acts, p, W_L)
        spaces["W_L"] = _of_classes(acts @ W_L.T, p)
        shares["activations"], shares["W_L"] = sum_shares(acts, p), power_shares(W_L)
    right = sum_index(p, logits.device) if labels is None else labels
    chosen = torch.arange(p * p, device=logits.device) if rows is None else rows
    base, answers = logits[chosen], right[chosen]

    def evaluator(part: Part) -> Callable[[Sequence[int], float], tuple[float, float]]:
        return lambda freqs, scale: judge(
            base - (1 - scale) * part(tuple(freqs), chosen) if freqs else base, answers
        )

    return {
        name: frequency_ablation(
            evaluator(part),
            shares[name],
            keys,
            p=p,
            generator=generator,
            n_controls=n_controls,
            doses=DOSES,
        )
        for name, part in spaces.items()
    }


Part = Callable[[tuple[int, ...], Tensor], Tensor]
"""(frequencies, rows) -> their part of the logits [rows, p]."""


def _of_sums(table: Float[Tensor, "pairs d"], p: int, readout: Tensor | None) -> Part:
    """Part of the table in cos, sin w_k(a+b), as logits."""
    by_sum = sum_means(table, p)  # all that the sum directions can see
    by_sum = by_sum if readout is None else by_sum @ readout.T
    index = sum_index(p, table.device)

    def part(freqs: tuple[int, ...], rows: Tensor) -> Tensor:
        waves = frequency_rows(freqs, p, by_sum.dtype, by_sum.device)
        return (waves.T @ (waves @ by_sum))[index[rows]]

    return part


def _of_classes(mlp: Float[Tensor, "pairs p"], p: int) -> Part:
    """Part of N W_L in cos, sin w_k c over classes."""

    def part(freqs: tuple[int, ...], rows: Tensor) -> Tensor:
        waves = frequency_rows(freqs, p, mlp.dtype, mlp.device)
        return mlp[rows] @ waves.T @ waves

    return part


def sum_shares(table: Float[Tensor, "pairs d"], p: int) -> Float[Tensor, " n_freqs"]:
    """Share 0..1 of a table's power in cos, sin w_k(a+b), for k = 1..p//2."""
    power = frequency_power(to_fourier(sum_means(table, p)).square().sum(dim=1)) * p
    total = table.square().sum()
    if total == 0:
        raise ValueError("got a table of zeros, whose power has no shares")
    return power / total


@typed_absence("frequency_removal", "logits keys_loss", "activations keys_loss", "W_L keys_loss")
def measure(
    checkpoint: Subject,
    keys: str | Sequence[int] | KeyFrequencies = "own",
    n_controls: int = MIN_CONTROLS,
    seed: int = 0,
) -> Result:
    """Loss, accuracy and power of every edit in each space; headline the logits without the keys.

    Options: keys ("own", "final" or frequencies), n_controls (>= 20), seed (of the controls).
    """
    table = sums(checkpoint)
    freqs, rule = resolve_keys(checkpoint, keys)
    if not freqs or 2 * len(freqs) > table.p // 2:
        raise DoesNotApply(f"{len(freqs)} of {table.p // 2} frequencies are keys: {rule}")
    split, rows = solved_split(checkpoint)
    attn_only = checkpoint.model.cfg.attn_only
    found = frequency_removal(
        table.logits,
        table.p,
        freqs,
        table.labels,
        rows.to(table.labels.device),
        acts=None if attn_only else neurons(checkpoint),
        W_L=None if attn_only else matrices(checkpoint)["W_L"],
        generator=torch.Generator().manual_seed(seed),
        n_controls=n_controls,
    )
    absent = NotApplicable("the model has attention only, so it has no neurons and no W_L")
    values: dict[str, Value] = {}
    for space in SPACES:
        one = _values(found[space]) if space in found else {"keys_loss": absent}
        values |= {f"{space} {name}": value for name, value in one.items()}
    values["keys"] = freqs
    selection = f"{rule}; {n_controls} controls, seed {seed}"
    definition = {**DEFINITION, "split": split, "selection": selection}
    return report("frequency_removal", checkpoint, values, definition)


def _values(found: FrequencyAblation) -> dict[str, Value]:
    controls = found.controls
    named = {"keys": found.keys, "non_keys": found.non_keys, "original": found.original}
    named |= {f"keys_x{edit.scale:g}": edit for edit in found.key_doses}
    named[f"non_keys_x{found.non_key_dose.scale:g}"] = found.non_key_dose
    values: dict[str, Value] = {"keys_loss": found.keys.loss}
    for name, edit in named.items():
        values |= _entries(name, edit)
    values["controls_mean_loss"] = sum(e.loss for e in controls) / len(controls)
    values["controls_max_loss"] = max(e.loss for e in controls)
    values["controls_min_accuracy"] = min(e.accuracy for e in controls)
    values["controls_power_removed"] = sum(e.power_removed for e in controls) / len(controls)
    return values


def _entries(name: str, edit: Edit) -> dict[str, Value]:
    return {
        f"{name}_loss": edit.loss,
        f"{name}_accuracy": edit.accuracy,
        f"{name}_power_removed": edit.power_removed,
    }


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "; ".join(f"{space}: {what}" for space, what in SPACES.items())
    + " are scaled, 0 removes; everything else stays; controls: random sets of as many other k",
    "centring": "none; shares are of the whole space's power, constants included",
    "dtype": "float64, neurons in the model's; softmax over the p classes, '=' dropped",
}
