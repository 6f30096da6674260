"""Sharpness where the largest loss in the box is known, and of models."""

from typing import Any

import pytest
import torch
from measures.stand_in import StandIn, model, task, untrained
from torch import Tensor

from mechgrok import measures
from mechgrok.measures.sharpness import measure
from mechgrok.training.evaluation import evaluate
from mechgrok.training.losses import CrossEntropy, make

SLOPE = torch.randn(30, generator=torch.Generator().manual_seed(0)).double()
X = torch.randn(30, generator=torch.Generator().manual_seed(1)).double()


def linear(w: Tensor) -> tuple[float, Tensor]:
    return float(SLOPE @ w), SLOPE


def bowl(w: Tensor) -> tuple[float, Tensor]:
    return float((w - X).square().sum()), 2 * (w - X)


def test_a_linear_loss_rises_by_the_boxs_width_times_its_slope() -> None:
    found = measures.sharpness(linear, X, epsilon=0.1, directions=0)
    rise = float((0.1 * (X.abs() + 1) * SLOPE.abs()).sum())
    assert found.largest_loss - found.loss == pytest.approx(rise, rel=1e-9)
    assert found.sharpness == pytest.approx(100 * rise / (1 + float(SLOPE @ X)), rel=1e-9)


def test_a_minimum_is_left_and_its_corner_found() -> None:
    """The gradient at the weights is 0, so a start there alone would find nothing."""
    found = measures.sharpness(bowl, X, epsilon=0.1, directions=0)
    assert found.largest_loss == pytest.approx(float((0.1 * (X.abs() + 1)).square().sum()))


def test_as_many_directions_as_weights_reach_everywhere() -> None:
    """The box of all directions holds that of the first three, so its largest loss is larger."""
    found = measures.sharpness(linear, X, epsilon=0.1, directions=30, seed=2)
    assert found.largest_loss > found.loss
    fewer = measures.sharpness(linear, X, epsilon=0.1, directions=3, seed=2)
    assert 0 < fewer.largest_loss - fewer.loss < found.largest_loss - found.loss


def test_a_scaled_loss_is_climbed_as_well() -> None:
    def tiny(w: Tensor) -> tuple[float, Tensor]:
        return 1e-12 * float(SLOPE @ w), 1e-12 * SLOPE

    whole, small = (measures.sharpness(f, X, directions=0) for f in (linear, tiny))
    assert (small.largest_loss - small.loss) / (whole.largest_loss - whole.loss) == pytest.approx(
        1e-12, rel=1e-6
    )


@pytest.mark.parametrize(
    "wrong", [{"epsilon": 0.0}, {"directions": 31}, {"directions": -1}, {"iterations": 0}]
)
def test_settings_out_of_range_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        measures.sharpness(linear, X, **wrong)
    with pytest.raises(ValueError, match="nan; expected a finite number"):
        measures.sharpness(lambda w: (float("nan"), w), X)


def test_of_an_untrained_model_the_loss_is_the_training_loss() -> None:
    checkpoint = untrained(7)
    before = {n: p.detach().clone() for n, p in checkpoint.model.named_parameters()}
    found = measure(checkpoint)
    loss = make(CrossEntropy())
    expected = evaluate(checkpoint.model, checkpoint.task, loss, "train", "cpu")["loss"]
    assert found["loss"] == pytest.approx(expected, rel=1e-6)  # weights of float32
    assert 0 < float(str(found.headline)) < 1
    assert all(torch.equal(p, before[n]) for n, p in checkpoint.model.named_parameters())
    assert measure(checkpoint)["sharpness"] == found["sharpness"]
    assert measure(checkpoint, seed=1)["sharpness"] != found["sharpness"]


def test_it_grows_with_the_box_and_with_its_dimension() -> None:
    checkpoint = untrained(7)
    values = [
        float(str(measure(checkpoint, **options).headline))
        for options in ({}, {"epsilon": 1e-2}, {"directions": 0})
    ]
    assert values[0] < values[1] < values[2]


def test_a_frozen_parameter_is_not_moved() -> None:
    of = task(7)
    net = model(of)
    net.requires_grad_(False)
    net.unembed.W_U.requires_grad_(True)
    part = measure(StandIn(of, net), directions=0)
    whole = measure(untrained(7), directions=0)
    assert float(str(part.headline)) < float(str(whole.headline))
