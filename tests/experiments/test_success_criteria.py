"""Criteria on curves with a known verdict, on a grokked run, and on runs that must fail."""

import json
import shutil
from pathlib import Path
from typing import Any

import _criteria
import _exported
import pytest
import success_criteria
from smoke_runs import smoke_run

import mechgrok as mg
from mechgrok.options import override
from mechgrok.presets import preset
from mechgrok.runs.storage import RunError

GROKKED = Path(__file__).parents[1] / "data" / "quick_grokked"


def curve(**changes: Any) -> list[dict[str, float]]:
    """Memorised at 100, test accuracy 0.02 until it is solved at 2000; evaluated to 3000."""
    of = {"memorised": 100, "test": 0.02, "solved": 2000, "end": 3000, "final": 1.0} | changes
    return [
        {
            "step": step,
            "train_acc": 1.0 if step >= of["memorised"] else 0.1,
            "test_acc": of["final"] if step >= of["solved"] else of["test"],
        }
        for step in range(0, of["end"] + 1, 50)
    ]


def failed(lines: list[_criteria.Line]) -> list[str]:
    return [line.what for line in lines if not line.holds]


def test_a_grokking_curve_passes_every_line() -> None:
    lines = _criteria.grokking_curve(curve())
    assert failed(lines) == []
    assert [line.number for line in lines] == [100, 0.02, 1.0, 20.0]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"memorised": 10_000}, "t1"),
        ({"test": 0.5}, "highest test accuracy"),
        ({"solved": 600}, "highest test accuracy"),  # inside the window, which ends at 600
        ({"end": 550}, "highest test accuracy"),  # ends before the window does
        ({"final": 0.94}, "final test accuracy"),
        ({"solved": 950}, "first step with test accuracy"),  # 9.5 times
    ],
)
def test_a_curve_that_misses_a_line_fails_it(changes: dict[str, Any], line: str) -> None:
    assert any(what.startswith(line) for what in failed(_criteria.grokking_curve(curve(**changes))))


def test_just_inside_every_line_passes() -> None:
    """Solved right after the window, at exactly ten times, to exactly .95, from just below .5."""
    assert failed(_criteria.grokking_curve(curve(solved=1000, final=0.95, test=0.49))) == []


def test_a_curve_without_accuracies_fails_with_the_reason() -> None:
    lines = _criteria.grokking_curve([{"step": 0, "train_loss": 1.0}])
    assert failed(lines) == ["grokking curve"]
    assert "not recorded" in str(lines[0])


@pytest.fixture(scope="module")
def grokked(tmp_path_factory: pytest.TempPathFactory) -> mg.Run:
    return mg.load_run(shutil.copytree(GROKKED, tmp_path_factory.mktemp("runs") / "quick_grokked"))


@pytest.fixture(autouse=True)
def _no_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_exported, "browser", lambda: None)


def test_a_grokked_run_passes_and_its_untrained_model_fails(
    grokked: mg.Run, tmp_path: Path
) -> None:
    row = success_criteria.judged(grokked.path, None, tmp_path)
    assert row["passed"] == dict.fromkeys(("C1", "C2", "C3", "C4", "C5"), True)
    assert row["kind"] == "grokked"
    start = success_criteria.judged(grokked.path, 0, tmp_path)
    assert start["kind"] == "untrained"
    assert {c for c, passed in start["passed"].items() if not passed} >= {"C1", "C2", "C3"}
    assert start["step"] == 0
    assert success_criteria.contradictions(start, None) == []


def test_a_control_that_passes_as_well_fails_the_spectrum() -> None:
    """With few frequencies to choose from, five hold most power before training."""
    assert _criteria._share("share", 0.2, 0.9).holds
    assert not _criteria._share("share", 0.62, 0.9).holds
    assert not _criteria._share("share", 0.2, 0.59).holds
    assert not _criteria._rise("rise", 0.04, 0.13).holds


def test_the_export_has_every_name_and_opens_as_the_run(grokked: mg.Run, tmp_path: Path) -> None:
    lines = _exported.export(grokked, tmp_path / "out")
    assert [line.holds for line in lines] == [True, True]
    names = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*")}
    assert names >= {
        "config.yaml", "metrics.jsonl", "latest", "checkpoints/step_00005125.safetensors",
        "analysis/eval_summary.json", "analysis/fourier_metrics.json",
        "analysis/progress_measures.json", "analysis/ablation_step_00005125.json",
    }  # fmt: skip
    opened = mg.load_run(tmp_path / "out")
    assert opened.steps == grokked.steps
    assert opened.evaluations() == grokked.evaluations()
    ablation = json.loads((opened.path / "analysis" / "ablation_step_00005125.json").read_text())
    assert ablation["values"]["passed"] is True
    progress = json.loads((opened.path / "analysis" / "progress_measures.json").read_text())
    assert [found["step"] for found in progress["restricted_loss"]] == grokked.steps


