"""Random matrices with given singular values."""

import pytest
import torch

from mechgrok.maths.spectrum import random_orthonormal, spectrum_matched


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(3, 8), (8, 3), (5, 5), (2, 6, 4)])
def test_singular_values_stay_and_directions_do_not(shape: tuple[int, ...]) -> None:
    weight = torch.randn(*shape, generator=chance(1), dtype=torch.float64)
    found = spectrum_matched(weight, chance())
    values = torch.linalg.svdvals(weight)
    torch.testing.assert_close(torch.linalg.svdvals(found), values, rtol=0, atol=1e-12)
    overlap = (found * weight).sum() / weight.square().sum()
    assert abs(float(overlap)) < 0.9
    assert not torch.equal(spectrum_matched(weight, chance(2)), found)
    assert torch.equal(spectrum_matched(weight, chance()), found)


def test_rank_one_stays_rank_one() -> None:
    weight = torch.outer(torch.arange(4.0), torch.arange(6.0))
    found = spectrum_matched(weight, chance())
    assert found.dtype == torch.float32
    assert float(torch.linalg.svdvals(found)[1]) < 1e-5
    assert float(found.norm()) == pytest.approx(float(weight.norm()), rel=1e-6)


def test_columns_are_orthonormal_and_uniform() -> None:
    q = random_orthonormal(6, 4, chance())
    torch.testing.assert_close(q.T @ q, torch.eye(4, dtype=q.dtype), rtol=0, atol=1e-12)
    draws = torch.stack([random_orthonormal(3, 3, chance(i))[:, 0] for i in range(400)])
    assert float(draws.mean(dim=0).abs().max()) < 0.1  # QR without the signs has a mean of -.5
    torch.testing.assert_close(
        draws.square().mean(dim=0), torch.full((3,), 1 / 3, dtype=q.dtype), rtol=0, atol=0.06
    )


def test_what_has_no_spectrum_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got shape \[4\]"):
        spectrum_matched(torch.zeros(4), chance())
    with pytest.raises(ValueError, match="at least as many as the 4 columns"):
        random_orthonormal(3, 4, chance())
