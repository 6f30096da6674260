"""Removing components, each against a control: heads, position, skip path, attention, neurons.

Nanda et al. 2023 (arXiv 2301.05217), section 4.4: the skip path around the MLP hardly matters, and
a cluster of neurons carries its frequency. Every edit is a hook inside `with model.hooks(...)`; a
neuron cluster is judged against random sets of as many other neurons, and every edit on the split
that the model solves.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

from mechgrok.measures._modular import (
    ANSWER,
    DoesNotApply,
    Subject,
    neurons,
    report,
    table_task,
    typed_absence,
)
from mechgrok.measures.losses import row_losses
from mechgrok.measures.neuron_clusters import neuron_clusters
from mechgrok.runs.result import NotApplicable, Result, Value

SUBJECT: Final = "checkpoint"
N_CONTROLS: Final = 3
SOLVED: Final = 0.99
NEURON_MODES: Final = ("zero", "mean", "resample")

Hook: TypeAlias = tuple[str, Callable[..., Tensor | None]]
Evaluate: TypeAlias = Callable[[Sequence[Hook]], tuple[float, float]]
"""Hooks -> (loss, accuracy) of the model with them."""


@dataclass(frozen=True)
class Edit:
    """One edit and what it did."""

    loss: float
    """Cross-entropy, nats."""
    accuracy: float
    """Fraction answered right."""


def component_ablation(evaluate: Evaluate, edits: Mapping[str, Sequence[Hook]]) -> dict[str, Edit]:
    """Every named edit's loss and accuracy, and 'original' without any hook.

    Raises ValueError for an edit without hooks, which would change nothing.
    """
    empty = [name for name, hooks in edits.items() if not hooks]
    if empty:
        raise ValueError(f"got edits without hooks: {empty}; they would change nothing")
    return {name: Edit(*evaluate(hooks)) for name, hooks in {"original": (), **edits}.items()}


def replace(
    activation: Tensor, hook: Any, *, index: tuple[Any, ...], mode: str, rows: Tensor | None = None
) -> Tensor:
    """The activation with `index` set to zero, to its mean over rows, or to that of other rows."""
    changed = activation.clone()
    if mode == "resample":
        changed[index] = activation[rows][index]
    else:
        mean = activation.mean(dim=0, keepdim=True).expand_as(activation)
        changed[index] = mean[index] if mode == "mean" else 0
    return changed


def skip_path(layer: int) -> list[Hook]:
    """Hooks that leave the stream after a layer with the MLP's output alone."""
    kept: dict[str, Tensor] = {}

    def keep(mlp_out: Tensor, hook: Any) -> None:
        kept["mlp"] = mlp_out

    def only_mlp(resid_post: Tensor, hook: Any) -> Tensor:
        return kept.pop("mlp")

    return [(f"blocks.{layer}.hook_mlp_out", keep), (f"blocks.{layer}.hook_resid_post", only_mlp)]


def component_edits(cfg: Any) -> dict[str, list[Hook]]:
    """Heads by zero and mean, position, mean attention, and the last layer's skip path."""
    edits: dict[str, list[Hook]] = {}
    everything = (slice(None),)
    for layer in range(cfg.n_layers):
        for head in range(cfg.n_heads):
            for mode in ("zero", "mean"):
                hook = partial(replace, index=(slice(None), slice(None), head), mode=mode)
                edits[f"L{layer}H{head} {mode}"] = [(f"blocks.{layer}.attn.hook_z", hook)]
        mean = partial(replace, index=everything, mode="mean")
        edits[f"L{layer} mean attention"] = [(f"blocks.{layer}.attn.hook_pattern", mean)]
    edits["position zero"] = [("hook_pos_embed", partial(replace, index=everything, mode="zero"))]
    if not cfg.attn_only:
        edits["no skip path"] = skip_path(cfg.n_layers - 1)
    return edits


def neuron_edit(layer: int, chosen: Tensor, mode: str, rows: Tensor) -> list[Hook]:
    """Hooks that replace the chosen neurons of a layer at the answer position."""
    index = (slice(None), ANSWER, chosen)
    return [(f"blocks.{layer}.mlp.hook_post", partial(replace, index=index, mode=mode, rows=rows))]