def test_a_damaged_export_is_seen(
    grokked: mg.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path, data: Any) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_text("{" if path.name == "eval_summary.json" else json.dumps(data))

    monkeypatch.setattr(_exported, "write_json", broken)
    line = _exported.export(grokked, tmp_path / "out")[0]
    assert not line.holds
    assert "eval_summary" in line.control


def test_an_exported_run_is_left_alone(grokked: mg.Run, tmp_path: Path) -> None:
    """The folder may be inside the run, and a cut is the past, not a copy of the end."""
    before = sorted(grokked.path.glob("checkpoints/*"))
    cut = _exported.copy_run(grokked, tmp_path / "cut", 0)
    assert cut.steps == [0]
    assert [row["step"] for row in cut.evaluations()] == [0]
    assert cut.status["reached"] == {}
    assert sorted(grokked.path.glob("checkpoints/*")) == before
    assert grokked.status["state"] == "finished"
    with pytest.raises(RunError, match="nearest"):
        _exported.copy_run(grokked, tmp_path / "other", 7)


@pytest.mark.parametrize(
    ("changes", "must_fail"),
    [
        ({}, {"C1", "C3"}),
        ({"task.operation": "random_labels"}, {"C1", "C3", "C4"}),
        ({"optim.weight_decay": 0.0}, {"C1", "C2", "C3"}),
    ],
)
def test_runs_that_do_not_grok_fail(
    changes: dict[str, Any], must_fail: set[str], tmp_path: Path
) -> None:
    run = smoke_run(tmp_path / "run", **changes)
    row = success_criteria.judged(run.path, None, None)
    assert {c for c, passed in row["passed"].items() if not passed} >= must_fail
    assert set(success_criteria.MUST_FAIL[row["kind"]]) == must_fail
    assert row["passed"]["C5"], "the files of a run that did not grok are files"


@pytest.mark.parametrize(
    ("name", "changes", "step", "kind"),
    [
        ("quick", {}, 9000, "grokked"),
        ("quick", {"seeds.init": 5, "stop.max_steps": 10}, 10, "grokked"),
        ("quick", {}, 0, "untrained"),
        ("nanda2023_mainline", {"task.operation": "random_labels"}, 1, "random labels"),
        ("nanda2023_mainline", {"optim.weight_decay": 0.0}, 1, "weight decay 0"),
        ("clean_p47", {}, 1, "clean_p47"),
        ("quick", {"task.frac_train": 0.3}, 1, None),
        ("quick", {"preset": "mine"}, 1, None),
    ],
)
def test_what_is_expected_of_a_run_follows_from_its_settings(
    name: str, changes: dict[str, Any], step: int, kind: str | None
) -> None:
    assert success_criteria.kind_of(override(preset(name), changes), step) == kind


def test_a_verdict_that_must_not_be_is_named() -> None:
    row = {"name": "run", "kind": "grokked", "step": 9, "passed": {"C1": True, "C2": False}}
    assert success_criteria.contradictions(row, None) == ["run fails C2"]
    negative = row | {"kind": "clean_p47"}
    assert success_criteria.contradictions(negative, None) == [
        "run passes C1, which clean_p47 must fail"
    ]
    free = row | {"kind": None}
    assert success_criteria.contradictions(free, None) == []
    recorded = {"step": 9, "passed": {"C1": True, "C2": True}}
    assert success_criteria.contradictions(free, recorded) == [
        "run C2: passed False, recorded True"
    ]


def test_the_recorded_table_is_as_it_must_be() -> None:
    rows = json.loads(success_criteria.EXPECTED.read_text())
    assert {row["kind"] for row in rows.values()} >= {"grokked", "untrained", "smoke_p17"}
    assert [c for row in rows.values() for c in success_criteria.contradictions(row, row)] == []


def test_the_command_line(grokked: mg.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = tmp_path / "expected.json"
    monkeypatch.setattr(success_criteria, "EXPECTED", expected)
    asked = [str(grokked.path), "--out", str(tmp_path / "out")]
    assert success_criteria.main([*asked, "--record"]) == 0
    recorded = json.loads(expected.read_text())
    assert list(recorded) == ["quick_grokked"]
    recorded["quick_grokked"]["passed"]["C3"] = False
    expected.write_text(json.dumps(recorded))
    assert success_criteria.main(asked) == 1
    assert success_criteria.main([]) == 1
