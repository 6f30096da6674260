"""What tasks of all pairs (a, b) share: their rows (a, b, =), renamed tokens and splits.

Splits follow the published code: `nanda2023` shuffles the list of rows with Python's generator
(Nanda et al. 2023), `torch_randperm` permutes it with torch's (TransformerLens Grokking_Demo).
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from jaxtyping import Int
from torch import Tensor

from mechgrok.config import BinaryTask, ConfigError, GroupTask, Seeds
from mechgrok.tasks._rows import twin_in_train

ANSWER: Final = 2
"""Position of "=", where the answer is read."""


def pair_rows(
    config: BinaryTask | GroupTask,
    seeds: Seeds,
    names: Sequence[str],
    a: Int[Tensor, " rows"],
    b: Int[Tensor, " rows"],
    answers: Int[Tensor, " rows"],
) -> dict[str, Any]:
    """Fields of a `Rows` with tokens (a, b, =), and `renamed`: the token id of each element.

    Raises ConfigError for an unknown split and a training fraction that leaves a split empty.
    """
    n = len(names)
    renamed = torch.arange(n)
    if config.relabel:
        renamed = torch.randperm(n, generator=torch.Generator().manual_seed(seeds.relabel))
    train, test = split(config, a, b, seeds.data)
    return {
        "renamed": renamed,
        "vocabulary": (*(names[element] for element in torch.argsort(renamed).tolist()), "="),
        "tokens": torch.stack([renamed[a], renamed[b], torch.full_like(a, n)], dim=1),
        "answer_positions": torch.full((len(a), 1), ANSWER),
        "labels": renamed[answers][:, None],
        "splits": {"train": train, "test": test},
        "d_vocab_out": n + (config.outputs == "tokens"),
        "tags": {"a": a, "b": b, "twin_in_train": twin_in_train(n, a, b, train)},
    }


def split(
    config: BinaryTask | GroupTask, a: Int[Tensor, " rows"], b: Int[Tensor, " rows"], seed: int
) -> tuple[Int[Tensor, " train"], Int[Tensor, " test"]]:
    """Training and test rows; errors as `pair_rows`."""
    _check_split(config)
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


def _check_split(config: BinaryTask | GroupTask) -> None:
    """Raise ConfigError for an unknown split or a training fraction outside (0, 1)."""
    if config.split not in SPLITS:
        raise ConfigError(f"task.split = {config.split!r}; expected one of {list(SPLITS)}")
    if not 0 < config.frac_train < 1:
        raise ConfigError(
            f"task.frac_train = {config.frac_train}; expected a share strictly between 0 and 1"
        )


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
