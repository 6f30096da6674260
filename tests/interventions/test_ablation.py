"""Ablations and frequency edits against what they must leave behind."""

from typing import Any

import pytest
import torch
from interventions.test_grids import LABELS, OTHER, TOKENS, P, small
from torch import Tensor

from mechgrok import interventions as ours
from mechgrok.interventions.frequencies import frequency_part
from mechgrok.maths.pair_terms import own_terms

HOOK = "blocks.0.hook_mlp_out"


def seen(model: Any, tokens: Tensor = TOKENS, name: str = HOOK) -> Tensor:
    return model.run_with_cache(tokens, names_filter=name)[1][name]


def test_each_kind_leaves_what_it_says_and_nothing_else_of_the_slice_moves() -> None:
    model = small(dtype="float64")
    own, other = seen(model), seen(model, TOKENS[OTHER])
    at = ours.nodes("mlp", layer=0, position=1)
    with ours.ablate(model, at, "zero"):
        after = seen(model)
        assert not after[:, 1].any()
        assert torch.equal(after[:, [0, 2]], own[:, [0, 2]])
    with ours.ablate(model, at, "mean"):
        torch.testing.assert_close(seen(model)[:, 1], own[:, 1].mean(0).expand(len(own), -1))
    with ours.ablate(model, at, "mean", source=TOKENS[:7]):
        torch.testing.assert_close(seen(model)[:, 1], own[:7, 1].mean(0).expand(len(own), -1))
    with ours.ablate(model, at, "counterfactual", source=TOKENS[OTHER]):
        torch.testing.assert_close(seen(model)[:, 1], other[:, 1], rtol=0, atol=1e-12)
    generator = torch.Generator().manual_seed(5)
    order = torch.randperm(len(TOKENS), generator=torch.Generator().manual_seed(5))
    with ours.ablate(model, at, "resample", generator=generator):
        torch.testing.assert_close(seen(model)[:, 1], own[order, 1], rtol=0, atol=1e-12)
    assert torch.equal(seen(model), own)


def test_counterfactual_of_the_whole_stream_is_the_other_run() -> None:
    model = small(dtype="float64")
    with ours.ablate(
        model, ours.nodes("resid_pre", layer=1), "counterfactual", source=TOKENS[OTHER]
    ):
        found = model(TOKENS)
    torch.testing.assert_close(found, model(TOKENS[OTHER]), rtol=0, atol=1e-10)


def test_a_head_of_many() -> None:
    model = small(dtype="float64")
    with ours.ablate(model, ours.nodes("head", layer=1, head=[0, 2]), "zero"):
        z = seen(model, name="blocks.1.attn.hook_z")
    assert not z[:, :, [0, 2]].any()
    assert torch.equal(z[:, :, 1], seen(model, name="blocks.1.attn.hook_z")[:, :, 1])


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        ("zeros", {}, "expected one of"),
        ("counterfactual", {}, "needs a source"),
        ("resample", {}, "generator"),
        ("zero", {"source": TOKENS}, "reads no source"),
        ("mean", {"generator": torch.Generator()}, "generator"),
    ],
)
def test_what_a_kind_needs_is_said_before_anything_runs(
    kind: str, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said), ours.ablate(small(), "mlp", kind, **given):
        raise AssertionError


@pytest.mark.parametrize("mode", ["remove", "keep", "scale"])
def test_frequencies_at_the_embedding_are_those_of_its_weight(mode: str) -> None:
    """An independent way: W_E edited instead of the activation."""
    model = small(dtype="float64")
    freqs = [1, 3]
    at = ours.nodes("embed", position=(0, 1))
    scale = {"scale": 0.3} if mode == "scale" else {}
    with ours.edit_frequencies(model, at, freqs, mode, **scale):
        found = model(TOKENS)
    edited = [2] if mode == "keep" else freqs
    with ours.ablate_frequencies(model, edited, P, scale.get("scale", 0.0)):
        expected = model(TOKENS)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    assert not torch.allclose(expected, model(TOKENS))


