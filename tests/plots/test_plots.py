"""Figures: what they draw is what is saved, and a missing result is an error with its command."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from smoke_runs import smoke_run

from mechgrok import discovery, figures
from mechgrok.plots import attention
from mechgrok.plots._phases import spans
from mechgrok.plots._style import DOES_NOT_APPLY
from mechgrok.plots.frequency_ablation import check_lines
from mechgrok.report import FIGURES, LAST, analyse
from mechgrok.runs.result import NotApplicable, Result
from mechgrok.runs.run import Run
from mechgrok.runs.series import Series
from mechgrok.runs.storage import RunError

NEED_KEYS = {"embedding_circles", "logit_model"}
"""Figures that sixty steps are too few for; test_circuit_figures.py draws them."""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run without any saved result."""
    return smoke_run(tmp_path_factory.mktemp("plots") / "bare")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An analysed run."""
    found = smoke_run(tmp_path_factory.mktemp("plots") / "tiny")
    analyse(found, progress=False)
    return found


@pytest.fixture(scope="module")
def random_labels(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An analysed run to which sums of frequencies do not apply."""
    directory = tmp_path_factory.mktemp("plots") / "random"
    found = smoke_run(directory, **{"task.operation": "random_labels"})
    analyse(found, progress=False)
    return found


def draw(name: str, subject: Any, **options: Any) -> go.Figure:
    """A figure by its file name."""
    return discovery.load("plots", name)(subject, **options)


def traces(figure: go.Figure) -> dict[str, Any]:
    """Traces by name."""
    return {trace.name: trace for trace in figure.data}


def texts(figure: go.Figure) -> str:
    """Title, subtitle and annotations."""
    title = figure.layout.title
    found = [title.text, title.subtitle.text, *(a.text for a in figure.layout.annotations)]
    return " | ".join(str(text) for text in found)


@pytest.mark.parametrize("name", FIGURES)
def test_a_missing_result_names_its_command(name: str, bare: Run) -> None:
    with pytest.raises(RunError, match="run: mechgrok measure"):
        draw(name, bare)


@pytest.mark.parametrize("name", sorted({*FIGURES} - NEED_KEYS))
def test_titles_say_run_seed_and_n(name: str, run: Run) -> None:
    figure = draw(name, run)
    assert f"run {run.name}, seed 0" in texts(figure)
    assert "n = 1 run" in texts(figure)
    assert figure.data
    assert figure.layout.meta is None


def test_every_figure_declares_what_it_needs() -> None:
    measures = set(discovery.names("measures"))
    for name in discovery.names("plots"):
        assert set(discovery.module("plots", name).NEEDS) <= measures


def test_grokking_curve_draws_the_evaluations(run: Run) -> None:
    figure = draw("grokking_curve", run)
    rows = run.evaluations()
    columns = {
        "train loss": "train_loss",
        "test loss": "test_loss",
        "train accuracy": "train_acc",
        "test accuracy": "test_acc",
    }
    for name, column in columns.items():
        trace = traces(figure)[name]
        assert list(trace.x) == [row["step"] for row in rows]
        assert list(trace.y) == [row[column] for row in rows]
    assert figure.layout.yaxis.type == "log"


def test_moments_are_intervals_and_phases_are_shaded(run: Run, tmp_path: Path) -> None:
    figure = go.Figure()
    discovery.module("plots", "grokking_curve").mark_moments(figure, _times((75, 100), (None, 50)))
    shapes = {shape.name: (shape.x0, shape.x1) for shape in figure.layout.shapes}
    assert shapes == {"memorised (75, 100]": (75, 100), "generalised by 50": (50, 50)}
    unfinished = NotApplicable("not reached")
    assert spans(_phases(100, 200, 300)) == [
        ("memorisation", 0, 100),
        ("circuit formation", 100, 200),
        ("cleanup", 200, 300),
    ]
    assert spans(_phases(100, unfinished, 300))[-1] == ("circuit formation and cleanup", 100, 300)
    assert spans(_phases(unfinished, unfinished, unfinished)) == []


def _times(memorised: tuple, generalised: tuple) -> Result:
    values = {"memorised_interval": memorised, "generalised_interval": generalised}
    return Result("times", values, {})


def _phases(memorisation: Any, circuit: Any, cleanup: Any) -> Result:
    values = {
        "cleanup_end": cleanup,
        "circuit_formation_end": circuit,
        "memorisation_end": memorisation,
    }
    return Result("phases", values, {})


def test_phases_that_do_not_apply_are_said(run: Run) -> None:
    assert "no phases:" in texts(draw("grokking_curve", run))


