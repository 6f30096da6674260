"""openai/grok's equations (Power et al. 2022, arXiv 2201.02177): `<|eos|> a op b = c <|eos|>`.

A model reads all but the last token and is asked for the answer at "=" and for the closing
`<|eos|>` after it; the published loss averages both, the published accuracy wants both right. Rows
stand in the order of the table; the splits hold the published shuffle, which is the same for every
run unless `seeds.data` is changed.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from mechgrok.config import ConfigError, EquationTask, Seeds
from mechgrok.maths import groups, operations
from mechgrok.tasks._rows import END, Rows, n_train, twin_in_train

PUBLISHED: Final = 97
"""The modulus of openai/grok, which is part of its tokens' names."""

EOS: Final = END
"""First and last token of every equation."""

ANSWER: Final = (4, 5)
"""Positions of "=", where the answer is read, and of the answer, where the closing eos is."""

SYMBOLS: Final[Mapping[str, str]] = {
    "add": "+",
    "subtract": "-",
    "multiply": "*",
    "divide": "/",
    "x2_plus_y": "**2+",
    "x3_plus_y": "**3+",
    "x2_plus_y2": "x**2+y**2_mod_97",
    "x2_plus_xy_plus_y2": "x**2+y**2+x*y_mod_97",
    "x2_plus_xy_plus_y2_plus_x": "x**2+y**2+x*y+x_mod_97",
    "x3_plus_xy": "x**3+x*y_mod_97",
    "x3_plus_xy2_plus_y": "x**3+x*y**2+y_mod_97",
    "divide_or_subtract": "(x._value//y)if(y._value%2==1)else(x-y)_mod_97",
    "add_or_multiply": "+*",
    "add_or_subtract": "+-",
    "s5": "s5",
    "s5conj": "s5conj",
    "s5aba": "s5aba",
}
"""openai/grok's token of every operation, at its own modulus."""

ON_LISTS: Final = ("sort", "reverse", "copy")
"""Operations on lists, which have no working data as published; the task `sequences`."""

ON_S5: Final = {"s5": groups.product, "s5conj": groups.conjugate, "s5aba": groups.aba}
"""Operations on the permutations of 5 things."""


def symbols(modulus: int = PUBLISHED) -> dict[str, str]:
    """Token of every operation, which names the modulus where the published one does."""
    own = f"_mod_{modulus}"
    return {name: token.replace(f"_mod_{PUBLISHED}", own) for name, token in SYMBOLS.items()}


def vocabulary(modulus: int = PUBLISHED) -> tuple[str, ...]:
    """All tokens in the published order: 142 and the numbers."""
    return (
        EOS,
        "=",
        *sorted((*symbols(modulus).values(), *ON_LISTS)),
        *map(str, range(modulus)),
        *("".join(p) for p in itertools.permutations("01234")),
    )


VOCABULARY: Final = vocabulary()
"""The 239 published tokens."""


@dataclass(frozen=True, kw_only=True)
class Task(Rows):
    """One operation's whole table; see `make`."""

    config: EquationTask
    """The settings it was made from."""

    @classmethod
    def make(cls, config: EquationTask, seeds: Seeds) -> "Task":
        """The task of a config.

        Raises ConfigError for an unknown operation, a modulus below 3 or one at which it does not
        exist, a fraction that leaves a split empty, and more noisy equations than are trained on.
        """
        _check(config)
        known = vocabulary(config.modulus)
        a, b, answers = _table(config)
        n_train = _n_train(config, len(a))
        chance = np.random.RandomState(seeds.data)
        order = torch.from_numpy(chance.permutation(len(a)))  # as shuffling the list of equations
        noisy = _disturb(answers, order, config.noisy, chance)
        train, test = order[:n_train], order[n_train:]
        tokens = _tokens(config, known, a, b, answers)
        return cls(
            config=config,
            vocabulary=known,
            tokens=tokens[:, :-1],
            answer_positions=torch.tensor([ANSWER]).repeat(len(a), 1),
            labels=tokens[:, [at + 1 for at in ANSWER]],
            splits={"train": train, "test": test},
            d_vocab_out=len(known),
            tags={
                "a": a,
                "b": b,
                "twin_in_train": twin_in_train(len(known), a, b, train),
                "noisy": noisy,
            },
        )


def _table(config: EquationTask) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"], Int[Tensor, " n"]]:
    """Elements a, b and a o b in the order in which they are published."""
    operation, n = config.operation, config.modulus
    if operation in ON_S5:
        s5 = groups.group("S_5")
        a, b = torch.cartesian_prod(torch.arange(s5.order), torch.arange(s5.order)).T
        return a, b, ON_S5[operation](s5, a, b)
    numbers = torch.arange(n)
    first = int(operation in operations.NEEDS_NONZERO_B)
    a, b = torch.cartesian_prod(numbers, numbers[first:]).T
    if operation == "divide":  # listed by quotient and divisor
        a = operations.multiply(a, b, n)
    return a, b, operations.OPERATIONS[operation](a, b, n)


def _disturb(
    answers: Int[Tensor, " n"], order: Int[Tensor, " n"], noisy: int, chance: np.random.RandomState
) -> Int[Tensor, " n"]:
    """Give the first rows of the shuffle answers of rows drawn with replacement; 1 where given.

    A drawn answer may happen to be the right one.
    """
    drawn = torch.from_numpy(chance.randint(0, len(order), size=noisy))
    answers[order[:noisy]] = answers[order[drawn]]
    marked = torch.zeros_like(answers)
    marked[order[:noisy]] = 1
    return marked


def _tokens(
    config: EquationTask,
    known: tuple[str, ...],
    a: Int[Tensor, " n"],
    b: Int[Tensor, " n"],
    answers: Int[Tensor, " n"],
) -> Int[Tensor, "n 7"]:
    """Whole equations, with both eos."""
    zero = known.index("01234" if config.operation in ON_S5 else "0")
    symbol = symbols(config.modulus)[config.operation]
    eos, sign, equals = (torch.full_like(a, known.index(t)) for t in (EOS, symbol, "="))
    parts = [eos, a + zero, sign, b + zero, equals, answers + zero, eos]
    return torch.stack(parts, dim=1)


def _check(config: EquationTask) -> None:
    if config.operation in ON_LISTS:
        raise ConfigError(
            f"task.operation = {config.operation!r} is of lists: task.name = 'sequences'"
        )
    if config.operation not in SYMBOLS:
        own = {symbol: name for name, symbol in SYMBOLS.items()}.get(config.operation)
        near = [own] if own else get_close_matches(config.operation, SYMBOLS, n=3) or list(SYMBOLS)
        raise ConfigError(f"task.operation = {config.operation!r}; expected one of {near}")
    if config.modulus < 3:
        raise ConfigError(f"task.modulus = {config.modulus}; expected at least 3")
    if config.operation in operations.NEEDS_PRIME and not operations.is_prime(config.modulus):
        near = operations.next_prime(config.modulus)
        raise ConfigError(
            f"{config.operation} needs a prime task.modulus; {config.modulus} is composite: "
            f"try {near}"
        )


def _n_train(config: EquationTask, rows: int) -> int:
    wanted = n_train(config.frac_train, rows, "equations")
    if not 0 <= config.noisy <= wanted:
        raise ConfigError(
            f"task.noisy = {config.noisy}; expected 0 to {wanted}, the number of training equations"
        )
    return wanted
