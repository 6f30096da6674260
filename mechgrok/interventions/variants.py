"""Many patched runs of one batch: the variants of a grid, stacked along the batch.

A variant is a list of patches; `logits` runs all of them on the same tokens. Where the model allows
it each variant starts at the first layer and position it changes (`prefixes.py`); any other hooked
model runs its whole forward on the stack.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechgrok.interventions import prefixes
from mechgrok.interventions.ablation import matching
from mechgrok.interventions.coverage import applies, has_hooks
from mechgrok.interventions.metrics import Metric
from mechgrok.interventions.patches import Patch, Variant

STACK: Final = 8192
"""Rows of one forward pass of the whole model; bounds memory, changes no number."""

AnyMetric = Callable[[Tensor], Any]
"""A metric of logits [batch, pos, d_vocab]; a `Metric` says which position it reads."""


@dataclass(frozen=True)
class _Part:
    """A stretch of the stack: one variant's rows."""

    variant: Variant
    rows: slice
    """Of the batch."""
    at: slice
    """In the stack."""


def measure(
    model: Any, tokens: Int[Tensor, "batch pos"], variants: Sequence[Variant], metric: AnyMetric
) -> Float[Tensor, " variants"]:
    """The metric of every variant, in the dtype the metric has; no gradient is kept."""
    with torch.no_grad():
        if isinstance(metric, Metric):
            runs = logits(model, tokens, variants, (metric.position % tokens.shape[1],))
            values = [metric.rows(run[:, 0]).mean() for run in runs]
        else:
            runs = logits(model, tokens, variants, tuple(range(tokens.shape[1])))
            values = [torch.as_tensor(metric(run)) for run in runs]
    return torch.stack(values) if values else torch.zeros(0)


def logits(
    model: Any,
    tokens: Int[Tensor, "batch pos"],
    variants: Sequence[Variant],
    positions: Sequence[int],
) -> Iterator[Float[Tensor, "batch positions d_vocab_out"]]:
    """Logits at the given positions, of one variant after the other."""
    for variant in variants:
        for patch in variant:
            patch.check(tokens)
    if applies(model, variants):
        yield from prefixes.logits(model, tokens, variants, positions)
        return
    # a hook that is already there may look at the whole batch (a mean): run that as it is
    rows = len(tokens) if has_hooks(model) else STACK
    each = max(1, rows // len(tokens))
    for start in range(0, len(variants), each):
        yield from _stacked(model, tokens, variants[start : start + each], positions, rows)


def _stacked(
    model: Any,
    tokens: Int[Tensor, "batch pos"],
    variants: Sequence[Variant],
    positions: Sequence[int],
    limit: int,
) -> Iterator[Tensor]:
    found: list[list[Tensor]] = [[] for _ in variants]
    for first in range(0, len(tokens), limit):
        rows = slice(first, min(first + limit, len(tokens)))
        size = rows.stop - rows.start
        parts = [_Part(v, rows, slice(i * size, (i + 1) * size)) for i, v in enumerate(variants)]
        with model.hooks(fwd_hooks=_hooks(parts)):
            out = model(tokens[rows].repeat(len(variants), 1))[:, list(positions)]
        for kept, part in zip(found, parts, strict=True):
            kept.append(out[part.at])
    for kept in found:
        yield torch.cat(kept)


def _hooks(parts: Sequence[_Part]) -> list[tuple[str, Callable[..., Tensor]]]:
    by_hook: dict[str, list[tuple[_Part, Patch]]] = {}
    for part in parts:
        for patch in part.variant:
            by_hook.setdefault(patch.node.hook, []).append((part, patch))
    return [(name, _write(work)) for name, work in by_hook.items()]


def _write(work: Sequence[tuple[_Part, Patch]]) -> Callable[..., Tensor]:
    def hooked(activation: Tensor, hook: Any) -> Tensor:
        changed = activation.clone()
        for part, patch in work:
            own = changed[part.at]
            values = patch.values[part.rows].to(own.dtype)
            own[patch.node.index] = matching(values, patch.node.read(own), patch.node)
        return changed

    return hooked