def test_spectra_draw_the_saved_shares(run: Run) -> None:
    figure = draw("spectra", run)
    saved = run.result("spectra")
    bars = [trace for trace in figure.data if trace.type == "bar"]
    drawn = {int(x): y for bar in bars[:2] for x, y in zip(bar.x, bar.y, strict=True)}
    shares = saved.arrays["power_shares_W_E"]
    assert drawn == pytest.approx({k + 1: share for k, share in enumerate(shares)})
    keys = run.result("key_frequencies")["freqs"]
    assert [int(k) for k in bars[0].x] == list(keys)
    heat = next(trace for trace in figure.data if trace.type == "heatmap")
    assert list(heat.x) == run.steps
    assert np.allclose(heat.z[:, -1], shares, atol=1e-6)


def test_progress_measures_draw_every_checkpoint(run: Run) -> None:
    figure = draw("progress_measures", run)
    found = traces(figure)
    assert list(found["Gini of W_E"].x) == run.steps
    assert list(found["Gini of W_E"].y) == [r["W_E"] for r in run.results("gini")]
    norms = [r["total"] for r in run.results("weight_norm")]
    assert list(found["sum of squared weights"].y) == norms
    restricted = run.results("restricted_loss")
    if isinstance(restricted[-1].headline, float):
        drawn = list(found["restricted loss, all pairs"].y)
        assert drawn == [r["all"] for r in restricted]
        assert restricted[-1].definition["operator"] in texts(figure)


def test_a_curve_is_of_one_set_of_options(bare: Run, tmp_path: Path) -> None:
    """What `lead` saves with other keys once stood in this curve, step by step."""
    run = Run(bare.path, work=tmp_path)
    run.measure_steps(["restricted_loss", "excluded_loss", "gini", "weight_norm"], run.steps)
    before = draw("progress_measures", run).to_dict()
    run.measure_steps(["restricted_loss", "excluded_loss"], run.steps, keys=[1])
    assert run.result("restricted_loss", keys=[1])["keys"] == (1,)
    assert draw("progress_measures", run).to_dict() == before


def test_a_part_that_does_not_apply_leaves_the_rest(random_labels: Run) -> None:
    figure = draw("progress_measures", random_labels)
    assert "restricted_loss does not apply" in texts(figure)
    assert "restricted loss, all pairs" not in traces(figure)
    assert len(traces(figure)["Gini of W_E"].x) == len(random_labels.steps)


def test_neuron_clusters_count_live_neurons(run: Run) -> None:
    figure = draw("neuron_clusters", run)
    saved = run.result("neuron_clusters")
    live = int((~saved.arrays["dead"]).sum())
    bars = [trace for trace in figure.data if trace.name.startswith("neurons")]
    assert sum(int(np.sum(bar.y)) for bar in bars) == live
    assert sum(bars[0].y) == saved["clustered"]


def test_frequency_ablation_draws_every_control(run: Run) -> None:
    figure = draw("frequency_ablation", run)
    saved = run.result("frequency_ablation")
    bar = next(trace for trace in figure.data if trace.type == "bar")
    names = ("original", "keys", "controls_mean", "non_keys")
    assert list(bar.y) == [saved[f"{name}_accuracy"] for name in names]
    points = next(t for t in figure.data if t.name and "control draws" in t.name)
    assert np.array_equal(points.y, saved.arrays["controls"][:, 2])
    assert len(points.y) >= 20
    dose = traces(figure)["keys scaled"]
    assert (dose.x[0], dose.y[0]) == (0, saved["keys_accuracy"])
    assert (dose.x[-1], dose.y[-1]) == (1, saved["original_accuracy"])
    assert list(dose.y[1:-1]) == saved.arrays["dose"][:, 2].tolist()
    others = traces(figure)["all non-keys scaled"]
    assert list(others.y) == [
        saved["non_keys_accuracy"],
        saved["non_keys_x0.3_accuracy"],
        saved["original_accuracy"],
    ]


def test_the_check_is_shown_line_by_line(run: Run) -> None:
    saved = run.result("frequency_ablation")
    lines = check_lines(saved)
    assert len(lines) == 3
    assert sum(line.startswith("✗ failed") for line in lines) == len(saved["failed_lines"])
    assert all(line in texts(draw("frequency_ablation", run)) for line in lines)
    assert not saved["passed"]  # sixty steps memorise nothing
    assert "points" in lines[0]


def test_mean_attention_draws_mean_and_spread(run: Run) -> None:
    figure = draw("mean_attention", run)
    saved = run.result("mean_attention")
    heads = saved.arrays["mean"][0]
    assert np.array_equal(figure.data[0].z, heads)
    assert np.array_equal(figure.data[1].z, saved.arrays["std"][0])
    assert list(figure.data[0].x) == ["a", "b", "="]
    assert list(figure.data[0].y) == [f"L0H{head}" for head in range(len(heads))]


