"""A perturbation is relative, per weight, in the documented order, and equal for equal seeds."""

import pytest
import torch
from torch import nn

from mechgrok.interventions.perturbation import perturb


class Two(nn.Module):
    """Two tensors, the second registered first by name but not by order."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.z = nn.Parameter(torch.full((300, 100), 2.0, dtype=dtype))
        self.a = nn.Parameter(torch.tensor([0.0, -5.0], dtype=dtype), requires_grad=False)


def seeded(seed: int = 100) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_normals_are_drawn_tensor_by_tensor_in_the_order_of_named_parameters() -> None:
    model, generator = Two(), seeded()
    first = torch.randn(300, 100, generator=generator)
    second = torch.randn(2, generator=generator)
    perturb(model, 1e-3, seeded())
    torch.testing.assert_close(model.z, 2 * (1 + 1e-3 * first), rtol=0, atol=0)
    torch.testing.assert_close(model.a, torch.tensor([0.0, -5.0]) * (1 + 1e-3 * second))
    assert model.a[0] == 0  # relative: what is 0 stays 0


@pytest.mark.parametrize("scale", [1e-4, 1e-2])
def test_the_relative_distance_is_the_scale(scale: float) -> None:
    model, before = Two(torch.float64), Two(torch.float64)
    perturb(model, scale, seeded())
    moved = float((model.z - before.z).detach().norm() / before.z.detach().norm())
    # chi-squared over 30,000 entries: standard deviation 1 / sqrt(60,000) = 0.4 %
    assert moved == pytest.approx(scale, rel=0.02)


def test_seeds_differ_and_types_do_not() -> None:
    single, double, other = Two(), Two(torch.float64), Two()
    perturb(single, 1e-3, seeded())
    perturb(double, 1e-3, seeded())
    perturb(other, 1e-3, seeded(101))
    torch.testing.assert_close(single.z.double(), double.z, rtol=1e-6, atol=0)
    assert not torch.equal(single.z, other.z)


@pytest.mark.parametrize("scale", [0.0, -1e-3, float("nan"), float("inf")])
def test_a_scale_that_changes_nothing_or_everything_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="expected a positive number"):
        perturb(Two(), scale, seeded())
