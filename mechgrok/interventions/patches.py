"""A patch: a node and the values it is set to, in every row of a batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Int
from torch import Tensor

from mechgrok.interventions.ablation import Source, blend, matching, record
from mechgrok.interventions.node import Node

Variant = Sequence["Patch"]
"""What is patched at once in one run."""


@dataclass(frozen=True, eq=False)
class Patch:
    """A node and what it becomes."""

    node: Node
    values: Tensor
    """Its slice [batch, ...] in every row of the batch, a frequency already blended in."""

    def check(self, tokens: Int[Tensor, "batch pos"]) -> None:
        """Raise ValueError unless there is a value for each row."""
        if len(self.values) != len(tokens):
            raise ValueError(
                f"{self.node.name}: {len(self.values)} rows of values for {len(tokens)} of tokens; "
                f"pass clean and corrupted rows in pairs"
            )

    def touches(self, position: int) -> bool:
        """Whether it changes a position."""
        return self.node.position in (None, position)

    def at(self, position: int) -> Tensor:
        """Values at one position, [batch, ...]."""
        return self.values if self.node.position is not None else self.values[:, position]


def patches_from(
    model: Any,
    chosen: Sequence[Node],
    source: Source,
    tokens: Int[Tensor, "batch pos"],
) -> list[Patch]:
    """Patches that take nodes from other tokens, or a cache, into the run of `tokens`.

    A node with a frequency is blended with that run's own activation. Raises ValueError for a cache
    that lacks a hook point, and for rows that do not match.
    """
    kept = record(model, source, chosen)
    own = record(model, tokens, [node for node in chosen if node.freq is not None])
    found = []
    for node in chosen:
        new = node.read(kept[node.hook])
        if node.freq is not None:
            old = node.read(own[node.hook])
            new = blend(node, old, matching(new, old, node))
        found.append(Patch(node, new))
        found[-1].check(tokens)
    return found


def hooks(variant: Variant) -> list[tuple[str, Callable[..., Tensor]]]:
    """Hooks that apply the patches to a run of the batch, in their order."""
    return [(patch.node.hook, _setter(patch)) for patch in variant]


def _setter(patch: Patch) -> Callable[..., Tensor]:
    def hooked(activation: Tensor, hook: Any) -> Tensor:
        changed = activation.clone()
        values = patch.values.to(changed.dtype)
        changed[patch.node.index] = matching(values, patch.node.read(changed), patch.node)
        return changed

    return hooked