@pytest.mark.parametrize("name", ["spectra", "neuron_clusters", "frequency_ablation"])
def test_a_figure_that_does_not_apply_says_why(name: str, tmp_path: Path) -> None:
    run = smoke_run(tmp_path / "divide", **{"task.operation": "divide"})
    analyse(run, progress=False)
    figure = draw(name, run)
    assert "not all 289 pairs" in figure.layout.meta[DOES_NOT_APPLY]
    assert "Does not apply" in texts(figure)
    assert not figure.data


def test_series_shares_axes_by_kind() -> None:
    curves = {"test_loss": [(0, 3.0), (10, 1.0)], "test_acc": [(0, 0.1), (10, 0.9)], "gini": []}
    series = Series("a_run", 3, curves, absent={"gini": "there is no embedding"})
    figure = draw("series", series)
    assert list(traces(figure)) == ["test_loss", "test_acc"]
    assert list(traces(figure)["test_loss"].y) == [3.0, 1.0]
    assert figure.layout.yaxis.type == "log"
    assert figure.layout.yaxis2.type != "log"
    assert "gini does not apply: there is no embedding" in texts(figure)
    assert "seed 3" in texts(figure)


def test_a_series_of_a_run_plots_itself(run: Run) -> None:
    figure = run.series(["test_loss", "losses.test_loss"]).plot()
    assert list(traces(figure)) == ["test_loss", "losses.test_loss"]


def test_runs_are_all_drawn_with_n_in_the_title(run: Run, random_labels: Run) -> None:
    figure = draw("runs", [run, random_labels])
    assert len(figure.data) == 2
    assert "n = 2 runs" in figure.layout.title.text
    assert list(figure.data[1].y) == [row["test_acc"] for row in random_labels.evaluations()]
    with pytest.raises(RunError, match="no metric 'speed'"):
        draw("runs", [run], metric="speed")
    with pytest.raises(RunError, match="got no runs"):
        draw("runs", [])


def test_attention_views_carry_labels_and_need_no_network() -> None:
    pattern = np.tril(np.ones((2, 1, 2, 3, 3))) / np.array([1, 2, 3])[:, None]
    tokens = [["3", "5", "="], ["</script>", "0", "="]]
    view = attention.plot(tokens, pattern)
    assert view.body.count("CircuitsVis.render(") == 4  # two rows of two heads
    assert '"tokens": ["3", "5", "="]' in view.body
    assert view.body.count("</script>") == 4
    assert attention.bundle().count("</script") == 1  # React's own is escaped
    assert "unpkg.com" not in view.page()
    assert "sourceMappingURL" not in attention.bundle()
    with pytest.raises(ValueError, match="a label per row and position"):
        attention.plot(tokens[:1], pattern)


@pytest.fixture
def no_browser(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without a browser."""
    monkeypatch.setattr(figures, "browser", lambda: None)
    figures._say.cache_clear()
    yield
    figures._say.cache_clear()


def test_html_is_written_without_a_browser(
    run: Run, tmp_path: Path, no_browser: None, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = draw("mean_attention", run)
    for name in ("one", "two"):
        assert figures.save_figure(figure, tmp_path / name) == [tmp_path / f"{name}.html"]
    assert capsys.readouterr().out.count("\n") == 1
    assert {p.name for p in tmp_path.iterdir()} == {"one.html", "two.html", "plotly.min.js"}
    html = (tmp_path / "one.html").read_text()
    assert 'src="plotly.min.js"' in html
    assert "https://" not in html.replace("https://plot.ly", "")  # a default that is switched off


@pytest.mark.skipif(
    figures.browser() is None or not figures.has_kaleido(),
    reason="pictures need a browser and kaleido: apt install chromium, pip install kaleido",
)
def test_pictures_are_written_where_a_browser_is_found(run: Run, tmp_path: Path) -> None:
    written = figures.save_figure(draw("mean_attention", run), tmp_path / "figure")
    assert [path.suffix for path in written] == [".html", ".png", ".pdf"]
    assert written[1].read_bytes().startswith(b"\x89PNG")
    assert written[2].read_bytes().startswith(b"%PDF")


def test_browser_path_is_obeyed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "nothing"))
    assert figures.browser() is None
    program = tmp_path / "browser"
    program.touch(mode=0o755)
    monkeypatch.setenv("BROWSER_PATH", str(program))
    assert figures.browser() == str(program)


def test_measures_of_the_last_checkpoint_are_saved_once(run: Run) -> None:
    assert all(len(run.results(name)) == 1 for name in LAST)
    assert all(math.isfinite(x) for x in run.result("spectra").arrays["power_shares_W_E"])
