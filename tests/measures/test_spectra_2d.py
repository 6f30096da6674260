"""2-D spectra: named components, shares, and the statement about 4 products per key."""

import shutil
from pathlib import Path

import gromov
import pytest
import torch
from measures.closed_forms import cosine_logits, noise
from measures.stand_in import StandIn, model, task, untrained

import mechgrok as mg
from mechgrok import measures
from mechgrok.measures.spectra_2d import measure
from mechgrok.runs.result import NotApplicable

QUICK = Path(__file__).parents[1] / "data" / "quick_grokked"


@pytest.mark.parametrize(("p", "alpha", "expected"), [(23, {3: 2.0, 11: 1.0}, 8), (8, {4: 1.0}, 1)])
def test_cosine_logits_have_four_products_per_key(
    p: int, alpha: dict[int, float], expected: int
) -> None:
    logits = cosine_logits(p, alpha)
    found = measures.spectra_2d({"logits": logits + 100}, p, list(alpha))["logits"]
    assert found.n_large == found.n_key_products == expected
    assert found.leading_are_key_products
    assert found.product_share == pytest.approx(1, abs=1e-12)
    wrong = measures.spectra_2d({"logits": logits}, p, [1])["logits"]
    assert not wrong.leading_are_key_products
    assert wrong.product_share == pytest.approx(0, abs=1e-12)


def test_shares_are_the_frequency_split_of_the_table() -> None:
    table = noise(49, 4)
    found = measures.spectra_2d({"x": table}, 7, [1, 2, 3])["x"]
    assert isinstance(found.key_share, float)
    assert isinstance(found.product_share, float)
    power = (table - table.mean(dim=0)).square().sum()
    assert float(found.norms.square().sum()) == pytest.approx(float(power), rel=1e-12)
    assert 0 < found.product_share < found.key_share < 1


def test_a_constant_table_has_no_components() -> None:
    found = measures.spectra_2d({"x": torch.ones(49, 2)}, 7, [1])["x"]
    assert found.n_large == 0
    assert isinstance(found.product_share, NotApplicable)


def test_gromov_neurons_hold_known_shares() -> None:
    keys = [3, 7]
    net = gromov.network(23, 40, 0, keys)
    found = measures.spectra_2d({"neurons": net.neurons}, 23, keys)["neurons"]
    # 2 cos cos has 4 times the variance of the two cos^2 terms at 2k together: 1 / (1 + 1/4).
    assert found.product_share == pytest.approx(0.8, abs=1e-12)


def test_a_grokked_model_against_an_untrained_one(tmp_path: Path) -> None:
    run = mg.load_run(shutil.copytree(QUICK, tmp_path / "quick"))
    grokked, before = measure(run[-1]), measure(run[0], keys="final")
    share, control = grokked["product_share_logits"], before["product_share_logits"]
    assert isinstance(share, float)
    assert isinstance(control, float)
    assert share > 0.9
    assert control < 0.2
    assert grokked["leading_key_products"] == grokked["expected_key_products"] == 16
    assert grokked["leading_are_key_products"] is True
    assert before["leading_are_key_products"] is False


def test_without_keys_components_stay() -> None:
    of = task(11)
    result = measure(StandIn(of, model(of)), keys=[])
    assert isinstance(result["n_large_logits"], int)
    assert isinstance(result["product_share_logits"], NotApplicable)
    net = model(of)
    net.cfg.attn_only = True
    assert "n_large_neurons" not in measure(StandIn(of, net), keys=[1]).values
    assert isinstance(measure(untrained(7, operation="divide")).headline, NotApplicable)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="all p\\*p"):
        measures.spectra_2d({"x": noise(48, 2)}, 7)
    with pytest.raises(ValueError, match=r"1\.\.3"):
        measures.spectra_2d({"x": noise(49, 2)}, 7, [4])
