"""Spectra of runs, files and arrays: the published computation, what is saved, what is refused."""

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from published_spectra import published_eigenvalues, write_directory
from stub_runs import stub_run

import mechgrok as mg
from mechgrok import figures
from mechgrok.cli import main
from mechgrok.cli import spectra as command
from mechgrok.config import ConfigError
from mechgrok.plots._style import DOES_NOT_APPLY
from mechgrok.runs import snapshots as loading
from mechgrok.runs.fingerprints import Fingerprints
from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError
from mechgrok.runs.training_spectrum import TrainingSpectrum, read_spectrum

TRUE = np.array([1, 0.998, 0.97, *(0.985 * np.exp([0.15j, -0.15j]))])


def decays(steps: int = 240, features: int = 4, noise: float = 0.002, seed: int = 0) -> np.ndarray:
    """A constant, two decays and a damped turn, mixed, with noise."""
    generator = np.random.default_rng(seed)
    powers = TRUE[:4, None] ** np.arange(steps)
    mixing = generator.normal(size=(4, features)) + 1j * generator.normal(size=(4, features))
    return (powers.T @ mixing).real + noise * generator.normal(size=(steps, features))


def fingerprints(**values: Any) -> Fingerprints:
    probes = values.pop("probes", np.arange(4))
    return Fingerprints(2 * np.arange(240), values, probes, ("train",) * 4, 2)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run with accuracies and made-up fingerprints."""
    recorded = fingerprints(answer_log_prob=decays(), end_log_prob=decays(seed=1))
    monkeypatch.setattr(loading, "read_fingerprints", lambda _: recorded)
    return stub_run(tmp_path / "run", 300, last=480)


def test_three_lines_for_any_array() -> None:
    found = mg.spectra(decays(), n_delays=8, rank=5, center="none", record_every=2)
    assert np.abs(np.sort_complex(found.eigenvalues) - np.sort_complex(TRUE)).max() < 3e-3
    table = found.table()
    assert len(table) == 5
    assert table["trusted"].tolist() == [True] * 5
    slow = table.iloc[1]
    assert slow["half_life"] == pytest.approx(2 * np.log(0.5) / np.log(slow["modulus"]))
    low, high = found.modes[1].modulus_interval or (1.0, 1.0)
    assert low < abs(found.modes[1].eigenvalue) < high
    assert isinstance(found.plot(), go.Figure)


@pytest.mark.parametrize("first", [None, 60])
def test_legacy_is_the_published_computation(first: int | None, tmp_path: Path) -> None:
    values = decays(200, 19, noise=0.05)
    directory = write_directory(tmp_path / "seed47_wd1", values)
    found = mg.spectra(directory, legacy=True, min_step=first)
    expected = published_eigenvalues(values[(first or 0) // 2 :])
    assert len(found.eigenvalues) == 10
    assert len(found.rejected) == 0
    assert np.abs(np.sort_complex(found.eigenvalues) - np.sort_complex(expected)).max() < 1e-9
    said = found.settings
    assert (said["observable"], said["center"], said["method"]) == (
        "end_log_prob", "temporal_mean", "pcr",
    )  # fmt: skip


def test_legacy_of_a_run_looks_at_its_end_token(run: Run) -> None:
    found = mg.spectra(run, legacy=True)
    recorded = loading.read_fingerprints(run.path)
    expected = published_eigenvalues(recorded.quantiles("end_log_prob"))
    assert np.abs(np.sort_complex(found.eigenvalues) - np.sort_complex(expected)).max() < 1e-9
    assert found.settings["first_step"] == 0
    other = published_eigenvalues(recorded.quantiles("answer_log_prob"))
    assert np.abs(np.sort_complex(found.eigenvalues) - np.sort_complex(other)).max() > 1e-3
    with pytest.raises(ConfigError, match="legacy means .*center='temporal_mean'"):
        mg.spectra(run, legacy=True, center="none")


def test_a_run_leaves_out_its_warm_up_and_draws_its_optimiser(run: Run) -> None:
    found = mg.spectra(run, n_delays=8, rank=4)
    assert found.settings["first_step"] == 20
    assert found.notes == (f"{run.name}: steps below 20 left out, twice the warm-up",)
    assert found.poles == pytest.approx(
        {"weight decay": 0.998001, "Adam beta1": 0.81, "Adam beta2": 0.9604}
    )
    assert mg.spectra(run, n_delays=8, rank=4, min_step=0).settings["first_step"] == 0
    cut = mg.spectra(run, n_delays=8, rank=4, min_step=100, max_step=300).settings
    assert (cut["first_step"], cut["last_step"], cut["snapshots"]) == (100, 300, [101])


def test_windows_are_in_steps(run: Run) -> None:
    found = mg.spectra(run, n_delays=8, rank=4, window=50, min_step=0)
    (columns,) = found.windows
    assert columns["first_step"][:2] == [0, 10]
    assert columns["last_step"][:2] == [98, 108]
    assert max(columns["last_step"]) <= 478
    assert found.settings["window"] == 50
    assert all(0 < r < 0.2 for r in columns["residual"])


def test_what_is_saved_is_read_back(run: Run) -> None:
    found = mg.spectra(run, n_delays=8, rank=6, residual_limit=0.01)
    assert 0 < len(found.eigenvalues) < 6
    found.save(run.path / "analysis")
    again = read_spectrum(run.path)
    for name in ("settings", "runs", "seeds", "modes", "windows", "poles", "evaluations", "notes"):
        assert getattr(again, name) == getattr(found, name), name
    assert (again.singular_values == found.singular_values).all()
    stored = np.load(run.path / "analysis" / "eigenvalues.npy")
    assert (stored == found.eigenvalues).all()
    for name in ("eigenvalues", "singular_values", "windowed_residual"):
        assert mg.plot(run, name).to_json() == found.plot(name).to_json()
    path = run.path / "analysis" / "spectrum.json"
    data = json.loads(path.read_text())
    del data["modes"]
    path.write_text(json.dumps(data))
    with pytest.raises(RunError, match="incomplete"):
        read_spectrum(run.path)
    path.unlink()
    with pytest.raises(RunError, match="no saved spectrum; run: mechgrok spectra"):
        mg.plot(run, "eigenvalues")


def traces(figure: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data}


def test_eigenvalues_are_drawn_filled_or_hollow_beside_the_poles(run: Run) -> None:
    found = mg.spectra(run, n_delays=8, rank=6, residual_limit=0.01)
    drawn = traces(found.plot("eigenvalues"))
    for name, values, symbol in (
        ("trusted", found.eigenvalues, "circle"),
        ("rejected: residual above the limit", found.rejected, "circle-open"),
    ):
        assert np.array(drawn[name].x) + 1j * np.array(drawn[name].y) == pytest.approx(values)
        assert drawn[name].marker.symbol == symbol
    assert drawn["weight decay: 0.998"].x == (found.poles["weight decay"],)
    circle = drawn["unit circle"]
    assert np.hypot(circle.x, circle.y) == pytest.approx(1)


def test_windows_and_accuracies_are_drawn(run: Run) -> None:
    found = mg.spectra(run, n_delays=8, rank=4)
    figure = found.plot("windowed_residual")
    residual, rank = figure.data[:2]
    assert list(residual.x) == found.windows[0]["last_step"]
    assert list(residual.y) == found.windows[0]["residual"]
    assert list(rank.y) == found.windows[0]["effective_rank"]
    assert list(traces(figure)["test accuracy"].y) == [r["test_acc"] for r in run.evaluations()]
    assert "n = 1 run" in figure.layout.title.subtitle.text


def test_singular_values_show_the_rank_and_the_rule() -> None:
    found = mg.spectra(decays(), n_delays=8, rank=3, center="none")
    drawn = traces(found.plot("singular_values"))
    assert list(drawn["singular values"].y) == found.singular_values.tolist()
    assert drawn["rank taken: 3"].x == (3.5, 3.5)
    assert found.settings["optimal_rank"] == 5
    assert drawn["optimal rank, at most 12: 5"].x == (5.5, 5.5)
    threshold = drawn["optimal hard threshold"].y[0]
    assert (found.singular_values > threshold).sum() == 5


def test_several_runs_share_one_operator() -> None:
    pair = [fingerprints(answer_log_prob=decays(noise=0.0), margin=decays()) for _ in range(2)]
    found = mg.spectra(pair, n_delays=8, rank=4)
    assert len(found.windows) == len(found.runs) == 2
    assert all(len(mode.amplitudes) == 2 for mode in found.modes)
    assert len(traces(found.plot("windowed_residual"))) >= 1
    with pytest.raises(RunError, match="have other probes"):
        mg.spectra([pair[0], fingerprints(answer_log_prob=decays(), probes=np.arange(4) + 1)])


def test_hidden_states_are_compressed() -> None:
    recorded = Fingerprints(
        2 * np.arange(240), {}, np.arange(4), ("train",) * 4, 2, decays(240, 60, noise=1e-3)
    )
    found = mg.spectra(recorded, observable="hidden", n_delays=8, rank=5, center="none")
    assert found.settings["components"] == 10
    assert np.abs(np.sort_complex(found.eigenvalues) - np.sort_complex(TRUE)).max() < 3e-3


CLIFF = np.concatenate([decays(120), np.zeros((120, 4))])


def test_what_cannot_be_shown_is_said() -> None:
    short = mg.spectra(decays(60), n_delays=16, rank=3)
    assert any("no intervals" in note and "n_delays=12" in note for note in short.notes)
    assert short.modes[0].modulus_interval is None
    dead = mg.spectra(CLIFF, n_delays=8, rank=3, window=40)
    assert any("no windowed residual" in note and "constant" in note for note in dead.notes)
    assert "constant" in dead.plot("windowed_residual").layout.meta[DOES_NOT_APPLY]
    assert mg.spectra(decays(), n_delays=8, rank=3, resamples=0).notes == ()


REFUSED = {
    "33 snapshots, expected at least n_delays . 2 = 34": decays(33),
    "is constant": np.ones((100, 3)),
    "1 values that are not finite, the first in row 7": np.where(
        np.arange(100)[:, None] == 7, np.nan, decays(100, 1)
    ),
}


@pytest.mark.parametrize("said", REFUSED)
def test_data_without_a_spectrum_are_one_line(
    said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=said):
        mg.spectra(REFUSED[said])
    np.save(tmp_path / "mine.npy", REFUSED[said])
    assert main(["spectra", str(tmp_path / "mine.npy")]) == 1
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert printed.startswith("error: ")
    assert not (tmp_path / "mine_spectrum").exists()


def test_uneven_steps_are_refused_before_anything_is_computed() -> None:
    recorded = fingerprints(answer_log_prob=decays())
    gap = Fingerprints(
        np.where(np.arange(240) < 100, 1, 3) * recorded.steps, recorded.values, recorded.probes,
        recorded.splits, 2,
    )  # fmt: skip
    with pytest.raises(ValueError, match="gap of 402 after step 198 where the others are 2"):
        mg.spectra(gap)
    with pytest.raises(ConfigError, match="center='mean', expected one of none, temporal_mean"):
        mg.spectra(decays(), center="mean")
    with pytest.raises(ConfigError, match="resamples=-1"):
        mg.spectra(decays(), resamples=-1)


def test_the_command_takes_the_options_of_the_function() -> None:
    flags = inspect.signature(command.command).parameters
    options = inspect.signature(mg.spectra).parameters
    shared = {k: p.default for k, p in options.items() if p.kind is p.KEYWORD_ONLY}
    assert {k: p.default for k, p in flags.items() if k not in ("run", "out")} == shared


def test_the_command_writes_results_and_figures(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "browser", lambda: None)
    asked = ["--n-delays", "8", "--rank", "6", "--center", "none", "--method", "pcr"]
    assert main(["spectra", str(run.path), *asked, "--max-step", "400"]) == 0
    printed = capsys.readouterr().out
    found = read_spectrum(run.path)
    assert isinstance(found, TrainingSpectrum)
    said = found.settings
    assert (said["n_delays"], said["rank"], said["center"], said["method"]) == (8, 6, "none", "pcr")
    assert said["last_step"] == 400
    assert f"{len(found.eigenvalues)} of 6 eigenvalues trusted" in printed
    assert "reference: weight decay 0.998001" in printed
    for name in ("eigenvalues", "singular_values", "windowed_residual"):
        assert (run.path / "figures" / f"{name}.html").exists()
    out = run.path / "elsewhere"
    assert main(["spectra", str(run.path), "--legacy", "--out", str(out)]) == 0
    assert len(np.load(out / "eigenvalues.npy")) == 10
    assert (out / "eigenvalues.html").exists()
