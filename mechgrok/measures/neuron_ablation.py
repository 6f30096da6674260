"""Removing each cluster of neurons, against random sets of as many other neurons.

Nanda et al. 2023 (arXiv 2301.05217), section 4.4: a cluster of neurons carries its frequency. The
last layer's neurons are read by the unembedding alone, so a set S of them adds N_S W_L,S to the
logits. Modes: zero (that part is taken away), mean (its mean over rows stays), resample (the part
of another row takes its place).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechgrok.measures._last_block import record
from mechgrok.measures._modular import DoesNotApply, Subject, neurons, report, typed_absence
from mechgrok.measures.component_ablation import Edit, solved_split
from mechgrok.measures.losses import judge
from mechgrok.measures.neuron_clusters import THRESHOLD, neuron_clusters
from mechgrok.runs.result import NotApplicable, Result, Value

SUBJECT: Final = "checkpoint"
N_CONTROLS: Final = 10
MODES: Final = ("zero", "mean", "resample")


@dataclass(frozen=True)
class ClusterAblation:
    """One cluster removed, and its controls."""

    size: int
    """Neurons in it, and in each control."""
    edits: Mapping[str, Edit]
    """By mode."""
    controls: Mapping[str, tuple[Edit, ...]] | NotApplicable
    """By mode; random sets of as many neurons from outside the cluster."""


def neuron_ablation(
    logits: Float[Tensor, "rows classes"],
    acts: Float[Tensor, "rows d_mlp"],
    W_L: Float[Tensor, "classes d_mlp"],
    labels: Int[Tensor, " rows"],
    clusters: Mapping[int, Int[Tensor, " _"]],
    *,
    generator: torch.Generator,
    n_controls: int = N_CONTROLS,
) -> dict[int, ClusterAblation]:
    """Each cluster (frequency -> its neurons) removed by every mode, with size-matched controls.

    Raises ValueError for fewer than one control or an empty cluster, which removes nothing.
    """
    empty = [k for k, own in clusters.items() if len(own) == 0]
    if n_controls < 1 or empty:
        raise ValueError(
            f"got n_controls={n_controls} and clusters without neurons: {empty}; expected at least "
            f"1 control and neurons in each cluster"
        )
    order = torch.randperm(len(labels), generator=generator).to(logits.device)

    def remove(chosen: Int[Tensor, " _"]) -> dict[str, Edit]:
        part = acts[:, chosen] @ W_L[:, chosen].T
        return {
            mode: Edit(*judge(logits - part + substitute(part, mode, order), labels))
            for mode in MODES
        }

    found = {}
    for k, own in clusters.items():
        others = _complement(own, acts.shape[1])
        sets = [_draw(others, len(own), generator) for _ in range(n_controls)]
        controls = [remove(chosen) for chosen in sets if len(chosen) == len(own)]
        by_mode = {mode: tuple(edit[mode] for edit in controls) for mode in MODES}
        few = NotApplicable(f"{len(others)} neurons outside the cluster, fewer than {len(own)}")
        found[k] = ClusterAblation(len(own), remove(own), by_mode if controls else few)
    return found


def substitute(
    part: Float[Tensor, "rows classes"], mode: str, order: Int[Tensor, " rows"]
) -> Float[Tensor, "#rows classes"]:
    """What takes the place of a removed part of the logits."""
    if mode == "mean":
        return part.mean(dim=0, keepdim=True)
    return part[order] if mode == "resample" else torch.zeros_like(part[:1])


def _complement(chosen: Int[Tensor, " _"], n: int) -> Int[Tensor, " _"]:
    outside = torch.ones(n, dtype=torch.bool, device=chosen.device)
    outside[chosen] = False
    return outside.nonzero()[:, 0]


def _draw(others: Int[Tensor, " _"], size: int, generator: torch.Generator) -> Int[Tensor, " _"]:
    order = torch.randperm(len(others), generator=generator)[:size]
    return others[order.to(others.device)]


@typed_absence("neuron_ablation", "max_cluster_loss", "max_control_loss", "original_loss")
def measure(
    checkpoint: Subject,
    n_controls: int = N_CONTROLS,
    seed: int = 0,
    threshold: float = THRESHOLD,
) -> Result:
    """Loss and accuracy without each cluster, headline the largest loss by zero ablation.

    Options: n_controls (random neuron sets per cluster, >= 1), seed (of controls and resampling),
    threshold (least explained fraction of a cluster's neurons).
    """
    clusters = _clusters(checkpoint, threshold)
    split, rows = solved_split(checkpoint)
    block = record(checkpoint, rows)
    labels = checkpoint.task.labels[rows, 0].to(block.resid_pre.device)
    with torch.no_grad():
        logits, acts = block.logits(), block.neurons(block.mid(block.z()))
        found = neuron_ablation(
            logits,
            acts,
            block.neuron_logits(),
            labels,
            clusters,
            generator=torch.Generator().manual_seed(seed),
            n_controls=n_controls,
        )
    definition = {
        **DEFINITION,
        "split": split,
        "selection": _selection(threshold, n_controls, seed),
    }
    values = _values(found, Edit(*judge(logits, labels)))
    arrays = {
        f"controls {k}": torch.tensor(
            [[(e.loss, e.accuracy) for e in one.controls[mode]] for mode in MODES],
            dtype=torch.float64,
        )
        for k, one in found.items()
        if isinstance(one.controls, Mapping)
    }
    return report("neuron_ablation", checkpoint, values, definition, arrays)


def _clusters(checkpoint: Subject, threshold: float) -> dict[int, Int[Tensor, " _"]]:
    """Frequency -> neurons of its cluster; DoesNotApply where there is none."""
    found = neuron_clusters(neurons(checkpoint), checkpoint.task.n, threshold)
    if not found.sizes:
        raise DoesNotApply(f"no neuron reaches an explained fraction of {found.threshold:g}")
    return {k: (found.cluster == k).nonzero()[:, 0] for k in found.sizes}


def _selection(threshold: float, n_controls: int, seed: int) -> str:
    return f"explained fraction >= {threshold:g}; {n_controls} controls, seed {seed}"


def _values(found: Mapping[int, ClusterAblation], original: Edit) -> dict[str, Value]:
    controls = {k: c.controls for k, c in found.items() if isinstance(c.controls, Mapping)}
    drawn = [edit.loss for one in controls.values() for edit in one["zero"]]
    values: dict[str, Value] = {
        "max_cluster_loss": max(one.edits["zero"].loss for one in found.values()),
        "max_control_loss": max(drawn) if drawn else NotApplicable("no cluster has a control"),
        "original_loss": original.loss,
        "original_accuracy": original.accuracy,
    }
    for k, one in found.items():
        values[f"{k}_size"] = one.size
        for mode, edit in one.edits.items():
            values |= {f"{k} {mode}_loss": edit.loss, f"{k} {mode}_accuracy": edit.accuracy}
            values |= _control_values(f"control of {k} {mode}", one.controls, mode)
    return values


def _control_values(
    name: str, controls: Mapping[str, tuple[Edit, ...]] | NotApplicable, mode: str
) -> dict[str, Value]:
    if isinstance(controls, NotApplicable):
        return {f"{name}_mean_loss": controls}
    losses = [edit.loss for edit in controls[mode]]
    return {
        f"{name}_mean_loss": sum(losses) / len(losses),
        f"{name}_max_loss": max(losses),
        f"{name}_min_accuracy": min(edit.accuracy for edit in controls[mode]),
    }


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "neurons of a cluster at zero, at their mean, or at "
    "another row's values; controls: random sets of as many neurons from outside the cluster",
    "centring": "none; means over the rows of the split",
    "dtype": "forward in the model's, loss in float64; all classes, '=' included",
    "controls": f"arrays: {', '.join(MODES)} x draws x (loss, accuracy)",
}
