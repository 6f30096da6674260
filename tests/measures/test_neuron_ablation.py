"""Neuron ablation: a cluster of the closed-form network takes exactly its frequency away."""

import shutil
from pathlib import Path

import gromov
import pytest
import torch
from measures.closed_forms import cross_entropy, sums
from measures.stand_in import StandIn, model, task, untrained

import mechgrok as mg
from mechgrok import measures
from mechgrok.maths.fourier import cosine_coefficients
from mechgrok.measures import _last_block
from mechgrok.runs.result import NotApplicable

QUICK = Path(__file__).parents[1] / "data" / "quick_grokked"
KEYS = (3, 7, 20)
measure = mg.discovery.load("measures", "neuron_ablation")


def test_a_cluster_takes_exactly_its_frequency() -> None:
    net = gromov.network(59, 90, 0, KEYS)
    W_L = net.W_L
    before = cosine_coefficients(net.logits, 59)
    for k in KEYS:
        own = (net.freqs == k).nonzero()[:, 0]
        left = net.logits - net.neurons[:, own] @ W_L[:, own].T
        after = cosine_coefficients(left, 59)
        assert abs(float(after[k - 1])) < 1e-6 * float(before[k - 1])
        rest = [j - 1 for j in range(1, 30) if j != k]
        assert torch.allclose(after[rest], before[rest], atol=1e-6 * float(before.max()))
        found = measures.neuron_ablation(
            net.logits,
            net.neurons,
            W_L,
            sums(59),
            {k: own},
            generator=torch.Generator().manual_seed(0),
            n_controls=4,
        )[k]
        assert found.edits["zero"].loss == pytest.approx(cross_entropy(left, sums(59)), rel=1e-9)
        assert found.size == 30
        assert isinstance(found.controls, dict)
        assert len(found.controls["zero"]) == 4


def test_wrapper_equals_the_hooked_forward(tmp_path: Path) -> None:
    run = mg.load_run(shutil.copytree(QUICK, tmp_path / "quick"))
    checkpoint = run[-1]
    found = measure(checkpoint, n_controls=2)
    clusters = measures.neuron_clusters(
        _last_block.record(checkpoint, torch.arange(59 * 59)).neurons(
            _mid(checkpoint, torch.arange(59 * 59))
        ),
        59,
    )
    k, size = next(iter(clusters.sizes.items()))
    own = (clusters.cluster == k).nonzero()[:, 0]
    rows = checkpoint.task.splits["test"]
    labels = checkpoint.task.labels[rows, 0]
    assert found[f"{k}_size"] == size
    for mode in ("zero", "mean"):

        def edit(post: torch.Tensor, hook: object, mode: str = mode) -> torch.Tensor:
            post = post.clone()
            mean = post[:, -1, own].mean(dim=0)
            post[:, -1, own] = mean if mode == "mean" else 0 * mean
            return post

        with torch.no_grad():
            logits = checkpoint.model.run_with_hooks(
                checkpoint.task.tokens[rows], fwd_hooks=[("blocks.0.mlp.hook_post", edit)]
            )[:, -1]
        expected = cross_entropy(logits.double(), labels)
        assert found[f"{k} {mode}_loss"] == pytest.approx(expected, rel=1e-3)
    assert found["max_cluster_loss"] > 100 * found["original_loss"]


def _mid(checkpoint: object, rows: torch.Tensor) -> torch.Tensor:
    block = _last_block.record(checkpoint, rows)
    return block.mid(block.z())


def test_what_does_not_apply_is_typed() -> None:
    assert "no neuron reaches" in str(measure(untrained(59)).headline)
    normalised = StandIn(task(7), model(task(7), normalization="LN"))
    assert isinstance(measure(normalised).headline, NotApplicable)
    x, generator = torch.ones(4, 2), torch.Generator().manual_seed(0)
    labels, own = torch.zeros(4, dtype=torch.long), torch.tensor([0, 1])
    few = measures.neuron_ablation(x, x, x[:2], labels, {1: own}, generator=generator)
    assert isinstance(few[1].controls, NotApplicable)
    with pytest.raises(ValueError, match="at least 1 control"):
        measures.neuron_ablation(x, x, x[:2], labels, {1: own}, generator=generator, n_controls=0)
    with pytest.raises(ValueError, match="neurons in each"):
        measures.neuron_ablation(x, x, x[:2], labels, {1: own[:0]}, generator=generator)
