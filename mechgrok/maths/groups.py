"""Finite groups by name: C_n, D_n, A_n and S_n, as tables of element numbers.

A product a b means: first a, then b, so (a b)(i) = b(a(i)) for permutations. openai/grok, sympy and
the released models of Chughtai et al. (2023) multiply in this order too.
"""

import itertools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Int
from torch import Tensor

LARGEST: Final = 1_000
"""Most elements a group may have: its table has the square of it."""


@dataclass(frozen=True)
class Group:
    """Elements 0..order-1; 0 is the identity."""

    name: str
    """Such as D_59 or S_5."""
    elements: tuple[str, ...]
    """What each element is called: a number (C_n), r3 or sr3 (D_n), 20134 (A_n, S_n)."""
    table: Int[Tensor, "order order"]
    """Number of the product a b at [a, b]."""
    inverse: Int[Tensor, " order"]
    """Number of each element's inverse."""

    @property
    def order(self) -> int:
        """Number of elements."""
        return len(self.elements)


def group(name: str) -> Group:
    """The group of a name such as C_113, D_59, A_5 or S_5.

    Raises ValueError for any other name and, before anything is built, for a group of more than
    `LARGEST` elements.
    """
    kind, n = _parse(name)
    elements, table = _MAKERS[kind](n)
    return Group(name, elements, table, (table == 0).int().argmax(dim=1))


def order(name: str) -> int:
    """Number of elements of the group of a name; errors as `group`."""
    kind, n = _parse(name)
    return _ORDERS[kind](n)


def product(of: Group, a: Int[Tensor, " rows"], b: Int[Tensor, " rows"]) -> Int[Tensor, " rows"]:
    """The product a b."""
    return of.table[a, b]


def conjugate(of: Group, a: Int[Tensor, " rows"], b: Int[Tensor, " rows"]) -> Int[Tensor, " rows"]:
    """The product a b a^-1."""
    return of.table[of.table[a, b], of.inverse[a]]


def aba(of: Group, a: Int[Tensor, " rows"], b: Int[Tensor, " rows"]) -> Int[Tensor, " rows"]:
    """The product a b a."""
    return of.table[of.table[a, b], a]


def _parse(name: str) -> tuple[str, int]:
    """Kind and n of a name that can be built."""
    found = re.fullmatch(r"([CDAS])_([1-9]\d*)", name)
    if found is None:
        raise ValueError(f"unknown group {name!r}; expected C_n, D_n, A_n or S_n, such as S_5")
    kind, n = found[1], int(found[2])
    fits = max(m for m in range(1, LARGEST + 1) if _is_small(kind, m))
    if n > fits:
        raise ValueError(
            f"{name} has too many elements: a table has at most {LARGEST:,} rows and columns; "
            f"expected {kind}_{fits} at most"
        )
    return kind, n


def _is_small(kind: str, n: int) -> bool:
    return (kind in "CD" or n <= 10) and _ORDERS[kind](n) <= LARGEST


_ORDERS: Final[Mapping[str, Callable[[int], int]]] = {
    "C": lambda n: n,
    "D": lambda n: 2 * n,
    "A": lambda n: max(1, math.factorial(n) // 2),
    "S": math.factorial,
}

Table = tuple[tuple[str, ...], Int[Tensor, "order order"]]


def _cyclic(n: int) -> Table:
    """0..n-1 under addition mod n."""
    k = torch.arange(n)
    return tuple(map(str, range(n))), (k[:, None] + k) % n


def _dihedral(n: int) -> Table:
    """Symmetries of the n-gon: r^i is number i, s r^i number n + i; r s = s r^-1."""
    k = torch.arange(2 * n)
    flip, turn = k // n, k % n
    turned = torch.where(flip[None, :] == 1, -turn[:, None], turn[:, None]) + turn[None, :]
    table = n * (flip[:, None] ^ flip[None, :]) + turned % n
    return tuple(f"{kind}{i}" for kind in ("r", "sr") for i in range(n)), table


def _symmetric(n: int) -> Table:
    """All permutations of 0..n-1 in lexicographic order."""
    return _of_permutations(list(itertools.permutations(range(n))))


def _alternating(n: int) -> Table:
    """The even permutations in lexicographic order."""
    every = itertools.permutations(range(n))
    return _of_permutations([p for p in every if _is_even(p)])


def _is_even(permutation: tuple[int, ...]) -> bool:
    pairs = itertools.combinations(permutation, 2)
    return sum(x > y for x, y in pairs) % 2 == 0


def _of_permutations(listed: list[tuple[int, ...]]) -> Table:
    """The table of permutations that are closed under products and sorted."""
    each = torch.tensor(listed)
    digits = each.shape[1] ** torch.arange(each.shape[1] - 1, -1, -1)
    first_then = each.T[each]  # [a, i, b] = b(a(i))
    numbers = torch.einsum("aib,i->ab", first_then, digits)
    table = torch.searchsorted((each * digits).sum(dim=1), numbers)
    return tuple("".join(map(str, p)) for p in listed), table


_MAKERS: Final[Mapping[str, Callable[[int], Table]]] = {
    "C": _cyclic,
    "D": _dihedral,
    "A": _alternating,
    "S": _symmetric,
}
