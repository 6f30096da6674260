"""Frequency removal: each space's edit is the excluded loss's or the rank-2K complement's."""

import gromov
import pytest
import torch
from measures.closed_forms import cross_entropy, sums
from measures.stand_in import untrained

import mechgrok as mg
from mechgrok import measures
from mechgrok.runs.result import NotApplicable

KEYS = (3, 7, 20)
measure = mg.discovery.load("measures", "frequency_removal")


def test_edits_agree_with_the_measures_that_remove_the_same() -> None:
    net = gromov.network(59, 90, 0, KEYS)
    W_L = net.W_L
    rows = torch.arange(0, 59 * 59, 3)
    found = measures.frequency_removal(
        net.logits,
        59,
        KEYS,
        rows=rows,
        acts=net.neurons,
        W_L=W_L,
        generator=torch.Generator().manual_seed(0),
    )
    splits = {"train": rows}
    excluded = measures.excluded_loss(net.logits, 59, KEYS, splits=splits)
    assert found["logits"].keys.loss == pytest.approx(excluded.loss, rel=1e-9)
    through = measures.excluded_loss(
        net.logits,
        59,
        KEYS,
        splits=splits,
        variant="activation with skip",
        acts=net.neurons,
        W_L=W_L,
    )
    assert found["activations"].keys.loss == pytest.approx(through.loss, rel=1e-9)
    left = measures.rank_2k(W_L, net.neurons, 59, KEYS).loss["complement"]
    everywhere = measures.frequency_removal(
        net.neurons @ W_L.T,
        59,
        KEYS,
        acts=net.neurons,
        W_L=W_L,
        generator=torch.Generator().manual_seed(0),
    )["W_L"]
    assert everywhere.keys.loss == pytest.approx(left, rel=1e-6)
    original = cross_entropy(net.logits[rows], sums(59)[rows])
    for one in found.values():
        assert one.original.loss == pytest.approx(original, rel=1e-9)
        assert len(one.controls) == 20
        assert one.keys.loss > 2 * max(edit.loss for edit in one.controls)


def test_what_does_not_apply_is_typed() -> None:
    assert isinstance(measure(untrained(23)).headline, NotApplicable)
    found = measure(untrained(23), keys=[1, 2])
    assert isinstance(found["W_L keys_loss"], float)
    with pytest.raises(ValueError, match="both or neither"):
        measures.frequency_removal(
            torch.zeros(25, 5), 5, [1], acts=torch.ones(25, 2), generator=torch.Generator()
        )
