"""Metrics against numbers worked out by hand."""

import warnings

import pytest
import torch

from mechgrok import interventions as ours
from mechgrok.interventions.metrics import SaturatedMetric, saturated_share

LOGITS = torch.tensor([[1.0, 3.0, 2.0], [0.0, -1.0, 4.0], [-3.0, -1.0, -2.0]], dtype=torch.float64)
LABELS = torch.tensor([1, 0, 1])
BY_HAND = {
    "logit_diff": [3.0 - 2.0, 0.0 + 1.0, -1.0 + 3.0],
    "correct_minus_mean": [3.0 - 2.0, 0.0 - 1.0, -1.0 + 2.0],
    "margin": [3.0 - 2.0, 0.0 - 4.0, -1.0 + 2.0],
    "accuracy": [1.0, 0.0, 1.0],
    "loss": [0.4076060, 4.0247448, 0.4076060],
}


@pytest.mark.parametrize("name", BY_HAND)
def test_every_metric_by_hand(name: str) -> None:
    against = torch.tensor([2, 1, 0]) if name == "logit_diff" else None
    made = ours.metric(name, LABELS, against)
    expected = torch.tensor(BY_HAND[name], dtype=torch.float64)
    torch.testing.assert_close(made.rows(LOGITS), expected, rtol=1e-6, atol=1e-6)
    logits = torch.stack([LOGITS * 0, LOGITS], dim=1)
    torch.testing.assert_close(made(logits), expected.mean(), rtol=1e-6, atol=1e-6)


def test_classes_and_position_are_what_is_asked_for() -> None:
    made = ours.metric("correct_minus_mean", LABELS, classes=2, position=0)
    logits = torch.stack([LOGITS, LOGITS * 0], dim=1)
    assert float(made(logits)) == pytest.approx(((3 - 2) + (0 + 0.5) + (-1 + 2)) / 3)


def test_a_loss_below_float32_is_not_zero() -> None:
    logits = torch.tensor([[20.0, 0.0]])
    value = ours.metric("loss", torch.tensor([0])).rows(logits)
    assert float(value) == pytest.approx(2.0611536e-9, rel=1e-6)


def test_only_a_gradient_of_a_saturated_metric_is_warned_about() -> None:
    sure = torch.tensor([[[20.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]]], requires_grad=True)
    labels = torch.tensor([0, 1])
    assert saturated_share(sure[:, 0], labels) == 0.5
    with pytest.warns(SaturatedMetric, match="50% of the rows"):
        ours.metric("loss", labels)(sure)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours.metric("loss", labels)(sure.detach())
        ours.metric("correct_minus_mean", labels)(sure)
        ours.metric("loss", labels)(sure * 0.1)


def test_what_a_metric_needs_is_named() -> None:
    with pytest.raises(ValueError, match="unknown metric 'logitdiff'"):
        ours.metric("logitdiff", LABELS)
    with pytest.raises(ValueError, match="corrupted rows' answers"):
        ours.metric("logit_diff", LABELS)
    with pytest.raises(ValueError, match="equals the clean one"):
        ours.metric("logit_diff", LABELS, LABELS)
    with pytest.raises(ValueError, match="2 rows of logits for 3"):
        ours.metric("loss", LABELS).rows(torch.zeros(2, 3))
