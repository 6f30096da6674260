"""Rows held once: the same rows come back, whatever they are."""

import pytest
import torch

from mechgrok.interventions.distinct import by_value, combinations


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_equal_rows_are_held_once_and_come_back(dtype: torch.dtype) -> None:
    chance = torch.Generator().manual_seed(0)
    few = torch.randn(5, 24, generator=chance).to(dtype)
    x = few[torch.randint(5, (40,), generator=chance)]
    rows = torch.randint(40, (100,), generator=chance)
    held = by_value(x, rows)
    assert len(held.kept) == 5
    assert torch.equal(held.take(torch.arange(100)), x[rows])


@pytest.mark.parametrize("column", range(24))
def test_rows_that_differ_in_one_column_are_told_apart(column: int) -> None:
    x = torch.zeros(4, 24)
    x[1:3, column] = 1.0
    assert torch.equal(by_value(x, torch.arange(4)).take(torch.arange(4)), x)


def test_every_combination_once_also_where_codes_would_overflow() -> None:
    a, b = torch.tensor([0, 1, 0, 1, 0]), torch.tensor([2, 2, 2, 0, 1])
    big = torch.tensor([2**40, 5, 2**40, 5, 5])
    first, index = combinations([a, b, big, big, b * 2**20])
    assert len(first) == 4
    assert index[0] == index[2]
    assert torch.equal(a[first][index], a)
    assert torch.equal(b[first][index], b)
    assert torch.equal(big[first][index], big)
