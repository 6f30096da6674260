"""Polynomial replacement: exact on the closed-form network, harmless on a grokked model."""

import shutil
from pathlib import Path

import gromov
import pytest
import torch
from measures.stand_in import untrained

import mechgrok as mg
from mechgrok import measures
from mechgrok.runs.result import NotApplicable

QUICK = Path(__file__).parents[1] / "data" / "quick_grokked"
measure = mg.discovery.load("measures", "polynomial_replacement")


def test_twelve_terms_are_the_closed_form_network() -> None:
    net = gromov.network(23, 33, 1)
    fitted = measures.polynomial_replacement(net.neurons, 23, net.freqs, "12 terms")
    assert torch.allclose(fitted, net.neurons, atol=1e-12)
    wrong = measures.polynomial_replacement(net.neurons, 23, net.freqs % 11 + 1, "12 terms")
    assert not torch.allclose(wrong, net.neurons, atol=0.5)


@pytest.mark.parametrize(("p", "k"), [(8, 4), (8, 2), (9, 3), (23, 11)])
def test_a_fit_is_a_projection(p: int, k: int) -> None:
    acts = torch.randn(p * p, 2, generator=torch.Generator().manual_seed(0)).double()
    freqs = torch.tensor([k, k])
    once = measures.polynomial_replacement(acts, p, freqs, "12 terms")
    twice = measures.polynomial_replacement(once, p, freqs, "12 terms")
    assert torch.allclose(once, twice, atol=1e-12)
    assert float(((acts - once) * once).sum().abs()) < 1e-9


def test_fits_carry_a_grokked_model_and_controls_do_not(tmp_path: Path) -> None:
    run = mg.load_run(shutil.copytree(QUICK, tmp_path / "quick"))
    found = measure(run[-1], n_controls=1)
    assert found["clustered_test_accuracy"] > 0.95
    assert found["clustered constant_test_accuracy"] < 0.5
    assert found["clustered control 0_test_accuracy"] < 0.5
    assert found["live_test_loss"] < found["live control 0_test_loss"]
    exact = measure(run[-1], variant="12 terms", n_controls=1)
    assert exact["live_all_loss"] != found["live_all_loss"]


def test_an_untrained_model_has_no_clustered_neurons() -> None:
    found = measure(untrained(11))
    assert isinstance(found.headline, NotApplicable)
    assert isinstance(found["live_test_loss"], float)
    with pytest.raises(ValueError, match="12 terms"):
        measure(untrained(11), variant="3 terms")
    with pytest.raises(ValueError, match="8 terms"):
        measures.polynomial_replacement(torch.ones(9, 1), 3, torch.tensor([1]), "all")
