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

    coset: Int[Tensor, " order"]
    """0 in the subgroup of half the elements, 1 outside: rotations of D_n, even permutations of
    S_n; all 0 for C_n and A_n."""

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
    elements, table, coset = _MAKERS[kind](n)
    return Group(name, elements, table, (table == 0).int().argmax(dim=1), coset)


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

Made = tuple[tuple[str, ...], Int[Tensor, "order order"], Int[Tensor, " order"]]
"""Elements, table and coset."""


def _cyclic(n: int) -> Made:
    """0..n-1 under addition mod n."""
    k = torch.arange(n)
    return tuple(map(str, range(n))), (k[:, None] + k) % n, torch.zeros_like(k)


def _dihedral(n: int) -> Made:
    """Symmetries of the n-gon: r^i is number i, s r^i number n + i; r s = s r^-1."""
    k = torch.arange(2 * n)
    flip, turn = k // n, k % n
    turned = torch.where(flip[None, :] == 1, -turn[:, None], turn[:, None]) + turn[None, :]
    table = n * (flip[:, None] ^ flip[None, :]) + turned % n
    return tuple(f"{kind}{i}" for kind in ("r", "sr") for i in range(n)), table, flip


def _symmetric(n: int) -> Made:
    """All permutations of 0..n-1 in lexicographic order."""
    return _of_permutations(list(itertools.permutations(range(n))))


def _alternating(n: int) -> Made:
    """The even permutations in lexicographic order."""
    every = itertools.permutations(range(n))
    return _of_permutations([p for p in every if not _parity(p)])


def _parity(permutation: tuple[int, ...]) -> int:
    """0 for an even permutation, 1 for an odd one."""
    pairs = itertools.combinations(permutation, 2)
    return sum(x > y for x, y in pairs) % 2


def _of_permutations(listed: list[tuple[int, ...]]) -> Made:
    """The table of permutations that are closed under products and sorted."""
    each = torch.tensor(listed)
    digits = each.shape[1] ** torch.arange(each.shape[1] - 1, -1, -1)
    first_then = each.T[each]  # [a, i, b] = b(a(i))
    numbers = torch.einsum("aib,i->ab", first_then, digits)
    table = torch.searchsorted((each * digits).sum(dim=1), numbers)
    coset = torch.tensor([_parity(p) for p in listed])
    return tuple("".join(map(str, p)) for p in listed), table, coset


_MAKERS: Final[Mapping[str, Callable[[int], Made]]] = {
    "C": _cyclic,
    "D": _dihedral,
    "A": _alternating,
    "S": _symmetric,
}
