"""Frequency ablation: the edit restores its bits; the check passes and fails where it should."""

from collections.abc import Sequence

import pytest
import torch
from measures.stand_in import model, task, untrained

from mechgrok.interventions.ablation import ablate_frequencies
from mechgrok.maths.fourier import frequency_norms
from mechgrok.measures.frequency_ablation import FrequencyAblation, frequency_ablation, measure

P, KEYS = 23, (3, 7)
SHARES = torch.full((11,), 0.02, dtype=torch.float64).index_fill(0, torch.tensor([2, 6]), 0.4)


def run(lose: float, control: float, rest: float, keys: Sequence[int] = KEYS) -> FrequencyAblation:
    """The check on a model that loses given accuracy for keys, controls and all non-keys."""

    def evaluate(freqs: Sequence[int], scale: float) -> tuple[float, float]:
        lost = lose if set(KEYS) <= set(freqs) else rest if len(freqs) > 2 else control
        return 1.0, 1.0 - (1 - scale) * (lost if freqs else 0.0)

    chance = torch.Generator().manual_seed(0)
    return frequency_ablation(evaluate, SHARES, keys, p=P, generator=chance)


def test_a_grokked_model_passes() -> None:
    found = run(lose=0.97, control=0.01, rest=0.02)
    assert found.passed
    assert found.failed_lines == ()
    assert found.keys.power_removed == pytest.approx(0.8)
    assert found.key_doses[4].power_removed == pytest.approx(0.8 * 0.75)


@pytest.mark.parametrize(
    ("lost", "line"),
    [
        ((0.5, 0.0, 0.0), "keys removed: lost 50.0"),
        ((1.0, 0.42, 0.0), "size-matched controls: lost 42.0"),
        ((1.0, 0.0, 0.06), "all non-keys removed: lost 6.0"),
    ],
)
def test_each_line_can_fail(lost: tuple[float, float, float], line: str) -> None:
    found = run(*lost)
    assert not found.passed
    assert [text.startswith(line) for text in found.failed_lines] == [True]


def test_controls_are_matched_non_keys() -> None:
    found = run(1.0, 0.0, 0.0)
    assert len(found.controls) == 20
    assert all(len(set(e.freqs)) == 2 and not set(e.freqs) & set(KEYS) for e in found.controls)
    assert len({e.freqs for e in found.controls}) > 10
    assert found.non_keys.freqs == (1, 2, 4, 5, 6, 8, 9, 10, 11)
    assert [e.freqs for e in run(1.0, 0.0, 0.0).controls] == [e.freqs for e in found.controls]


def test_unmatched_controls_are_refused() -> None:
    with pytest.raises(ValueError, match="6 keys and 5 others"):
        run(1.0, 0.0, 0.0, keys=[1, 2, 3, 4, 5, 6])
    with pytest.raises(ValueError, match="at least 20"):
        frequency_ablation(
            lambda freqs, scale: (0.0, 1.0),
            SHARES,
            KEYS,
            p=P,
            generator=torch.Generator(),
            n_controls=3,
        )


@pytest.mark.parametrize("n", [11, 12])
def test_the_edit_scales_only_what_it_should(n: int) -> None:
    net = model(task(n))
    before = net.embed.W_E.detach().clone()
    with ablate_frequencies(net, [2, n // 2], n, 0.5):
        after = net.embed.W_E.detach().clone()
    ratio = frequency_norms(after[:n].double()) / frequency_norms(before[:n].double())
    expected = torch.ones(n // 2).double().index_fill(0, torch.tensor([1, n // 2 - 1]), 0.5)
    assert torch.allclose(ratio, expected, atol=1e-5)
    assert torch.equal(after[n:], before[n:])
    assert torch.equal(net.embed.W_E, before)


def test_the_edit_follows_renamed_tokens() -> None:
    renamed = task(11, relabel=True)
    net = model(renamed)
    with ablate_frequencies(net, [4], 11, order=renamed.renamed):
        norms = frequency_norms(net.embed.W_E.detach()[renamed.renamed].double())
    assert float(norms[3]) == pytest.approx(0, abs=1e-6)
    assert float(norms[2]) > 0.1


def fail_after_seeing(edited: torch.Tensor, original: torch.Tensor) -> None:
    """Raise inside the edit, having checked that there is one."""
    assert not torch.equal(edited, original)
    raise RuntimeError("inside")


def test_bits_come_back_after_an_exception() -> None:
    net = model(task(11))
    before = net.embed.W_E.detach().clone()
    with pytest.raises(RuntimeError, match="inside"), ablate_frequencies(net, [1, 2], 11):
        fail_after_seeing(net.embed.W_E, before)
    assert torch.equal(net.embed.W_E, before)


def test_ablating_nothing_is_identity() -> None:
    net = model(task(11))
    before = net.embed.W_E.detach().clone()
    for freqs, scale in (([], 0.0), ([1, 2], 1.0)):
        with ablate_frequencies(net, freqs, 11, scale) as edited:
            assert edited is net
            assert torch.equal(net.embed.W_E, before)


def test_bad_edits_are_refused() -> None:
    net = model(task(11))
    with pytest.raises(ValueError, match=r"1\.\.5"), ablate_frequencies(net, [6], 11):
        raise AssertionError("entered")
    with pytest.raises(ValueError, match="12 rows"), ablate_frequencies(net, [6], 13):
        raise AssertionError("entered")


def test_an_untrained_model_is_judged_on_train_and_fails() -> None:
    checkpoint = untrained(23)
    before = checkpoint.model.embed.W_E.detach().clone()
    result = measure(checkpoint, keys=[1, 2])
    assert result["passed"] is False
    assert str(result["failed_lines"]).count("keys removed") == 1
    assert result.definition["split"].startswith("train")
    assert result.arrays["controls"].shape == (20, 4)
    assert torch.equal(checkpoint.model.embed.W_E, before)


def test_power_shares_of_edits_add_up() -> None:
    found = run(1.0, 0.0, 0.0)
    assert found.keys.power_removed + found.non_keys.power_removed == pytest.approx(
        float(SHARES.sum())
    )
