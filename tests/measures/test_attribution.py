"""Attribution: parts sum to the logits, on every kind of transformer, and name what is built in."""

import shutil
from pathlib import Path
from typing import Any

import gromov
import pytest
import torch
from measures.closed_forms import cosine_logits, noise, sums
from measures.stand_in import StandIn, model, task, untrained

import mechgrok as mg
from mechgrok import measures
from mechgrok.measures import _logit_parts
from mechgrok.measures.attribution import measure
from mechgrok.runs.checkpoint import Checkpoint
from mechgrok.runs.result import NotApplicable

QUICK = Path(__file__).parents[1] / "data" / "quick_grokked"


@pytest.fixture(scope="module")
def grokked(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return mg.load_run(shutil.copytree(QUICK, tmp_path_factory.mktemp("runs") / "quick"))[-1]


def float64_logits(checkpoint: Any) -> torch.Tensor:
    """Logits of the model's own hooked forward in float64, in order of Z_p."""
    net = _logit_parts.float64_model(checkpoint)
    with torch.no_grad():
        return net(checkpoint.task.tokens)[:, -1, checkpoint.task.renamed]


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"n_layers": 2},
        {"normalization": "LN"},
        {"normalization": "RMSPre", "n_layers": 2},
        {"trained_biases": "all"},
    ],
)
@pytest.mark.parametrize("split", [{}, {"heads": False}, {"neuron_chunk": 5}])
def test_parts_sum_to_the_logits(sizes: dict[str, Any], split: dict[str, Any]) -> None:
    of = task(7, relabel=True)
    net = model(of, **sizes)
    with torch.no_grad():
        for k, parameter in enumerate(net.parameters()):  # biases start at 0, which tests nothing
            parameter.add_(0.1 * noise(*parameter.shape, seed=k).float())
    checkpoint = StandIn(of, net)
    parts = dict(_logit_parts.logit_parts(checkpoint, **split))
    expected = float64_logits(checkpoint)
    assert torch.allclose(sum(parts.values(), torch.zeros(1)), expected, rtol=0, atol=1e-10)


def test_a_grokked_model_is_its_key_sums(grokked: Checkpoint) -> None:
    keys = mg.key_frequencies(grokked)
    found = mg.attribution(grokked, keys=keys)
    logits = float64_logits(grokked)
    metric = logits[torch.arange(59**2), sums(59)] - logits.mean(dim=1)
    assert found.total == pytest.approx(float(metric.mean()), abs=1e-10)
    assert float(found.mean.sum()) == pytest.approx(found.total, abs=1e-10)
    frame = found.table()
    assert frame["share"].sum() == pytest.approx(1)
    by_frequency = frame.groupby("frequency")["share"].sum()
    assert by_frequency[[f"sum {k}" for k in keys.freqs]].sum() > 0.95
    assert frame.groupby("component")["share"].sum()["L0 MLP"] > 0.5


def test_ways_to_split_agree(grokked: Checkpoint) -> None:
    keys = mg.key_frequencies(grokked)
    fine = mg.attribution(grokked, by=("neurons", "head", "frequency"), keys=keys)
    whole = mg.attribution(grokked, by="frequency", keys=keys)
    assert torch.allclose(fine.mean.sum(dim=0), whole.mean[0], atol=1e-10)
    coarse = mg.attribution(grokked, by=("component",))
    assert coarse.components == ("embedding", "position", "L0 attention", "L0 MLP", "bias")
    assert coarse.frequencies == ("all",)
    assert coarse.total == pytest.approx(fine.total, abs=1e-10)
    result = measure(grokked)
    assert result["L0 MLP"] == pytest.approx(float(coarse.mean[3, 0]), abs=1e-10)
    assert result[f"sum {keys.freqs[0]}"] == pytest.approx(float(whole.mean[0, 1]), abs=1e-10)


def test_an_untrained_model_has_components_and_no_frequencies() -> None:
    wide = task(59)
    net = model(wide, d_model=64, n_heads=4, d_head=16, d_mlp=128)
    result = measure(StandIn(wide, net))
    assert isinstance(result["frequencies"], NotApplicable)
    assert isinstance(result["total"], float)
    assert abs(result["total"]) < 0.5  # the grokked model of this size is above 20
    product = measure(untrained(7, operation="multiply"), keys=[1])
    assert isinstance(product["frequencies"], NotApplicable)
    assert isinstance(measure(untrained(7, operation="divide")).headline, NotApplicable)


def test_gromov_neurons_at_their_frequency() -> None:
    keys = [3, 7]
    net = gromov.network(23, 240, 0, keys)
    output = net.W_L.T
    own = [net.freqs == k for k in keys]
    parts = torch.stack([net.neurons[:, i] @ output[i] for i in own])
    found = measures.attribution(parts, sums(23), ["neurons 3", "neurons 7"], p=23, keys=keys)
    column = {name: i for i, name in enumerate(found.frequencies)}
    assert found.mean[0, column["sum 3"]] > 0.9 * found.mean[0].sum() > 0
    assert abs(float(found.mean[0, column["sum 7"]])) < 1e-9


def test_cosines_are_their_amplitudes() -> None:
    parts = torch.stack([cosine_logits(23, {3: 2.0}), cosine_logits(23, {5: 1.0})])
    found = measures.attribution(parts, sums(23), p=23, keys=[3])
    assert found.components == ("part 0", "part 1")
    assert found.mean.tolist() == [
        pytest.approx([0, 2, 0, 0], abs=1e-12),
        pytest.approx([0, 0, 0, 1], abs=1e-12),
    ]


def test_bad_input_is_refused(grokked: Checkpoint) -> None:
    with pytest.raises(ValueError, match="expected some of"):
        mg.attribution(grokked, by=("heads",))
    with pytest.raises(ValueError, match="2 names for 1 parts"):
        measures.attribution(noise(1, 49, 7), sums(7), ["a", "b"])
    with pytest.raises(ValueError, match="without p"):
        measures.attribution(noise(1, 49, 7), sums(7), keys=[1])
