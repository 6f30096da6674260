"""Component ablation: hooks do what their names say, and each cluster has a control."""

import shutil
from pathlib import Path

import pytest
import torch
from measures.closed_forms import cross_entropy
from measures.stand_in import StandIn, model, task, untrained

import mechgrok as mg
from mechgrok import measures
from mechgrok.runs.result import NotApplicable

QUICK = Path(__file__).parents[1] / "data" / "quick_grokked"
measure = mg.discovery.load("measures", "component_ablation")


def test_edits_are_the_parts_they_remove() -> None:
    checkpoint = untrained(7)
    found, net = measure(checkpoint), checkpoint.model
    assert "train" in found.definition["split"]
    rows = checkpoint.task.splits["train"]
    with torch.no_grad():
        _, cache = net.run_with_cache(checkpoint.task.tokens[rows])
        alone = cache["blocks.0.hook_mlp_out"][:, -1] @ net.unembed.W_U  # b_U starts at 0
    labels = checkpoint.task.labels[rows, 0]
    assert isinstance(found["no skip path_loss"], float)
    assert found["no skip path_loss"] == pytest.approx(
        cross_entropy(alone.double(), labels), abs=1e-6
    )
    assert found["original_loss"] != found["L0H0 zero_loss"]


def test_a_grokked_model_and_its_controls(tmp_path: Path) -> None:
    run = mg.load_run(shutil.copytree(QUICK, tmp_path / "quick"))
    found = run.measure("component_ablation", n_controls=1)
    assert found.definition["split"].startswith("test")
    values = {name: x for name, x in found.values.items() if isinstance(x, float)}
    clusters = [n.split()[1] for n in values if n.startswith("neurons ") and "zero_loss" in n]
    assert clusters
    assert values["original_accuracy"] > 0.99
    assert values["no skip path_accuracy"] > 0.9
    assert values["position zero_loss"] > values["original_loss"]
    own = sum(values[f"neurons {k} zero_loss"] for k in clusters)
    control = sum(values.get(f"control 0 of {k} zero_loss", 0.0) for k in clusters)
    assert own > 0
    assert control > 0
    again = run[-1]
    assert not any(point.fwd_hooks for point in again.model.hook_points())


def test_what_does_not_apply_is_typed() -> None:
    normalised = StandIn(task(7), model(task(7), normalization="LN"))
    assert isinstance(measure(normalised).headline, NotApplicable)
    assert isinstance(measure(untrained(7, operation="divide")).headline, NotApplicable)
    net = model(task(7))
    net.cfg.attn_only = True
    assert isinstance(measure(StandIn(task(7), net)).headline, NotApplicable)
    with pytest.raises(ValueError, match="without hooks"):
        measures.component_ablation(lambda hooks: (0.0, 0.0), {"nothing": []})
    with pytest.raises(ValueError, match="at least 1"):
        measure(untrained(7), n_controls=0)
