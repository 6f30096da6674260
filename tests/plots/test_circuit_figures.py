"""Figures of a grokked circuit draw what is saved, and what is saved is what the model does."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from measures.closed_forms import cosine_logits
from smoke_runs import smoke_run

from mechgrok import discovery, figures, measures
from mechgrok.measures._modular import neurons
from mechgrok.plots import checkpoint_slider, spectra_2d
from mechgrok.plots._style import DOES_NOT_APPLY, SIGNED
from mechgrok.plots.component_ablation import CONTROL, MODES, names
from mechgrok.plots.logit_model import cosine_model
from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError

QUICK = Path(__file__).parents[1] / "data" / "quick_grokked"
CIRCUIT = (
    "attention_by_frequency",
    "attribution",
    "checkpoint_slider",
    "component_ablation",
    "dose_response",
    "embedding_circles",
    "embedding_rank",
    "logit_model",
    "neuron_grid",
    "spectra_2d",
)
MOST_BYTES = 15_000_000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A grokked run with what the figures need."""
    found = Run(shutil.copytree(QUICK, tmp_path_factory.mktemp("runs") / "quick"))
    needs = {need for name in CIRCUIT for need in discovery.module("plots", name).NEEDS}
    found.measure_steps(sorted(needs - {"neuron_ablation"}))
    found.measure("neuron_ablation", n_controls=2)
    found.measure_steps(["spectra", "key_frequencies"], found.steps)
    return found


def draw(name: str, subject: Any) -> go.Figure:
    """A figure by its file name."""
    return discovery.load("plots", name)(subject)


def of_kind(figure: go.Figure, kind: str) -> list[Any]:
    """Traces of one type."""
    return [trace for trace in figure.data if trace.type == kind]


@pytest.mark.parametrize("name", CIRCUIT)
def test_titles_say_run_seed_and_n_and_the_file_is_light(
    name: str, run: Run, tmp_path: Path
) -> None:
    figure = draw(name, run)
    facts = figure.layout.title.subtitle.text
    assert f"run {run.name}, seed {run.seed}" in facts
    assert "n = 1 run" in facts
    assert figure.data
    assert figure.layout.meta is None
    html = figures._write_html(figure, tmp_path / name).read_text()
    assert 'src="plotly.min.js"' in html
    assert "https://" not in html.replace("https://plot.ly", "")
    assert len(html) < MOST_BYTES


@pytest.mark.parametrize("name", CIRCUIT)
def test_a_missing_result_names_its_command(name: str, tmp_path: Path) -> None:
    bare = Run(shutil.copytree(QUICK, tmp_path / "bare"))
    with pytest.raises(RunError, match="run: mechgrok measure"):
        draw(name, bare)


def test_what_does_not_apply_is_said(tmp_path: Path) -> None:
    run = smoke_run(tmp_path / "divide", **{"task.operation": "divide"})
    needs = {need for name in CIRCUIT for need in discovery.module("plots", name).NEEDS}
    run.measure_steps(sorted(needs))
    for name in CIRCUIT:
        figure = draw(name, run)
        assert "not all 289 pairs" in figure.layout.meta[DOES_NOT_APPLY]
        assert not figure.data


@pytest.mark.parametrize("name", CIRCUIT)
def test_signed_maps_are_centred_at_zero(name: str, run: Run) -> None:
    signed = go.Heatmap(colorscale=SIGNED).colorscale
    maps = [trace for trace in of_kind(draw(name, run), "heatmap") if trace.colorscale == signed]
    assert bool(maps) == (name == "attribution")
    for trace in maps:
        assert trace.zmid == 0
        assert trace.zmin == -trace.zmax
        assert np.abs(trace.z).max() <= trace.zmax


def test_attribution_sums_to_its_total(run: Run) -> None:
    saved = run.result("attribution")
    (heat,) = of_kind(draw("attribution", run), "heatmap")
    assert np.array_equal(heat.z, saved.arrays["mean"])
    assert float(heat.z.sum()) == pytest.approx(saved["total"])
    assert list(heat.y)[-1] == "bias"
    assert heat.z.shape == (len(heat.y), len(heat.x))


