"""Removing components: heads, positions, the skip path, and attention fixed to its mean.

Nanda et al. 2023 (arXiv 2301.05217), section 4.4: the skip path around the MLP hardly matters. In
the last layer an edit costs a few matrix products on what was recorded once (`_last_block.py`); in
earlier layers it is a hook. Clusters of neurons are in `neuron_ablation.py`. Every edit is judged
on the split that the model solves.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechgrok.measures._last_block import LastBlock, record
from mechgrok.measures._modular import ANSWER, CHUNK, Subject, report, table_task, typed_absence
from mechgrok.measures.losses import judge
from mechgrok.runs.result import NotApplicable, Result, Value

SUBJECT: Final = "checkpoint"
SOLVED: Final = 0.99
ORIGINAL: Final = "original"
MODES: Final = ("zero", "mean")


@dataclass(frozen=True)
class Edit:
    """One edit and what it did."""

    loss: float
    """Cross-entropy, nats."""
    accuracy: float
    """Fraction answered right."""


def component_ablation(
    edited: Mapping[str, Float[Tensor, "rows classes"]]
    | Iterator[tuple[str, Float[Tensor, "rows classes"]]],
    labels: Int[Tensor, " rows"],
) -> dict[str, Edit]:
    """Loss and accuracy of every named table of logits; one at a time, if they come as pairs."""
    tables = edited.items() if isinstance(edited, Mapping) else edited
    return {name: Edit(*judge(logits, labels)) for name, logits in tables}


def replace(x: Float[Tensor, "rows ..."], index: tuple[Any, ...], mode: str) -> Tensor:
    """x with `index` set to zero, or to its mean over rows."""
    changed = x.clone()
    changed[index] = x.mean(dim=0, keepdim=True).expand_as(x)[index] if mode == "mean" else 0
    return changed


def edits(
    checkpoint: Subject, rows: Int[Tensor, " rows"]
) -> Iterator[tuple[str, Float[Tensor, "rows classes"]]]:
    """(name, logits over all classes) of the original and of every edit, at the answer."""
    model = checkpoint.model
    block = record(checkpoint, rows)
    tokens = checkpoint.task.tokens[rows].to(model.embed.W_E.device)
    with torch.no_grad():
        yield ORIGINAL, block.logits()
        for layer in range(model.cfg.n_layers - 1):
            yield from _earlier_layer(model, tokens, layer)
        yield from _last_layer(block)
        yield "position zero", _without_positions(model, tokens)
        if not model.cfg.attn_only:
            yield "no skip path", block.logits(skip=False)


def _last_layer(block: LastBlock) -> Iterator[tuple[str, Tensor]]:
    layer, z = block.model.cfg.n_layers - 1, block.z()
    for head in range(block.model.cfg.n_heads):
        for mode in MODES:
            name = f"L{layer}H{head} {mode}"
            yield name, block.logits(replace(z, (slice(None), head), mode))
    mean = block.pattern.mean(dim=0, keepdim=True)
    yield f"L{layer} mean attention", block.logits(block.z(mean))


def _earlier_layer(model: Any, tokens: Tensor, layer: int) -> Iterator[tuple[str, Tensor]]:
    """The same by hooks, at every position, since later layers read them all."""
    for head in range(model.cfg.n_heads):
        index = (slice(None), slice(None), head)
        for mode in MODES:
            edit = partial(replace, index=index, mode=mode)
            name = f"blocks.{layer}.attn.hook_z"
            yield f"L{layer}H{head} {mode}", _hooked(model, tokens, name, edit)
    edit = partial(replace, index=(slice(None),), mode="mean")
    name = f"blocks.{layer}.attn.hook_pattern"
    yield f"L{layer} mean attention", _hooked(model, tokens, name, edit)


def _hooked(model: Any, tokens: Tensor, name: str, edit: Callable[[Tensor], Tensor]) -> Tensor:
    """Logits at the answer with one activation edited; all rows at once, as means need them."""
    hook = (name, lambda activation, hook: edit(activation))
    return model.run_with_hooks(tokens, fwd_hooks=[hook])[:, ANSWER]


def _without_positions(model: Any, tokens: Tensor) -> Tensor:
    # Imported here because it loads transformer_lens, which the pure functions do not need.
    from mechgrok.models.shared_prefix import answer_logits

    bare = copy.deepcopy(model)
    bare.pos_embed.W_pos.zero_()
    return torch.cat([answer_logits(bare, part) for part in tokens.split(8 * CHUNK)])


@typed_absence("component_ablation", "no skip path_loss", "position zero_loss", "original_loss")
def measure(checkpoint: Subject) -> Result:
    """Loss and accuracy without each component, headline the loss without the skip path.

    No options.
    """
    task = table_task(checkpoint)
    split, rows = solved_split(checkpoint)
    labels = task.labels[rows, 0].to(checkpoint.model.embed.W_E.device)
    found = component_ablation(edits(checkpoint, rows), labels)
    absent = NotApplicable("the model has attention only, so nothing skips an MLP")
    headline = found["no skip path"].loss if "no skip path" in found else absent
    values: dict[str, Value] = {"no skip path_loss": headline}
    for name, edit in found.items():
        values |= {f"{name}_loss": edit.loss, f"{name}_accuracy": edit.accuracy}
    return report("component_ablation", checkpoint, values, {**DEFINITION, "split": split})


def solved_split(checkpoint: Subject) -> tuple[str, Int[Tensor, " rows"]]:
    """The split that the model solves: test if its accuracy is >= .99, otherwise train."""
    task = table_task(checkpoint)
    logits, test = checkpoint.answer_logits[:, 0], task.splits["test"]
    correct = logits.argmax(dim=1).cpu() == task.labels[:, 0]
    if float(correct[test].double().mean()) >= SOLVED:
        return "test (solved: accuracy >= .99)", test
    return "train (test is not solved)", task.splits["train"]


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "head outputs (hook_z) zero or mean; attention (hook_pattern) fixed to its mean; "
    "position embedding zero; no skip path: the last stream is mlp_out alone",
    "centring": "none; means over the rows of the split",
    "dtype": "forward in the model's, loss in float64; all classes, '=' included",
}
