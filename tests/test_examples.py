"""Examples: whole, checked by hash, read where they lie, and never written to."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from make_examples import cut, make, moments
from smoke_runs import smoke_run

import mechgrok as mg
from mechgrok import examples
from mechgrok.cli import main
from mechgrok.options import override
from mechgrok.presets import preset
from mechgrok.runs import layout
from mechgrok.runs.checksums import check_sums
from mechgrok.runs.storage import RunError, read_json

NAMES = examples.names()
PAIR = {"both_full": "two_hop_both_full", "natural": "two_hop_natural"}
GROKKED = sorted({*NAMES} - {*PAIR.values()})


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_they_are_there_and_small() -> None:
    assert "quick" in NAMES
    files = [path for path in examples.FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 25_000_000


@pytest.mark.parametrize("name", GROKKED)
def test_an_example_has_its_moments_and_grokked(name: str) -> None:
    run = mg.load_example(name)
    assert run.config.digest() == preset(name, run.seed).digest()
    assert run.status["state"] == "finished"
    assert len(run) == 8
    assert run.steps[0] == 0
    assert {x.dtype for x in run[-1].weights.values()} == {torch.float32}
    memorised, generalised = run.at("memorised"), run.at("generalised")
    between = [s for s in run.steps if memorised.step < s < generalised.step]
    assert len(between) >= 3
    found = [mg.evaluate(ck.model, ck.task) for ck in (run[0], memorised, generalised, run[-1])]
    assert [f["correct"] > 0.98 for f in found] == [False, False, True, True]
    assert mg.evaluate(memorised.model, run.task, "train")["correct"] > 0.98
    row = next(row for row in run.evaluations() if row["step"] == run.steps[-1])
    assert found[-1]["loss"] == pytest.approx(row["test_loss"], rel=1e-4)


def test_the_two_hop_pair_differs_in_its_training_queries_alone() -> None:
    runs = {regime: mg.load_example(name) for regime, name in PAIR.items()}
    both, natural = runs.values()
    assert both.steps == natural.steps
    assert len(both) == 4
    assert both.steps[0] == 0
    trained = {"task.regime": "natural", "model.compile": True, "model.matmul_precision": "medium"}
    for regime, run in runs.items():
        asked = override(preset("two_hop_small", 0), trained | {"task.regime": regime})
        assert run.config.digest() == asked.digest()
        assert run.status["state"] == "finished"
        assert run[-1].kind == "ema"
        assert {x.dtype for x in run[-1].weights.values()} == {torch.float32}
        found = mg.evaluate(run[-1].model, run.task)
        row = next(row for row in run.evaluations() if row["step"] == run.steps[-1])
        assert found["correct"] == pytest.approx(row["test_acc"])
        assert row["train_acc"] > 0.99
        with pytest.raises(RunError, match="keeps averaged weights alone"):
            run.checkpoint(run.steps[-1], "raw")
    tests = [run.task.tokens[run.task.splits["test"]] for run in runs.values()]
    assert torch.equal(*tests)
    accuracy = [run.evaluations()[-1]["test_acc"] for run in runs.values()]
    assert accuracy[0] > 0.95 > 0.1 > accuracy[1]


@pytest.mark.parametrize("name", NAMES)
def test_it_says_nothing_of_the_machine_but_its_kind(name: str) -> None:
    for path in (examples.FOLDER / name).rglob("*"):
        if path.is_file() and path.suffix != ".safetensors":
            assert absolute_paths(path.read_text()) == [], path


def absolute_paths(text: str) -> list[str]:
    return re.findall(r"(?<![\w.:/])/\w[\w.-]*/", text)


def test_an_absolute_path_is_seen_and_a_link_is_not() -> None:
    assert absolute_paths('"donor": "/home/me/runs/x"') == ["/home/"]
    assert absolute_paths("https://arxiv.org/abs/1 checkpoints/a.safetensors") == []


def test_results_go_elsewhere(tmp_path: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in examples.FOLDER.rglob("*")}
    run = mg.load_example("quick")
    series = run.series(["test_loss", "weight_norm"])
    assert len(series["weight_norm"]) == 8
    assert {p: p.stat().st_mtime_ns for p in examples.FOLDER.rglob("*")} == before
    assert (tmp_path / "cache").resolve() in run.work.resolve().parents
    assert mg.load_example("quick").result("weight_norm").step == run.steps[-1]
    again = mg.load_run(run.path)
    with pytest.raises(RunError, match="no saved 'weight_norm'"):
        again.result("weight_norm")
    with pytest.raises(RunError, match="no training state"):
        mg.train(run.config, run=run.path, progress=False)


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    run = mg.load_example("quick")
    assert run.measure("weight_norm").step == run.steps[-1]
    shutil.rmtree(run.work)


def test_a_damaged_or_unknown_example_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(examples.FOLDER / "quick", tmp_path / "quick")
    monkeypatch.setattr(examples, "FOLDER", tmp_path)
    assert len(mg.load_example("quick")) == 8
    path = sorted((tmp_path / "quick" / "checkpoints").iterdir())[3]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunError, match=rf"{path.name} is damaged.*install mechgrok again"):
        mg.load_example("quick")
    with pytest.raises(RunError, match=r"no example 'quik'; expected one of \['quick'\]"):
        mg.load_example("quik")


def test_an_example_becomes_a_run_of_ones_own(tmp_path: Path) -> None:
    run = str(tmp_path / "mine")
    assert main(["import", "quick", "--format", "example", "--run", run]) == 0
    assert mg.load_run(run).steps == mg.load_example("quick").steps
    assert main(["import", "quik", "--format", "example", "--run", f"{run}2"]) == 1
    listed = check_sums(examples.FOLDER / "quick")
    assert len([name for name in listed if name.endswith(".safetensors")]) == 8


@pytest.mark.parametrize("name", NAMES)
def test_the_recorded_command_makes_the_same_files(name: str, tmp_path: Path) -> None:
    run = mg.load_example(name)
    if name in GROKKED:
        assert moments(run) == run.steps
    made = make(run, name, tmp_path, None if name in GROKKED else run.steps)
    files = [p.name for p in (run.path / "checkpoints").iterdir()]
    files = ["config.yaml", "metrics.jsonl", *(f"checkpoints/{name}" for name in files)]
    assert {f: (made / f).read_bytes() == (run.path / f).read_bytes() for f in files} == {
        f: True for f in files
    }
    again = mg.load_run(made)
    (made / "status.json").write_text('{"state": "running", "step": 1}')
    with pytest.raises(RunError, match="is running; expected a finished run"):
        make(again, name, tmp_path)


def test_a_cut_run_is_the_one_that_stops_there(tmp_path: Path) -> None:
    ema = {"optim.ema": 0.9}
    short = smoke_run(tmp_path / "short", **ema, **{"stop.max_steps": 30})
    part = cut(smoke_run(tmp_path / "long", **ema), [0, 30], tmp_path / "part")
    assert part.steps == short.steps
    assert part.config == short.config
    for step in part.steps:
        files = [layout.checkpoint(run.path, step).read_bytes() for run in (part, short)]
        assert files[0] == files[1]
    assert without_time(part.evaluations()) == without_time(short.evaluations())
    statuses = [read_json(run.path / "status.json") for run in (part, short)]
    assert without_time(statuses)[0] == without_time(statuses)[1]
    with pytest.raises(RunError, match=r"no checkpoint at \[20\]"):
        cut(short, [0, 20], tmp_path / "none")


def without_time(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]
