"""A checkpoint's circuit: saved, read again, drawn; and the page of two checkpoints."""

import json
import re
import shutil
from html import escape
from pathlib import Path
from typing import Any

import circuit_modadd
import pytest
import torch
from test_report import BUNDLE, OTHER_HOST, needs_browser, open_offline

import mechgrok as mg
from mechgrok import discovery
from mechgrok.options import override
from mechgrok.presets import preset
from mechgrok.runs.checkpoint import Checkpoint, build_model
from mechgrok.runs.run import Run
from mechgrok.runs.saved_circuit import SavedCircuit, circuit_file, read_circuit
from mechgrok.runs.storage import RunError
from mechgrok.view import write_view

KEYS = (2,)
SMALL = {"keys": KEYS, "shifts": 2, "steps": 2, "n_random": 2}


@pytest.fixture(scope="module")
def run(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(shutil.copytree(tiny_run.path, tmp_path_factory.mktemp("circuits") / "tiny"))


@pytest.fixture(scope="module")
def found(run: Run) -> SavedCircuit:
    return mg.circuit(run[-1], **SMALL)


def test_what_is_saved_is_what_was_found(run: Run, found: SavedCircuit) -> None:
    path = circuit_file(run.path, run.steps[-1])
    written = json.loads(path.read_text())
    assert {"nodes", "edges", "scores", "metric", "judged", "n", "seeds"} <= set(written)
    again = read_circuit(run.path)
    assert again.table().equals(found.table())
    assert read_circuit(path).circuit == found.circuit
    before = path.stat().st_mtime_ns
    assert mg.circuit(run[-1], keys=KEYS).curve == again.curve
    assert path.stat().st_mtime_ns == before  # read, not computed
    with pytest.raises(RunError, match=r"at step 0; run: mechgrok view .* --step 0"):
        read_circuit(run.path, 0)


def test_the_table_has_every_edge_and_operand(found: SavedCircuit) -> None:
    table = found.table()
    assert len(table) == 2 * len(found.edges)
    assert set(table["operand"]) == {"a", "b"}
    assert int(table["in_circuit"].sum()) == 2 * len(found.circuit)
    assert set(found.judged) == {"a", "b"}
    for row in found.judged.values():
        assert row["faithfulness"] >= 0.9  # what it was searched for
        assert row["size"] == len(found.circuit)
        assert [len(x) for x in row["random"].values()] == [2, 2]
    assert {r["metric"] for r in found.errors} == {"logit_diff", "loss"}
    whole = [r["faithfulness"] for r in found.curve if r["size"] == len(found.edges)]
    assert whole == pytest.approx([1.0] * len(whole))
    assert "shifted by" in found.corruption


def test_effects_are_means_over_the_shifts(run: Run, found: SavedCircuit) -> None:
    steps = [int(x) for x in re.findall(r"\d+", found.corruption.split(" mod ")[0])]
    assert len(steps) == 2
    one = run[-1]
    tokens, labels = one.task.tokens, one.task.labels[:, 0]
    graph = mg.circuits.graph(one.model, p=7, keys=KEYS)
    total = torch.zeros(len(graph.edges), dtype=torch.float64)
    for shift in steps:
        rows = mg.circuits.shifted_operand(7, 1, shift)
        by = mg.interventions.metric("logit_diff", labels, against=labels[rows])
        total += mg.circuits.edge_effects(
            one.model, graph, tokens, tokens[rows], by, methods=["exact"]
        ).scores["exact"]
    assert found.scores["b"]["exact"] == pytest.approx((total / 2).tolist(), abs=1e-6)


def test_without_keys_components_are_the_nodes(run: Run) -> None:
    found = mg.circuit(run[0], steps=1, n_random=1, saturated=False, save=False)
    assert found.p == 0
    assert len(found.edges) == 2 * 3 + 1 + 2 + 1 + 2 + 1
    assert "no key frequencies" in found.selection
    assert not circuit_file(run.path, 0).exists()
    with pytest.raises(ValueError, match="at least 1"):
        mg.circuit(run[0], shifts=0)


@pytest.mark.parametrize("name", ["circuit", "circuit_errors", "circuit_faithfulness"])
def test_figures_draw_what_is_saved(name: str, run: Run, found: SavedCircuit) -> None:
    plot = discovery.load("plots", name)
    figure = plot(run)
    assert figure.to_json() == plot(found).to_json()
    assert f"run {run.name}, seed {run.seed}" in figure.layout.title.subtitle.text
    points = [t for t in figure.data if t.mode and "markers" in t.mode]
    lines = [t for t in figure.data if t.mode == "lines" and "→" in str(t.hovertemplate)]
    if name == "circuit":
        effects = found.larger_score("exact")
        assert len(lines) == sum(effects[i] != 0 for i in found.circuit)
        assert sum(len(t.x) for t in points) == len(found.nodes)
        widths = [t.line.width for t in lines]
        assert max(widths) > 2 * min(widths)
    if name == "circuit_errors":
        drawn = sum(len(t.x) for t in points)
        [left] = map(int, re.findall(r"(\d+) points", figure.layout.title.subtitle.text))
        assert drawn + left == 2 * 2 * len(found.edges)
    bare = Run(shutil.copytree(run.path, run.path.parent / f"bare_{name}"))
    shutil.rmtree(bare.path / "analysis")
    with pytest.raises(RunError, match="run: mechgrok view"):
        plot(bare)


@pytest.fixture(scope="module")
def page(run: Run, found: SavedCircuit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_view([run[-1], run[0]], tmp_path_factory.mktemp("view") / "view.html")


def test_the_page_of_two_checkpoints_names_no_other_host(page: Path, run: Run) -> None:
    whole = page.read_text()
    assert len(BUNDLE.findall(whole)) == 2
    text = BUNDLE.sub("", whole)
    assert OTHER_HOST.search(text) is None
    assert "http://" not in text
    assert "https://" not in text
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(set(ids)) == len(ids)
    for checkpoint in ("one", "other"):
        for name in ("patches", "circuit", "circuit_errors", "circuit_faithfulness"):
            assert f"{name}-{checkpoint}" in ids
        assert f"attention-{checkpoint}-0-L0H0" in ids
    assert escape(run[-1].name) in text
    assert text.count("CircuitsVis.render(") == 2 * 6 * run.config.model.n_heads


@needs_browser
def test_a_browser_without_network_draws_the_page(page: Path, tmp_path: Path) -> None:
    seen = open_offline(page, tmp_path)
    assert seen.console == []
    assert seen.requests == []
    assert seen.dom.count('class="plot js-plotly-plot"') == 8


def test_the_command_writes_the_page(run: Run, found: SavedCircuit, capsys: Any) -> None:
    command = discovery.load("cli", "view")
    command(run.path, against_step=0)
    assert capsys.readouterr().out.strip() == str(run.path / "view.html")
    assert (run.path / "view.html").exists()
    with pytest.raises(RunError, match="no checkpoint at step 1"):
        command(run.path, step=1)


def test_a_model_without_a_residual_sum_says_so(tmp_path: Path) -> None:
    """openai/grok's rows go on after the answer, so they are cut there; its model is post-LN."""
    sizes = {"n_layers": 1, "d_model": 12, "n_heads": 2, "d_mlp": 8}
    changed = {f"model.{name}": size for name, size in sizes.items()}
    changed |= {"task.modulus": 7, "task.operation": "add"}
    settings = override(preset("power2022_division"), changed)
    task = discovery.load("tasks", settings.task.name).make(settings.task, settings.seeds)
    weights = dict(build_model(settings, task).named_parameters())
    one = Checkpoint(settings, 0, weights)
    with pytest.raises(mg.circuits.NotResidual, match="post-LN"):
        mg.circuit(one)
    text = BUNDLE.sub("", write_view([one], tmp_path / "post.html").read_text())
    assert "post-LN" in text
    assert 'id="patches-one" class="plot"' in text


@pytest.mark.slow  # a training run and every figure; the script itself is run small by .ci/run
def test_the_small_experiment_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert circuit_modadd.main(["--small", "--runs", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "Prediction that holds: " in printed
    assert "EAP-IG on logit_diff, operand a: rank correlation" in printed
    assert "EAP on loss" in printed
    assert (tmp_path / "circuit_modadd" / "figures" / "circuit.html").exists()


def findings(**changes: Any) -> dict[str, Any]:
    """Numbers of a Fourier circuit."""
    made = {
        "edges": 100, "circuit_edges": 20, "share_of_edges_of_rest": 0.3,
        "effect": {"rest": 0.02}, "effect_untrained": {"rest": 0.31},
        "faithfulness": {"a": 0.95, "b": 0.93},
        "random": {name: {"n": 20, "mean": 0.1, "max": 0.4} for name in ("uniform", "matched")},
        "errors": [],
    }  # fmt: skip
    return made | changes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "the Fourier circuit"),
        ({"effect": {"rest": 0.2}}, "neither"),
        ({"circuit_edges": 60}, "neither"),
        ({"faithfulness": {"a": 0.95, "b": 0.3}}, "neither"),
        (
            {
                "effect": {"rest": 0.35},
                "random": {n: {"n": 20, "mean": 0.9, "max": 0.96} for n in ("uniform", "matched")},
            },
            "distributed",
        ),
    ],
)
def test_the_first_paragraph_follows_the_numbers(changes: dict[str, Any], said: str) -> None:
    assert f"holds: {said}." in circuit_modadd.paragraph(findings(**changes))
