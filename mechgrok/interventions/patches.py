"""A patch: a node and the values it is set to, in every row of a batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Int
from torch import Tensor

from mechgrok.interventions.ablation import Source, blend, matching, record
from mechgrok.interventions.frequencies import check_grid, frequency_part, rows_in
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
    grid: Int[Tensor, "pairs pos"] | None = None,
) -> list[Patch]:
    """Patches that take nodes from other tokens, or a cache, into the run of `tokens`.

    A node with a frequency swaps that part alone. The part is defined on the `grid` of all pairs,
    and each row has the one of its own pair; without a grid both runs must be in its order. Raises
    ValueError for a cache that lacks a hook point, and for rows that do not match.
    """
    kept = record(model, source, chosen)
    by_frequency = [node for node in chosen if node.freq is not None]
    own = record(model, tokens, by_frequency)
    parts = None if grid is None else _Parts(model, by_frequency, grid, source, tokens)
    found = []
    for node in chosen:
        new = node.read(kept[node.hook])
        if node.freq is not None:
            old = node.read(own[node.hook])
            new = parts.swapped(node, old) if parts else blend(node, old, matching(new, old, node))
        found.append(Patch(node, new))
        found[-1].check(tokens)
    return found


class _Parts:
    """Frequency parts of every pair, and which pair each row of two runs is."""

    def __init__(
        self, model: Any, chosen: Sequence[Node], grid: Tensor, source: Source, tokens: Tensor
    ) -> None:
        if not chosen:
            return
        if not isinstance(source, Tensor):
            raise ValueError("a frequency needs the other run's tokens, not a cache: see mg.patch")
        check_grid(grid)
        self.tables = record(model, grid, chosen)
        self.into, self.out_of = rows_in(grid, tokens), rows_in(grid, source)

    def swapped(self, node: Node, old: Tensor) -> Tensor:
        """The slice with the frequency of the source's pair instead of its own pair's."""
        part = frequency_part(node.read(self.tables[node.hook]), [node.freq or 0])
        return old - part[self.into] + part[self.out_of]


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
