"""Parts of a table by frequency: orthogonal, complete, and what their names say."""

import itertools as it

import pytest
import torch
from measures.closed_forms import noise, sums

from mechgrok.maths import pair_terms
from mechgrok.maths.fourier import project_sums, to_fourier_2d


@pytest.mark.parametrize(("p", "keys"), [(7, (1, 3)), (8, (2, 4)), (11, ()), (9, (1, 2, 3, 4))])
def test_parts_add_up_and_are_orthogonal(p: int, keys: tuple[int, ...]) -> None:
    table = noise(p * p, 5)
    parts = pair_terms.split_by_frequency(table, p, keys)
    assert tuple(parts) == pair_terms.split_names(keys)
    assert torch.allclose(sum(parts.values(), torch.zeros(1)), table, atol=1e-12)
    for x, y in it.combinations(parts.values(), 2):
        assert float((x * y).sum().abs()) < 1e-10
    again = pair_terms.split_by_frequency(parts["non-key"], p, keys)
    assert torch.allclose(again["non-key"], parts["non-key"], atol=1e-12)


@pytest.mark.parametrize(("p", "k"), [(7, 3), (8, 3), (8, 4)])
def test_terms_are_blocks_of_the_2d_spectrum(p: int, k: int) -> None:
    table = noise(p * p, 3)
    own = [i for i in range(p) if (i + 1) // 2 == k]
    power = to_fourier_2d(table.unflatten(0, (p, p))).square().sum(dim=2)
    products = pair_terms.product_terms(table, p, [k]).square().sum()
    assert products == pytest.approx(float(power[own][:, own].sum()), abs=1e-10)
    linear = pair_terms.linear_terms(table, p, [k]).square().sum()
    assert linear == pytest.approx(float(power[own, 0].sum() + power[0, own].sum()), abs=1e-10)
    kept = pair_terms.product_terms(table, p, [k])
    assert torch.allclose(project_sums(kept, p, [k]), project_sums(table, p, [k]), atol=1e-12)


def test_a_function_of_the_sum_is_named_so() -> None:
    p = 11
    wave = torch.cos(2 * torch.pi * 4 / p * sums(p).double())[:, None]
    parts = pair_terms.split_by_frequency(wave, p, [2, 4])
    assert torch.allclose(parts["sum 4"], wave, atol=1e-12)
    assert all(float(x.norm()) < 1e-10 for name, x in parts.items() if name != "sum 4")


def test_bad_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="all p\\*p"):
        pair_terms.split_by_frequency(noise(48, 3), 7, [1])
    with pytest.raises(ValueError, match=r"1\.\.3"):
        pair_terms.split_by_frequency(noise(49, 3), 7, [4])
