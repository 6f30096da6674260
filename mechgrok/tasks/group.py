"""All pairs of a finite group: a b = c, as tokens (a, b, =); the product is first a, then b.

Rows are lexicographic, row a * order + b. The answer is read at the last position.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from mechgrok.config import ConfigError, GroupTask, Seeds
from mechgrok.maths import groups
from mechgrok.tasks._pairs import pair_rows
from mechgrok.tasks._rows import Rows


@dataclass(frozen=True, kw_only=True)
class Task(Rows):
    """A group's whole table; see `make`."""

    config: GroupTask
    """The settings it was made from."""
    group: groups.Group
    """Its elements, table and inverses."""
    renamed: Int[Tensor, " n"]
    """Token id of each element; the identity unless `relabel`."""

    @classmethod
    def make(cls, config: GroupTask, seeds: Seeds) -> "Task":
        """The task of a config; the tag `block` is 2 * coset of a + coset of b.

        Raises ConfigError for an unknown group, one of fewer than 3 or more than 1,000 elements, an
        unknown split, and a training fraction that leaves a split empty.
        """
        group = _group(config.group)
        a, b = torch.cartesian_prod(torch.arange(group.order), torch.arange(group.order)).T
        fields = pair_rows(config, seeds, group.elements, a, b, groups.product(group, a, b))
        fields["tags"]["block"] = 2 * group.coset[a] + group.coset[b]
        return cls(config=config, group=group, **fields)


def _group(name: str) -> groups.Group:
    try:
        order = groups.order(name)
        if order >= 3:
            return groups.group(name)
    except ValueError as error:
        raise ConfigError(f"task.group = {name!r}: {error}") from error
    raise ConfigError(f"task.group = {name!r} has order {order}; expected at least 3 elements")
