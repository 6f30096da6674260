"""Finite groups against their axioms, known orders and known numbers of commuting pairs."""

import math
import tracemalloc
from itertools import permutations

import pytest
import torch

from mechgrok.maths.groups import LARGEST, Group, aba, conjugate, group, order, product

SMALL = [
    *(f"C_{n}" for n in range(1, 9)), *(f"D_{n}" for n in range(1, 9)),
    *(f"A_{n}" for n in range(1, 6)), *(f"S_{n}" for n in range(1, 6)),
]  # fmt: skip


def axioms(of: Group) -> list[str]:
    """Axioms that do not hold."""
    n, table = of.order, of.table
    k = torch.arange(n)
    holds = {
        "closed": bool(((table >= 0) & (table < n)).all()),
        "identity 0": torch.equal(table[0], k) and torch.equal(table[:, 0], k),
        "associative": torch.equal(table[table], table[:, table]),
        "inverse": torch.equal(table[k, of.inverse], torch.zeros_like(k))
        and torch.equal(table[of.inverse, k], torch.zeros_like(k)),
        "named apart": len(set(of.elements)) == n,
    }
    return [name for name, fine in holds.items() if not fine]


@pytest.mark.parametrize("name", SMALL)
def test_axioms(name: str) -> None:
    assert axioms(group(name)) == []


def test_a_wrong_product_breaks_the_axioms() -> None:
    of = group("D_4")
    of.table[3, 5], of.table[3, 6] = of.table[3, 6].clone(), of.table[3, 5].clone()
    assert "associative" in axioms(of)


@pytest.mark.parametrize("name", SMALL)
def test_order_is_known_without_the_table(name: str) -> None:
    kind, n = name[0], int(name[2:])
    known = {
        "C": n, "D": 2 * n, "A": max(1, math.factorial(n) // 2), "S": math.factorial(n),
    }[kind]  # fmt: skip
    assert order(name) == group(name).order == len(group(name).table) == known


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("C_7", 7),
        ("D_5", 4),
        ("D_6", 6),
        ("A_4", 4),
        ("A_5", 5),
        ("S_4", 5),
        ("S_5", 7),
        ("D_2", 4),
    ],
)
def test_commuting_pairs_are_order_times_conjugacy_classes(name: str, classes: int) -> None:
    """Number of (a, b) with a b = b a: |G| times the number of classes (Burnside)."""
    of = group(name)
    assert int((of.table == of.table.T).sum()) == of.order * classes


def test_cyclic_is_addition() -> None:
    k = torch.arange(113)
    assert torch.equal(group("C_113").table, (k[:, None] + k[None, :]) % 113)


def test_dihedral_turns_and_flips() -> None:
    """Against matrices: rotation by 2 pi / 5 and a reflection, multiplied from left to right."""
    of = group("D_5")
    turn = torch.tensor(2 * math.pi / 5, dtype=torch.float64)
    r = torch.stack([turn.cos(), -turn.sin(), turn.sin(), turn.cos()]).reshape(2, 2)
    s = torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))
    each = torch.stack(
        [torch.matrix_power(s, f) @ torch.matrix_power(r, i) for f in (0, 1) for i in range(5)]
    )
    assert of.elements[3:7] == ("r3", "r4", "sr0", "sr1")
    products = each[:, None] @ each[None, :]
    torch.testing.assert_close(products, each[of.table])


def test_permutations_apply_the_first_factor_first() -> None:
    of = group("S_4")
    listed = list(permutations(range(4)))
    assert of.elements == tuple("".join(map(str, p)) for p in listed)
    for a, p in enumerate(listed):
        for b, q in enumerate(listed):
            assert listed[int(of.table[a, b])] == tuple(q[p[i]] for i in range(4))


def test_cosets_multiply_as_signs() -> None:
    for name in ("D_7", "S_5"):
        of = group(name)
        assert int(of.coset.sum()) * 2 == of.order
        assert torch.equal(of.coset[of.table], of.coset[:, None] ^ of.coset[None, :])
    assert not group("A_5").coset.any()
    assert not group("C_6").coset.any()


def test_words_in_two_letters() -> None:
    of = group("S_4")
    a, b = torch.cartesian_prod(torch.arange(24), torch.arange(24)).T
    assert torch.equal(product(of, conjugate(of, a, b), a), product(of, a, b))
    assert torch.equal(product(of, of.inverse[a], aba(of, a, b)), product(of, b, a))


@pytest.mark.parametrize("name", ["S5", "s_5", "S_0", "S_-1", "Q_8", "D_", "", "S_5 ", "C_1.5"])
def test_an_unknown_name_says_what_is_expected(name: str) -> None:
    with pytest.raises(ValueError, match=r"expected C_n, D_n, A_n or S_n"):
        group(name)


@pytest.mark.parametrize(
    ("name", "largest"),
    [
        ("S_7", "S_6"), ("S_1000000000", "S_6"), ("A_7", "A_6"), ("D_501", "D_500"),
        ("C_1001", "C_1000"),
    ],
)  # fmt: skip
def test_too_large_a_group_is_refused_before_memory_is_used(name: str, largest: str) -> None:
    tracemalloc.start()
    with pytest.raises(ValueError, match=f"{name} has too many elements.*{largest} at most"):
        group(name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
    assert order(largest) <= LARGEST