@typed_absence("component_ablation", "no skip path_loss", "position zero_loss", "original_loss")
def measure(checkpoint: Subject, n_controls: int = N_CONTROLS, seed: int = 0) -> Result:
    """Loss and accuracy without each component, headline the loss without the skip path.

    Options: n_controls (random neuron sets per cluster, >= 1), seed (of controls and resampling).
    """
    if n_controls < 1:
        raise ValueError(f"got n_controls={n_controls}, expected at least 1")
    task, model = table_task(checkpoint), checkpoint.model
    if model.cfg.normalization_type is not None or model.cfg.parallel_attn_mlp:
        raise DoesNotApply("written for models whose parts add up: no normalisation, in sequence")
    split, rows = _solved(checkpoint)
    evaluate = _evaluator(checkpoint, rows)
    edits = component_edits(model.cfg)
    chance = torch.Generator().manual_seed(seed)
    if not model.cfg.attn_only:
        edits |= _cluster_edits(checkpoint, len(rows), n_controls, chance)
    found = component_ablation(evaluate, edits)
    absent = NotApplicable("the model has attention only, so nothing skips an MLP")
    headline = found["no skip path"].loss if "no skip path" in found else absent
    values: dict[str, Value] = {"no skip path_loss": headline}
    for name, edit in found.items():
        values |= {f"{name}_loss": edit.loss, f"{name}_accuracy": edit.accuracy}
    definition = {**DEFINITION, "split": split, "selection": f"control seed {seed}; {task.n=}"}
    return report("component_ablation", checkpoint, values, definition)


def _cluster_edits(
    checkpoint: Subject, n_rows: int, n_controls: int, chance: torch.Generator
) -> dict[str, list[Hook]]:
    """Each cluster by zero, mean and resample, and as many random other neurons."""
    clusters = neuron_clusters(neurons(checkpoint), table_task(checkpoint).n).cluster
    layer = checkpoint.model.cfg.n_layers - 1
    rows = torch.randperm(n_rows, generator=chance).to(clusters.device)
    edits: dict[str, list[Hook]] = {}
    for k in sorted(set(clusters[clusters > 0].tolist())):
        own, others = (clusters == k).nonzero()[:, 0], (clusters != k).nonzero()[:, 0]
        sets = {f"neurons {k}": own}
        for i in range(n_controls if len(others) >= len(own) else 0):
            order = torch.randperm(len(others), generator=chance).to(others.device)
            sets[f"control {i} of {k}"] = others[order[: len(own)]]
        for name, chosen in sets.items():
            for mode in NEURON_MODES:
                edits[f"{name} {mode}"] = neuron_edit(layer, chosen, mode, rows)
    return edits


def _solved(checkpoint: Subject) -> tuple[str, Int[Tensor, " rows"]]:
    """The split that the model solves: test if its accuracy is >= .99, otherwise train."""
    task = table_task(checkpoint)
    logits, test = checkpoint.answer_logits[:, 0], task.splits["test"]
    correct = logits.argmax(dim=1).cpu() == task.labels[:, 0]
    if float(correct[test].double().mean()) >= SOLVED:
        return "test (solved: accuracy >= .99)", test
    return "train (test is not solved)", task.splits["train"]


def _evaluator(checkpoint: Subject, rows: Int[Tensor, " rows"]) -> Evaluate:
    task, model = table_task(checkpoint), checkpoint.model
    device = model.embed.W_E.device
    tokens, labels = task.tokens[rows].to(device), task.labels[rows, 0].to(device)

    def evaluate(hooks: Sequence[Hook]) -> tuple[float, float]:
        with torch.no_grad(), model.hooks(fwd_hooks=list(hooks)):
            logits = model(tokens)[:, ANSWER].double()
        correct = (logits.argmax(dim=1) == labels).double()
        return float(row_losses(logits, labels).mean()), float(correct.mean())

    return evaluate


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "hooks: heads (hook_z) zero or mean; attention (hook_pattern) fixed to its mean; "
    "hook_pos_embed zero; no skip path: last resid_post is mlp_out alone; neuron clusters "
    "(explained fraction >= .85) zero, mean or resampled from other rows, with random sets of as "
    "many other neurons as control",
    "centring": "none; means over the rows of the split",
    "dtype": "forward in the model's, loss in float64; all classes, '=' included",
}
