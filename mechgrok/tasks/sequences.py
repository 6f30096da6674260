"""Lists of distinct numbers, sorted, reversed or copied: `<|eos|> sort 5 3 = 3 5 <|eos|>`.

openai/grok (Power et al. 2022) has the three operations' tokens and a layout, and fails to make
their data; here it is made as its unused helper would: every ordered choice of `length` numbers,
shuffled like its equations. A model is asked for every number of the result and the closing eos.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from mechgrok.config import ConfigError, Seeds, SequencesTask
from mechgrok.tasks._rows import Rows, n_train
from mechgrok.tasks.equation import EOS, ON_LISTS, PUBLISHED, VOCABULARY

LENGTHS: Final = (2, 3)
"""Published sizes of a list."""


@dataclass(frozen=True, kw_only=True)
class Task(Rows):
    """All lists of one length; see `make`."""

    config: SequencesTask
    """The settings it was made from."""

    @classmethod
    def make(cls, config: SequencesTask, seeds: Seeds) -> "Task":
        """The task of a config; the tag `twin_in_train` is 1 where another order is trained on.

        Raises ConfigError for an unknown operation, a length other than 2 or 3, numbers beyond the
        vocabulary, and a fraction that leaves a split empty.
        """
        _check(config)
        lists = _lists(config.n, config.length)
        wanted = n_train(config.frac_train, len(lists), "lists")
        order = torch.from_numpy(np.random.RandomState(seeds.data).permutation(len(lists)))
        train, test = order[:wanted], order[wanted:]
        tokens = _tokens(config.operation, lists)
        answers = range(config.length + 2, tokens.shape[1] - 1)  # from "=" on
        return cls(
            config=config,
            vocabulary=VOCABULARY,
            tokens=tokens[:, :-1],
            answer_positions=torch.tensor([*answers]).repeat(len(lists), 1),
            labels=tokens[:, answers[0] + 1 :],
            splits={"train": train, "test": test},
            d_vocab_out=len(VOCABULARY),
            tags={"twin_in_train": _twin_in_train(lists, config.n, train)},
        )


def _check(config: SequencesTask) -> None:
    if config.operation not in ON_LISTS:
        raise ConfigError(
            f"task.operation = {config.operation!r}; expected one of {list(ON_LISTS)}"
        )
    if config.length not in LENGTHS:
        raise ConfigError(f"task.length = {config.length}; expected one of {list(LENGTHS)}")
    if not config.length <= config.n <= PUBLISHED:
        raise ConfigError(
            f"task.n = {config.n}; expected {config.length} (the length of a list) to {PUBLISHED}"
        )


def _lists(n: int, length: int) -> Int[Tensor, "lists length"]:
    """Ordered choices of distinct numbers, in lexicographic order (itertools.permutations)."""
    every = torch.cartesian_prod(*[torch.arange(n)] * length)
    ordered = every.sort(dim=1).values
    return every[(ordered[:, 1:] != ordered[:, :-1]).all(dim=1)]


def _tokens(operation: str, lists: Int[Tensor, "lists length"]) -> Int[Tensor, "lists tokens"]:
    """Whole rows, with both eos."""
    results = {"sort": lists.sort(dim=1).values, "reverse": lists.flip(1), "copy": lists}
    eos, symbol, equals = (
        torch.full_like(lists[:, :1], VOCABULARY.index(token)) for token in (EOS, operation, "=")
    )
    zero = VOCABULARY.index("0")
    return torch.cat([eos, symbol, lists + zero, equals, results[operation] + zero, eos], dim=1)


def _twin_in_train(
    lists: Int[Tensor, "lists length"], n: int, train: Int[Tensor, " train"]
) -> Int[Tensor, " lists"]:
    """Whether the same numbers in another order are trained on."""
    digits = n ** torch.arange(lists.shape[1])
    items = (lists.sort(dim=1).values * digits).sum(dim=1)
    known = torch.zeros(len(lists), dtype=torch.long)
    known[train] = 1
    trained = torch.zeros(int(items.max()) + 1, dtype=torch.long).index_add(0, items, known)
    return (trained[items] > known).long()
