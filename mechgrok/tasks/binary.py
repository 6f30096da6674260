"""All pairs of Z_n under one operation: a o b = c mod n, as tokens (a, b, =).

Rows are lexicographic, row a*n + b. The answer is read at the last position. Splits follow the
published code: `nanda2023` shuffles the list of rows with Python's generator (Nanda et al. 2023),
`torch_randperm` permutes it with torch's (TransformerLens Grokking_Demo).
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

import torch
from jaxtyping import Int
from torch import Tensor

from mechgrok.config import BinaryTask, ConfigError, Seeds
from mechgrok.maths import operations
from mechgrok.tasks._rows import Rows, twin_in_train

ANSWER: Final = 2
"""Position of "=", where the answer is read."""

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
        renamed = _renamed(config, seeds.relabel)
        equals = torch.full_like(a, config.n)
        train, test = _split(config, a, b, seeds.data)
        return cls(
            config=config,
            n=config.n,
            renamed=renamed,
            vocabulary=(*_names(renamed), "="),
            tokens=torch.stack([renamed[a], renamed[b], equals], dim=1),
            answer_positions=torch.full((len(a), 1), ANSWER),
            labels=renamed[answers][:, None],
            splits={"train": train, "test": test},
            d_vocab_out=config.n + (config.outputs == "tokens"),
            tags={"a": a, "b": b, "twin_in_train": twin_in_train(config.n, a, b, train)},
        )


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
    if config.split not in SPLITS:
        raise ConfigError(f"task.split = {config.split!r}; expected one of {list(SPLITS)}")
    if not 0 < config.frac_train < 1:
        raise ConfigError(
            f"task.frac_train = {config.frac_train}; expected a share strictly between 0 and 1"
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


def _renamed(config: BinaryTask, seed: int) -> Int[Tensor, " n"]:
    if not config.relabel:
        return torch.arange(config.n)
    return torch.randperm(config.n, generator=torch.Generator().manual_seed(seed))


def _names(renamed: Int[Tensor, " n"]) -> list[str]:
    """The element of Z_n behind each token id."""
    return [str(element) for element in torch.argsort(renamed).tolist()]


def _nanda2023(a: Int[Tensor, " rows"], b: Int[Tensor, " rows"], seed: int) -> list[list[int]]:
    order = list(range(len(a)))
    random.Random(seed).shuffle(order)  # the same draws as shuffling the list of rows itself
    return [[row] for row in order]


def _torch_randperm(a: Int[Tensor, " rows"], b: Int[Tensor, " rows"], seed: int) -> list[list[int]]:
    order = torch.randperm(len(a), generator=torch.Generator().manual_seed(seed))
    return [[row] for row in order.tolist()]


def _symmetric(a: Int[Tensor, " rows"], b: Int[Tensor, " rows"], seed: int) -> list[list[int]]:
    """Twins (a, b) and (b, a) as one group, so that they fall on the same side."""
    groups: dict[tuple[int, int], list[int]] = {}
    for row, (x, y) in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
        groups.setdefault((min(x, y), max(x, y)), []).append(row)
    order = list(groups.values())
    random.Random(seed).shuffle(order)
    return order


SPLITS: Final[Mapping[str, Callable[..., list[list[int]]]]] = {
    "nanda2023": _nanda2023,
    "torch_randperm": _torch_randperm,
    "symmetric": _symmetric,
}


def _split(
    config: BinaryTask, a: Int[Tensor, " rows"], b: Int[Tensor, " rows"], seed: int
) -> tuple[Int[Tensor, " train"], Int[Tensor, " test"]]:
    wanted = int(config.frac_train * len(a))
    if not 0 < wanted < len(a):
        raise ConfigError(
            f"task.frac_train = {config.frac_train} leaves {wanted} of {len(a)} rows for training; "
            f"expected at least one row on each side"
        )
    train: list[int] = []
    test: list[int] = []
    for group in SPLITS[config.split](a, b, seed):
        (train if len(train) < wanted else test).extend(group)
    return torch.tensor(train, dtype=torch.long), torch.tensor(test, dtype=torch.long)