def test_ticks_of_2_d_spectra_are_at_the_keys(run: Run) -> None:
    figure = draw("spectra_2d", run)
    saved, keys = run.result("spectra_2d"), run.result("key_frequencies")["freqs"]
    heat = of_kind(figure, "heatmap")
    titles = [a.text for a in figure.layout.annotations]
    assert titles[:3] == ["logits", "neurons", "attention to a, L0H0"]
    norms = saved.arrays["norms_logits"]
    relative = np.log10(np.maximum(norms / norms.max(), 10.0**-spectra_2d.DECADES))
    assert np.allclose(heat[0].z, relative, atol=1e-6)
    row, column = np.unravel_index(heat[0].z.argmax(), norms.shape)
    assert f"{heat[0].y[row]} x {heat[0].x[column]}" == saved["top_logits"][0]
    for place, text in zip(figure.layout.xaxis.tickvals, figure.layout.xaxis.ticktext, strict=True):
        around = {heat[0].x[int(place - 0.5)], heat[0].x[int(place + 0.5)]}
        assert around == {f"cos {text}", f"sin {text}"}
    assert [int(text) for text in figure.layout.xaxis.ticktext] == list(keys)
    assert len(heat) == 6
    assert not spectra_2d._components(8)[-1].startswith("sin")


def test_neuron_grid_shows_the_models_own_activations(run: Run) -> None:
    saved = run.result("neuron_clusters")
    maps = of_kind(draw("neuron_grid", run), "heatmap")
    chosen = saved.arrays["example"]
    assert len(maps) == len(chosen) == 12
    p = run.task.n
    acts = neurons(run[-1]).detach().numpy().reshape(p, p, -1)
    for trace, i in zip(maps, chosen.tolist(), strict=True):
        level = np.ptp(acts[:, :, i]) / 255
        assert np.abs(trace.z - acts[:, :, i]).max() <= 0.51 * level
    freqs = saved.arrays["freq"][chosen].tolist()
    assert freqs == sorted(freqs)
    assert set(freqs) == set(run.result("key_frequencies")["freqs"])


def test_embedding_circles_are_coloured_by_phase(run: Run) -> None:
    saved = run.result("embedding_circles")
    points = of_kind(draw("embedding_circles", run), "scatter")
    keys = saved["keys"]
    assert len(points) == len(keys)
    for trace, k in zip(points, keys, strict=True):
        assert np.array_equal(np.stack([trace.x, trace.y], axis=1), saved.arrays[f"points_{k}"])
        assert trace.marker.color.tolist() == [a * k % run.task.n for a in range(run.task.n)]
    angle = np.arctan2(points[0].y, points[0].x)
    expected = 2 * np.pi * points[0].marker.color / run.task.n
    assert np.cos(angle - expected).min() > 0.8  # cos along the first axis, sin along the second


def test_an_untrained_embedding_is_no_circle(run: Run) -> None:
    keys = run.result("key_frequencies")["freqs"]
    before = run.measure("embedding_circles", step=run.steps[0], keys=keys)
    # The plane is chosen to hold the key, so a random embedding has a share well above 0.
    assert 0.4 < before["min_share"] < 0.8 < 0.9 < run.result("embedding_circles")["min_share"]
    grokked = run.result("embedding_circles")
    assert grokked["non_keys_mean_share"] < 0.8 < grokked["min_share"]
    with pytest.raises(ValueError, match="no sine"):
        measures.embedding_circles(np.eye(8), [4])
    with pytest.raises(ValueError, match="no power"):
        measures.embedding_circles(np.zeros((7, 3)), [2])


@pytest.mark.parametrize(("p", "alpha"), [(23, {3: 2.0, 11: 1.0}), (8, {1: 2.0, 4: 1.0})])
def test_the_cosine_model_has_the_amplitudes_of_the_logits(p: int, alpha: dict) -> None:
    found = measures.logit_cosines(cosine_logits(p, alpha), p, list(alpha))
    model = cosine_model(found.coefficients.numpy(), list(alpha), p)
    expected = sum(a * np.cos(2 * np.pi * k * np.arange(p) / p) for k, a in alpha.items())
    assert np.allclose(model, expected, atol=1e-9)
    assert np.allclose(found.profile, expected, atol=1e-9)


def test_logit_model_draws_data_against_model(run: Run) -> None:
    figure = draw("logit_model", run)
    found = {trace.name: trace for trace in figure.data}
    data, model = found["logits, mean"], found["model of the keys"]
    assert list(data.x) == sorted(data.x)
    assert data.x[data.y.argmax()] == 0  # the right answer
    assert np.corrcoef(data.y, model.y)[0, 1] > 0.99
    keys = run.result("logit_cosines")["keys"]
    assert list(found["key frequency"].x) == list(keys)
    assert len(found["read-off"].x) == 2 * len(keys)


def test_heads_by_frequency_draws_every_head(run: Run) -> None:
    saved = run.result("attention_spectra")
    scores, values = of_kind(draw("attention_by_frequency", run), "heatmap")
    for head in range(4):
        assert np.allclose(scores.z[head], saved.arrays[f"power_shares_C_{head}"], atol=1e-6)
        assert np.allclose(values.z[head], saved.arrays[f"power_shares_W_neur_{head}"], atol=1e-6)
        assert scores.x[scores.z[head].argmax()] == saved[f"freq_C_{head}"]