def test_zeroing_a_frequency_node_removes_that_frequency() -> None:
    model = small(dtype="float64")
    at = ours.nodes("mlp", layer=0, freq=[1, 2])
    with ours.ablate(model, at, "zero"):
        once = seen(model)
    with ours.edit_frequencies(model, ours.nodes("mlp", layer=0), [1, 2]):
        torch.testing.assert_close(seen(model), once, rtol=0, atol=1e-12)
    assert float(frequency_part(once, [1, 2]).abs().max()) < 1e-12
    torch.testing.assert_close(
        once.flatten(1), seen(model).flatten(1) - own_terms(seen(model).flatten(1), P, [1, 2])
    )


def test_a_resampled_frequency_is_that_of_another_pair() -> None:
    model = small(dtype="float64")
    own = seen(model)
    part = frequency_part(own, [2])
    order = torch.randperm(len(TOKENS), generator=torch.Generator().manual_seed(5))
    at = ours.nodes("mlp", layer=0, freq=2)
    with ours.ablate(model, at, "resample", generator=torch.Generator().manual_seed(5)):
        torch.testing.assert_close(seen(model), own - part + part[order], rtol=0, atol=1e-12)


def test_sum_directions_see_only_the_sum() -> None:
    a, b = TOKENS[:, 0], TOKENS[:, 1]
    w = 2 * torch.pi / P
    table = torch.stack([torch.cos(w * (a + b)), torch.cos(w * (a - b)), torch.cos(w * a)], dim=1)
    table = table.double()
    torch.testing.assert_close(frequency_part(table, [1], "own"), table, rtol=0, atol=1e-6)
    kept = frequency_part(table, [1], "sum")
    torch.testing.assert_close(kept[:, 0], table[:, 0], rtol=0, atol=1e-6)
    assert float(kept[:, 1:].abs().max()) < 1e-6


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"freqs": [1], "mode": "drop"}, "expected one of"),
        ({"freqs": [1], "mode": "scale"}, "a scale belongs"),
        ({"freqs": [1], "scale": 0.5}, "a scale belongs"),
        ({"freqs": []}, "no frequencies"),
    ],
)
def test_an_edit_that_makes_no_sense_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said), ours.edit_frequencies(small(), "mlp", **given):
        raise AssertionError


@pytest.mark.parametrize(
    ("freqs", "rows", "said"), [([4], 49, "expected 1..3"), ([1], 48, "all p\\*p pairs")]
)
def test_rows_and_frequencies_that_do_not_fit_are_named(
    freqs: list[int], rows: int, said: str
) -> None:
    model = small()
    with pytest.raises(ValueError, match=said), ours.edit_frequencies(model, "mlp", freqs):
        model(TOKENS[:rows])


def test_one_operand_changes_and_the_answer_with_it() -> None:
    for position in (0, 1):
        rows = ours.changed_operand(
            TOKENS, LABELS, position, torch.Generator().manual_seed(position)
        )
        differs = TOKENS[rows] != TOKENS
        assert differs[:, position].all()
        assert differs.sum() == len(TOKENS)
        assert bool((LABELS[rows] != LABELS).all())
    again = ours.changed_operand(TOKENS, LABELS, 1, torch.Generator().manual_seed(1))
    assert torch.equal(again, rows)
    with pytest.raises(ValueError, match="no partner"):
        ours.changed_operand(TOKENS, torch.zeros_like(LABELS), 0, torch.Generator())


def test_a_derangement_moves_everything() -> None:
    for seed in range(20):
        drawn = ours.derangement(5, torch.Generator().manual_seed(seed))
        assert sorted(drawn.tolist()) == [0, 1, 2, 3, 4]
        assert not bool((drawn == torch.arange(5)).any())
    with pytest.raises(ValueError, match="at least 2"):
        ours.derangement(1, torch.Generator())
