"""Variants of restricted and excluded loss: known values, their relations, and what is refused."""

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from measures.closed_forms import cosine_logits, cross_entropy, noise, sums
from measures.stand_in import StandIn, model, task

import mechgrok as mg
from mechgrok import measures
from mechgrok.measures._modular import matrices, neurons
from mechgrok.runs.result import NotApplicable, Result

QUICK = Path(__file__).parents[1] / "data" / "quick_grokked"
RESTRICTED = ("10 directions", "20 terms", "activation")
EXCLUDED = ("2-D", "3-D", "20 terms", "activation with skip", "activation without skip")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> mg.Run:
    return mg.load_run(shutil.copytree(QUICK, tmp_path_factory.mktemp("runs") / "quick"))


def headline(result: Result) -> float:
    assert isinstance(result.headline, float)
    return result.headline


@pytest.mark.parametrize(("p", "alpha"), [(23, {3: 2.0, 11: 1.0}), (8, {1: 2.0, 4: 1.0})])
def test_perfect_logits_survive_and_vanish(p: int, alpha: dict[int, float]) -> None:
    logits, keys = cosine_logits(p, alpha), list(alpha)
    arrays = {"acts": logits, "W_L": torch.eye(p).double()}
    for variant in RESTRICTED:
        given: dict[str, Any] = arrays if variant == "activation" else {}
        found = measures.restricted_loss(logits, p, keys, variant=variant, **given)
        assert float(found) == pytest.approx(cross_entropy(logits, sums(p)), abs=1e-10)
        assert found.accuracy == 1
    for variant in EXCLUDED:
        given = arrays if variant.startswith("activation") else {}
        found = measures.excluded_loss(logits, p, keys, variant=variant, **given)
        assert float(found) == pytest.approx(math.log(p), abs=1e-10)


def test_the_default_is_the_first_variant() -> None:
    logits = noise(49, 7)
    given, default = (
        measures.restricted_loss(logits, 7, [2], **o) for o in ({"variant": "10 directions"}, {})
    )
    assert given == default
    given, default = (measures.excluded_loss(logits, 7, [2], **o) for o in ({"variant": "2-D"}, {}))
    assert given == default


@pytest.mark.parametrize("variant", RESTRICTED)
def test_restricted_variants_on_a_grokked_and_an_untrained_model(variant: str, run: mg.Run) -> None:
    result = run.measure("restricted_loss", variant=variant)
    assert result.definition["operator"].startswith(f"{variant}: ")
    assert headline(result) < 0.1 * headline(run.measure("losses"))
    control = run.measure("restricted_loss", step=0, variant=variant)
    assert headline(control) > 0.9 * math.log(59)


@pytest.mark.parametrize("variant", EXCLUDED)
def test_excluded_variants_on_a_grokked_and_an_untrained_model(variant: str, run: mg.Run) -> None:
    result = run.measure("excluded_loss", variant=variant)
    assert result.definition["operator"].startswith(f"{variant}: ")
    assert headline(result) > 0.5 * math.log(59)
    before = run.measure("excluded_loss", step=0, variant=variant)
    plain = run.measure("losses", step=0)["train_loss"]
    assert isinstance(plain, float)
    assert headline(before) == pytest.approx(plain, abs=0.3)  # it has no circuit to remove


def test_activation_with_skip_is_the_skip_and_what_is_left(run: mg.Run) -> None:
    checkpoint = run[-1]
    acts, W_L = neurons(checkpoint).double(), matrices(checkpoint)["W_L"]
    logits, p = checkpoint.answer_logits[:, 0, :59].double(), 59
    mlp = acts @ W_L.T
    keys = mg.key_frequencies(checkpoint).freqs
    found = measures.excluded_loss(
        logits, p, keys, variant="activation with skip", acts=acts, W_L=W_L
    )
    expected = measures.excluded_loss(mlp, p, keys).loss
    alone = measures.excluded_loss(
        logits, p, keys, variant="activation without skip", acts=acts, W_L=W_L
    )
    assert alone.loss == pytest.approx(expected, abs=1e-9)
    assert found.loss != pytest.approx(alone.loss, abs=1e-6)


def test_bad_variants_are_refused() -> None:
    logits = noise(49, 7)
    with pytest.raises(ValueError, match="'10 directions', '20 terms', 'activation'"):
        measures.restricted_loss(logits, 7, [1], variant="30 terms")
    with pytest.raises(ValueError, match="expected one of"):
        measures.excluded_loss(logits, 7, [1], variant="4-D")
    with pytest.raises(ValueError, match="both"):
        measures.restricted_loss(logits, 7, [1], variant="activation", acts=noise(49, 3))
    with pytest.raises(ValueError, match="both"):
        measures.excluded_loss(logits, 7, [1], acts=noise(49, 3), W_L=noise(7, 3))


def test_without_neurons_activation_variants_do_not_apply() -> None:
    of = task(7)
    net = model(of)
    net.cfg.attn_only = True
    for module, variant in (
        ("restricted_loss", "activation"),
        ("excluded_loss", "activation with skip"),
    ):
        found = mg.discovery.load("measures", module)(StandIn(of, net), [1], variant)
        assert isinstance(found.headline, NotApplicable)