def test_dose_response_draws_keys_and_every_control(run: Run) -> None:
    saved, figure = run.result("dose_response"), draw("dose_response", run)
    controls = [t for t in figure.data if t.legendgroup == "controls"]
    keys = [t for t in figure.data if t.legendgroup == "keys"]
    assert len(controls) == 2 * len(saved.arrays["controls"]) == 10
    assert np.array_equal(keys[0].y, saved.arrays["keys"][:, 0])
    assert np.array_equal(keys[1].y, saved.arrays["keys"][:, 1])
    assert (keys[1].x[0], keys[1].x[-1]) == (1, 0)  # all of the power, none
    assert keys[1].y[0] < 0.1 < 0.9 < saved["controls_min_accuracy"]
    assert 0 < saved["half"] < 1
    ablated = run.measure("frequency_ablation")
    assert saved["keys_x0_loss"] == ablated["keys_loss"]
    assert saved["keys_x0.5_accuracy"] == ablated["keys_x0.5_accuracy"]


def test_doses_out_of_order_are_refused() -> None:
    chance = torch.Generator()
    for wrong in ({"scales": (1.0, 0.0)}, {"n_controls": 0}):
        with pytest.raises(ValueError, match="expected"):
            measures.dose_response(lambda *_: (0.0, 1.0), [2], p=23, generator=chance, **wrong)


def test_component_ablation_draws_every_edit_and_control(run: Run) -> None:
    saved, figure = run.result("component_ablation"), draw("component_ablation", run)
    losses = [trace for trace in figure.data if trace.yaxis in (None, "y")]
    drawn = {t: y for trace in losses for t, y in zip(trace.text, trace.y, strict=True)}
    assert drawn == {name: saved[f"{name}_loss"] for name in names(saved)}
    lines = {shape.y0 for shape in figure.layout.shapes}
    assert lines == {saved["original_loss"], saved["original_accuracy"]}


def test_component_ablation_draws_clusters_beside_their_controls(run: Run) -> None:
    saved, figure = run.result("neuron_ablation"), draw("component_ablation", run)
    keys = sorted(run.result("key_frequencies")["freqs"])
    for axis, value, at in (("y2", "loss", 0), ("y4", "accuracy", 1)):
        panel = [trace for trace in figure.data if trace.yaxis == axis]
        own = [list(trace.y) for trace in panel if trace.name != CONTROL]
        assert own == [[saved[f"{k} {mode}_{value}"] for k in keys] for mode in MODES]
        for trace in (t for t in panel if t.name == CONTROL):
            assert len(trace.y) == 2 * len(keys)
        controls = [y for trace in panel if trace.name == CONTROL for y in trace.y]
        kept = np.concatenate([saved.arrays[f"controls {k}"][:, :, at].ravel() for k in keys])
        assert sorted(controls) == sorted(kept.tolist())


def test_embedding_rank_draws_its_control(run: Run) -> None:
    saved = run.result("embedding_rank")
    band, line = draw("embedding_rank", run).data
    assert np.array_equal(line.y, saved.arrays["singular"])
    n = len(line.y)
    assert np.array_equal(band.y[:n], saved.arrays["control_singular"].max(axis=0))


def test_frames_are_the_checkpoints(run: Run) -> None:
    figure = draw("checkpoint_slider", run)
    assert [frame.name for frame in figure.frames] == [str(step) for step in run.steps]
    (slider,) = figure.layout.sliders
    assert [step.args[0][0] for step in slider.steps] == [str(step) for step in run.steps]
    for frame, step in zip(figure.frames, run.steps, strict=True):
        shares = run.result("spectra", step).arrays["power_shares_W_E"]
        assert np.allclose(frame.data[0].y, shares, atol=1e-7)
        assert list(frame.data[-1].x) == [step, step]
        moved = [figure.data[i] for i in frame.traces]
        assert [trace.type for trace in moved] == [trace.type for trace in frame.data]
        assert moved[-1].name == "shown"
    assert np.array_equal(figure.frames[-1].data[0].y, figure.data[2].y)


def test_at_most_a_hundred_frames_even_in_logarithmic_time() -> None:
    many = checkpoint_slider.frame_steps(range(0, 100_000, 10))
    assert len(many) <= checkpoint_slider.MAX_FRAMES == 100
    assert (many[0], many[1], many[-1]) == (0, 10, 99_990)
    late = np.diff(np.log(many[-40:]))
    assert late.max() < 1.1 * late.min()
    assert checkpoint_slider.frame_steps([0, 1, 7]) == [0, 1, 7]


def test_a_picture_has_no_slider(run: Run) -> None:
    still = figures._still(draw("checkpoint_slider", run))
    assert not still.frames
    assert not still.layout.sliders
