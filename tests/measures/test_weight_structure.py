"""Rank of the embedding and spectra of the heads: known matrices, trained against untrained."""

import shutil
from pathlib import Path

import pytest
import torch
from measures.closed_forms import noise
from measures.stand_in import StandIn, model, task, untrained

import mechgrok as mg
from mechgrok import measures
from mechgrok.measures import _logit_parts
from mechgrok.measures.attention_spectra import head_maps
from mechgrok.runs.result import NotApplicable, Result

QUICK = Path(__file__).parents[1] / "data" / "quick_grokked"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> mg.Run:
    return mg.load_run(shutil.copytree(QUICK, tmp_path_factory.mktemp("runs") / "quick"))


def number(result: Result, name: str) -> float:
    value = result[name]
    assert isinstance(value, float)
    return value


def test_ranks_of_known_matrices() -> None:
    chance = torch.Generator().manual_seed(0)
    equal = torch.linalg.qr(noise(9, 4)).Q
    found = measures.embedding_rank(equal, generator=chance)
    assert found.found.participation_ratio == pytest.approx(4, abs=1e-10)
    assert found.found.effective_rank == pytest.approx(4, abs=1e-10)
    one = measures.embedding_rank(noise(9, 1) @ noise(1, 4), generator=chance).found
    assert one.effective_rank == pytest.approx(1, abs=1e-6)
    gaussian = measures.embedding_rank(noise(113, 128), generator=chance)
    ratio = gaussian.found.participation_ratio / gaussian.control_mean("participation_ratio")
    assert ratio == pytest.approx(1, abs=0.03)
    with pytest.raises(ValueError, match="zeros"):
        measures.embedding_rank(torch.zeros(3, 3), generator=chance)
    with pytest.raises(ValueError, match="at least 1"):
        measures.embedding_rank(noise(3, 3), generator=chance, n_controls=0)


def test_a_grokked_embedding_has_low_rank(run: mg.Run) -> None:
    grokked, before = (run.measure("embedding_rank", step=run.steps[i]) for i in (-1, 0))
    name = "participation_ratio"
    assert number(grokked, name) < 0.5 * number(grokked, f"control_{name}")
    assert number(before, name) == pytest.approx(number(before, f"control_{name}"), rel=0.05)
    assert run.measure("embedding_rank", seed=1).values != grokked.values  # the control's seed


def test_a_grokked_models_heads_are_concentrated(run: mg.Run) -> None:
    grokked, before = (run.measure("attention_spectra", step=run.steps[i]) for i in (-1, 0))
    keys = mg.key_frequencies(run[-1]).freqs
    for head in range(4):
        assert grokked[f"freq_C_{head}"] in keys
        assert number(grokked, f"top_share_W_neur_{head}") > 0.2
        assert number(before, f"top_share_W_neur_{head}") < 0.1


def test_maps_are_the_models_own_scores() -> None:
    of = task(7, relabel=True)
    net = model(of)
    with torch.no_grad():
        for k, parameter in enumerate(net.parameters()):
            parameter.add_(0.1 * noise(*parameter.shape, seed=k).float())
    checkpoint = StandIn(of, net)
    exact = _logit_parts.float64_model(checkpoint)
    with torch.no_grad():
        exact.pos_embed.W_pos[0] = 0
        exact.blocks[0].attn.b_K.zero_()
        name = "blocks.0.attn.hook_attn_scores"
        scores = exact.run_with_cache(of.tokens, names_filter=name)[1][name][:, :, -1, 0]
    maps = head_maps(checkpoint)
    for head in range(2):
        expected = scores[:, head].unflatten(0, (7, 7))[:, 0]
        assert torch.allclose(maps[f"C_{head}"][:, 0], expected, atol=1e-10)


def test_what_does_not_apply_is_typed() -> None:
    heads = mg.discovery.load("measures", "attention_spectra")
    normalised = StandIn(task(7), model(task(7), normalization="LN"))
    assert "normalisation (LN)" in str(heads(normalised).headline)
    net = model(task(7))
    net.cfg.attn_only = True
    assert isinstance(heads(StandIn(task(7), net))["min_top_share_W_neur"], NotApplicable)
    ranks = mg.discovery.load("measures", "embedding_rank")
    assert isinstance(ranks(untrained(7, operation="divide")).headline, NotApplicable)
    with pytest.raises(ValueError, match="same for all tokens"):
        measures.attention_spectra({"C_0": torch.zeros(7, 1)})
