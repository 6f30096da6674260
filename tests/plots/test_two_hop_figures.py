"""Figures of two-hop runs draw what is saved."""

from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from measures.two_hop_models import SMALL
from smoke_runs import smoke_run

from mechgrok import discovery
from mechgrok.config import CompositionTask, RunConfig, Schedule, Stop, TRMModel
from mechgrok.measures.bridge_tracing import PARTS
from mechgrok.plots._style import DOES_NOT_APPLY, SIGNED
from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError
from mechgrok.training.trainer import train

OF_ONE = ("bridge_lens", "bridge_probe", "bridge_swap", "bridge_tracing", "two_hop_cells")
OVER_STEPS = ("circuit_formation", "circuit_finetuning")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A short run with what the figures need, which answers some training queries right."""
    config = RunConfig(
        preset="tiny_two_hop",
        task=CompositionTask(**{**vars(SMALL), "entities": 10, "regime": "both_full"}),
        model=TRMModel(d_model=24, n_layers=1, L_cycles=1),
        schedule=Schedule(evaluate_every=50, checkpoints=("at 0", "every 50")),
        stop=Stop(max_steps=100, after_generalised=None),
    )
    directory = tmp_path_factory.mktemp("runs") / "two_hop"
    changes = {"threads": 1, "optim.lr": 1e-2, "optim.weight_decay": 0.01}
    found = train(config, run=directory, progress=False, overrides=changes)
    found.measure_steps(["bridge_lens", "two_hop_cells"], found.steps)
    found.measure_steps(["bridge_swap", "bridge_tracing"], found.steps[1:], items=40)
    found.measure("bridge_probe")
    return found


def draw(name: str, *subject: Any, **options: Any) -> go.Figure:
    """A figure by its file name."""
    return discovery.load("plots", name)(*subject, **options)


def maps(figure: go.Figure) -> dict[str, Any]:
    """Heat maps by the title of their panel."""
    titles = [note.text for note in figure.layout.annotations]
    heat = [trace for trace in figure.data if trace.type == "heatmap"]
    return dict(zip(titles, heat, strict=True))


@pytest.mark.parametrize("name", [*OF_ONE, *OVER_STEPS])
def test_titles_say_n_and_there_is_something_drawn(name: str, run: Run) -> None:
    figure = draw(name, run)
    facts = figure.layout.title.subtitle.text
    assert "n = 1 run" in facts
    assert figure.data
    assert figure.layout.meta is None


@pytest.mark.parametrize("name", [*OF_ONE, *OVER_STEPS])
def test_a_missing_result_names_its_command_and_another_task_its_reason(
    name: str, tmp_path: Path
) -> None:
    other = smoke_run(tmp_path / "add")
    with pytest.raises(RunError, match="run: mechgrok measure"):
        draw(name, other)
    if name in OF_ONE:
        other.measure(name)
        figure = draw(name, other)
        assert "no two-hop queries" in figure.layout.meta[DOES_NOT_APPLY]
        assert not figure.data


@pytest.mark.parametrize(
    ("name", "title", "array", "signed"),
    [
        ("bridge_lens", "bridge decoded", "rate test_inferred_ood", False),
        ("bridge_probe", "selectivity, OOD", "selectivity ood", True),
        ("bridge_swap", "excess", "excess", True),
        ("bridge_tracing", "r1 replaced", "flips r1", False),
    ],
)
def test_maps_are_the_saved_ones_and_signed_maps_are_centred(
    name: str, title: str, array: str, signed: bool, run: Run
) -> None:
    found, saved = maps(draw(name, run)), run.result(name)
    assert np.array_equal(found[title].z, saved.arrays[array])
    assert list(found[title].y) == saved["stages"] or tuple(found[title].y) == saved["stages"]
    scale = go.Heatmap(colorscale=SIGNED).colorscale
    assert (found[title].colorscale == scale) == signed
    for trace in found.values():
        if trace.colorscale == scale:
            assert (trace.zmid, trace.zmin) == (0, -trace.zmax)
            assert np.abs(trace.z).max() <= trace.zmax
        else:
            assert (trace.zmin, trace.zmax) == (0, 1)


def test_excess_is_rate_minus_control_and_the_table_is_said(run: Run) -> None:
    figure = draw("bridge_lens", run, kind="train_inferred")
    found, saved = maps(figure), run.result("bridge_lens")
    other = found["other queries' bridges"].z
    assert np.array_equal(found["excess"].z, found["bridge decoded"].z - other)
    counts = saved.arrays["counts train_inferred"]
    assert (
        f"{counts[1, 1]} answers right, {counts[1, 0]} wrong" in figure.layout.title.subtitle.text
    )
    with pytest.raises(RunError, match="no lens of 'nothing'"):
        draw("bridge_lens", run, kind="nothing")


def test_tracing_can_show_its_change(run: Run) -> None:
    first, last = run.steps[1], run.steps[-1]
    found = maps(draw("bridge_tracing", run, since=first))
    for part in PARTS:
        before, after = (
            run.result("bridge_tracing", s).arrays[f"flips {part}"] for s in (first, last)
        )
        assert np.array_equal(found[f"{part} replaced"].z, after - before)


def test_cells_draw_every_kind_with_its_interval(run: Run) -> None:
    saved, (exact, target) = run.result("two_hop_cells"), draw("two_hop_cells", run).data
    kinds = saved["kinds"]
    assert isinstance(kinds, tuple)
    assert list(exact.x) == [saved[f"{kind}_exact_match"] for kind in kinds]
    assert list(target.x) == [saved[f"{kind}_target_accuracy"] for kind in kinds]
    low, high = saved["train_inferred_interval_within_run"]  # pyright: ignore
    i = kinds.index("train_inferred")
    assert exact.x[i] + exact.error_x.array[i] == pytest.approx(high)
    assert exact.x[i] - exact.error_x.arrayminus[i] == pytest.approx(low)


def test_circuit_formation_draws_every_checkpoint_of_every_run(run: Run) -> None:
    figure = draw("circuit_formation", [run, run], titles=["A", "B"])
    assert len(figure.data) == 12
    assert [note.text for note in figure.layout.annotations] == ["A", "B"]
    found = {trace.name: trace for trace in figure.data[:6]}
    lens = run.results("bridge_lens")
    assert list(found["bridge found"].x) == run.steps
    for name, value in (("bridge found", "bridge_found"), ("target found", "target_found")):
        assert list(found[name].y) == [r[f"test_inferred_ood_{value}"] for r in lens]
    accuracy = [r["training_accuracy"] for r in run.results("two_hop_cells")]
    assert list(found["training accuracy"].y) == accuracy
    assert sum(bool(trace.showlegend) for trace in figure.data) == 6
    assert len(draw("circuit_formation", run, published=True).data) == 3
    for name in ("circuit_formation", "circuit_finetuning", "circuit_selection"):
        with pytest.raises(RunError, match="got no"):
            draw(name, [])


def test_finetuning_panels_follow_kinds_and_runs(run: Run) -> None:
    kinds = {"ood_both": "both", "train_inferred": "trained"}
    figure = draw("circuit_finetuning", [run], kinds=kinds)
    exact = [trace for trace in figure.data if trace.name == "exact match"]
    for trace, kind in zip(exact, kinds, strict=True):
        assert list(trace.y) == [r[f"{kind}_exact_match"] for r in run.results("two_hop_cells")]
    nothing = draw("circuit_finetuning", [run], kinds={"new_old": "new + old"})
    assert "no new_old" in [note.text for note in nothing.layout.annotations]
    selected = draw("circuit_selection", [(run, "train_inferred")])
    assert [t.y for t in selected.data if t.name == "exact match"] == [exact[1].y]
