"""Rank-2K form of W_L: known residuals and read-offs, and a trained model against its start."""

import math
import shutil
from pathlib import Path

import gromov
import pytest
import torch
from measures.closed_forms import noise, sums
from measures.stand_in import StandIn, model, task, untrained

import mechgrok as mg
from mechgrok import measures
from mechgrok.measures.rank_2k import measure
from mechgrok.runs.result import NotApplicable

QUICK = Path(__file__).parents[1] / "data" / "quick_grokked"


def test_gromov_output_has_rank_2k() -> None:
    keys = [3, 7]
    net = gromov.network(23, 480, 0, keys)
    W_L = net.W_L
    found = measures.rank_2k(W_L, net.neurons, 23, keys)
    assert found.residual < 1e-9
    assert found.names == ("cos 3", "sin 3", "cos 7", "sin 7")
    assert all(isinstance(x, float) and x > 0.9 for x in found.fve.values())
    assert found.accuracy["rank_2k"] == found.accuracy["mlp"] == 1
    assert found.loss["complement"] == pytest.approx(math.log(23), abs=1e-6)
    wrong = measures.rank_2k(W_L, net.neurons, 23, [4])
    assert wrong.residual == pytest.approx(1, abs=1e-9)


def test_every_frequency_leaves_only_the_constant() -> None:
    W_L, acts = noise(7, 5), noise(49, 5, seed=1)
    found = measures.rank_2k(W_L, acts, 7, [1, 2, 3])
    constant = 7**0.5 * W_L.mean(dim=0).norm() / W_L.norm()
    assert found.residual == pytest.approx(float(constant), abs=1e-12)


def test_even_p_has_one_direction_at_half() -> None:
    alternating = torch.tensor([1.0, -1.0] * 4).double()
    found = measures.rank_2k(alternating[:, None], 3 * alternating[sums(8)][:, None], 8, [4])
    assert found.names == ("cos 4",)
    assert found.fve["cos 4"] == pytest.approx(1, abs=1e-12)
    assert found.amplitude["cos 4"] == pytest.approx(3 * math.sqrt(8), abs=1e-12)


def test_a_grokked_model_against_an_untrained_one(tmp_path: Path) -> None:
    run = mg.load_run(shutil.copytree(QUICK, tmp_path / "quick"))
    grokked, before = measure(run[-1]), measure(run[0])
    keys = grokked["keys"]
    assert isinstance(keys, tuple)
    values = {name: x for name, x in grokked.values.items() if isinstance(x, float)}
    control = {name: x for name, x in before.values.items() if isinstance(x, float)}
    assert values["residual"] < 0.3
    # A random W_L has (p - 2K) / p of its power outside any 2K components.
    assert control["residual_squared"] == pytest.approx(1 - 2 * len(keys) / 59, abs=0.05)
    assert min(values[f"fve cos {k}"] for k in keys) > 0.7
    assert max(control[f"fve cos {k}"] for k in keys) < 0.2
    assert values["rank_2k_accuracy"] > 0.99
    assert values["complement_loss"] > math.log(59)


def test_what_does_not_apply_is_typed() -> None:
    of = task(7)
    net = model(of)
    net.cfg.attn_only = True
    assert isinstance(measure(StandIn(of, net), keys=[1]).headline, NotApplicable)
    assert isinstance(measure(untrained(7, operation="multiply"), keys=[1]).headline, NotApplicable)
    dead = measures.rank_2k(noise(7, 2), torch.ones(49, 2), 7, [1])
    assert isinstance(dead.fve["cos 1"], NotApplicable)
    with pytest.raises(ValueError, match="expected > 0"):
        measures.rank_2k(noise(7, 2), noise(49, 2), 7, [])
    with pytest.raises(ValueError, match="all p\\*p"):
        measures.rank_2k(noise(7, 2), noise(48, 2), 7, [1])
