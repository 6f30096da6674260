"""All pairs of Z_n under one operation: a o b = c mod n, as tokens (a, b, =).

Rows are lexicographic, row a*n + b. The answer is read at the last position.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

import torch
from jaxtyping import Int
from torch import Tensor

from mechgrok.config import BinaryTask, ConfigError, Seeds
from mechgrok.maths import operations
from mechgrok.tasks._pairs import pair_rows
from mechgrok.tasks._rows import Rows

RANDOM_LABELS: Final = "random_labels"
"""The operation without structure: a fixed random answer per pair."""


@dataclass(frozen=True, kw_only=True)
class Task(Rows):
    """One operation's whole table; see `make`."""

    config: BinaryTask
    """The settings it was made from."""
    n: int
    """Size of Z_n."""
    renamed: Int[Tensor, " n"]
    """Token id of each element of Z_n; the identity unless `relabel`."""

    @classmethod
    def make(cls, config: BinaryTask, seeds: Seeds) -> "Task":
        """The task of a config.

        Raises ConfigError for n < 3, an unknown operation or split, divide at composite n, and a
        training fraction that leaves a split empty.
        """
        _check(config)
        a, b = _pairs(config)
        answers = _answers(config, a, b, seeds.labels)
        names = [str(element) for element in range(config.n)]
        return cls(config=config, n=config.n, **pair_rows(config, seeds, names, a, b, answers))


def _check(config: BinaryTask) -> None:
    known = [*operations.OPERATIONS, RANDOM_LABELS]
    if config.n < 3:
        raise ConfigError(f"task.n = {config.n}; expected at least 3")
    if config.operation not in known:
        near = get_close_matches(config.operation, known, n=3) or known
        raise ConfigError(f"task.operation = {config.operation!r}; expected one of {near}")
    if config.operation in operations.NEEDS_PRIME and not operations.is_prime(config.n):
        near = operations.next_prime(config.n)
        raise ConfigError(
            f"{config.operation} needs a prime task.n; {config.n} is composite: try {near}"
        )


def _pairs(config: BinaryTask) -> tuple[Int[Tensor, " rows"], Int[Tensor, " rows"]]:
    values = torch.arange(config.n)
    first = int(config.operation in operations.NEEDS_NONZERO_B)
    pairs = torch.cartesian_prod(values, values[first:])
    return pairs[:, 0], pairs[:, 1]


def _answers(
    config: BinaryTask, a: Int[Tensor, " rows"], b: Int[Tensor, " rows"], seed: int
) -> Int[Tensor, " rows"]:
    if config.operation == RANDOM_LABELS:
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(config.n, a.shape, generator=generator)
    return operations.OPERATIONS[config.operation](a, b, config.n)
