"""The page of a sweep and its figures: every run drawn, censored and failed ones said."""

import json
from collections import Counter
from pathlib import Path

import pytest
from runs.stub_runs import stub_run
from test_report import BUNDLE, OTHER_HOST

from mechgrok.cli import main
from mechgrok.plotting import plot
from mechgrok.runs.runs import Runs
from mechgrok.runs.storage import RunError
from mechgrok.sweep_page import write_sweep_page

DECAY = "optim.weight_decay"


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    """Two decays, three seeds; the slow ones censored, one of them diverged."""
    found = []
    for seed in range(3):
        for decay in (1.0, 3.0):
            state = "diverged" if (seed, decay) == (2, 1.0) else "finished"
            changes = {DECAY: decay, "seeds.base": seed}
            steps = None if decay == 1 else 100 + 10 * seed
            directory = tmp_path / f"decay{decay:g} seed{seed}"
            found.append(stub_run(directory, steps, state=state, changes=changes))
    return Runs(found)


def test_the_page_shows_every_run_and_every_failure(runs: Runs, tmp_path: Path) -> None:
    failed = {"never <started>": "no such operation"}
    path = write_sweep_page(runs, tmp_path / "sweep.html", failed, [DECAY])
    whole = path.read_text()
    page = BUNDLE.sub("", whole)
    assert OTHER_HOST.search(page) is None
    assert "https://" not in page
    for run in runs:
        assert f"{run.name}<br>step" in page.replace("\\u003c", "<"), "its curve"
        assert f">{run.name}</td>" in page, "its row"
    assert "never &lt;started&gt;" in page
    assert "no such operation" in page
    assert "made up" in page, "the reason of the run that diverged"
    assert page.count("Plotly.newPlot") == 3


def test_a_page_of_runs_that_all_failed_says_so(tmp_path: Path) -> None:
    gone = [stub_run(tmp_path / f"run{i}", None, state="diverged") for i in range(2)]
    page = write_sweep_page(Runs(gone), tmp_path / "sweep.html", None, [DECAY]).read_text()
    assert "No comparison: all 2 runs failed" in page


def test_small_multiples_have_a_panel_per_value(runs: Runs) -> None:
    figure = plot(list(runs), "small_multiples", by=DECAY)
    assert [a.text for a in figure.layout.annotations] == ["1.0 (n = 3)", "3.0 (n = 3)"]
    assert Counter(trace.xaxis for trace in figure.data) == {"x": 6, "x2": 6}
    assert sum(bool(trace.showlegend) for trace in figure.data) == 2
    assert figure.data[0].x[-1] == 400


def test_times_and_survival_mark_what_is_censored(runs: Runs) -> None:
    groups = runs.times().groups(DECAY)
    seen, late = plot(groups, "times_by", by=DECAY).data
    assert sorted(seen.y) == [100, 110, 120]
    assert list(late.y) == [400, 400]
    assert all(abs(x - 3) < 0.1 for x in seen.x)
    assert len(set(late.x)) == 2, "equal times are seen apart"
    slow, crosses, fast = plot(groups, "survival", by=DECAY).data
    assert set(slow.y) == {1.0}
    assert list(crosses.x) == [400, 400]
    assert list(fast.x) == [0, 100, 110, 120, 120]
    assert fast.y[-1] == 0
    for name in ("times_by", "survival"):
        with pytest.raises(RunError, match="no times"):
            plot({}, name, by=DECAY)


def test_aligned_curves_are_drawn_around_zero(runs: Runs) -> None:
    figure = runs.series(["test_acc", "test_loss"]).align("generalised").plot()
    assert len(figure.data) == 2 * 3
    assert {trace.x[0] for trace in figure.data} == {-100, -110, -120}
    assert "left out, not generalised: decay1 seed0" in figure.layout.title.subtitle.text


def test_dry_run_prints_every_command_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--runs", str(tmp_path / "runs")]
    grid = ["--preset", "smoke_p17", "--grid", f"{DECAY}=0.3,1", "--seeds", "0:2"]
    assert main(["sweep", *grid, *where, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("mechgrok train --preset smoke_p17 --seed") for line in lines)
    assert not (tmp_path / "runs").exists()
    assert main(["sweep", "--grid", "optim.weigth_decay=1", *where]) == 1
    assert DECAY in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_the_source_of_a_picture_names_every_run(
    tiny_run: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mechgrok import figures

    monkeypatch.setattr(figures, "browser", lambda: "browser")
    monkeypatch.setattr(figures, "has_kaleido", lambda: True)
    monkeypatch.setattr(figures, "render", lambda *_: b"png")
    figures.save_sweep_picture(figures.go.Figure(), tmp_path / "a", [tiny_run], "c")  # type: ignore[list-item]
    source = json.loads((tmp_path / "a.source.json").read_text())
    assert (source["command"], source["runs"][0]["run"]) == ("c", "tiny")
