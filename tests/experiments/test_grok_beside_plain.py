"""The trainer beside a loop in plain torch that shares no code with it; what is read off runs."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import _openai_grok_picture
import _plain_grok
import openai_grok
import presets
import pytest
import torch
from _recorded import run_of

from mechgrok.config import ConfigError, EquationTask, Seeds
from mechgrok.maths.statistics import Crossing
from mechgrok.runs.run import Run
from mechgrok.runs.storage import write_json
from mechgrok.tasks.equation import VOCABULARY, Task
from mechgrok.training.trainer import train

STEPS = 12
SMALL = {"model.n_layers": 1, "model.d_model": 8, "model.n_heads": 2, "model.d_mlp": 8}
"""The rows and their order are those of the published size."""


def test_the_plain_loops_equations_are_the_tasks() -> None:
    task = Task.make(EquationTask(operation="s5"), Seeds())
    words = [" ".join(VOCABULARY[t] for t in row) for row in _plain_grok.s5_equations()]
    assert words == task.text("train") + task.text("test")


def ours(directory: Path, dtype: str) -> Run:
    changes = {
        **SMALL,
        "model.dtype": dtype,
        "loss.dtype": dtype,
        "optim.batch_size": 1500,  # epochs of five batches, the last of 1,200 rows
        "stop.max_steps": STEPS,
        "schedule.evaluate_every": STEPS,
        "schedule.checkpoints": ["at 0 1"],
    }
    return train("power2022_s5", seed=3, run=directory, progress=False, overrides=changes)


@pytest.fixture(scope="module")
def in_float64(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return ours(tmp_path_factory.mktemp("s5") / "run", "float64")


def apart(run: Run, seed: int = 3, **settings: Any) -> float:
    """Largest difference of losses between a run and the plain loop with these settings."""
    weights = _plain_grok.their_names(run.checkpoint(0).model)
    chosen = _plain_grok.Settings(batch_size=1500, **settings)
    theirs = list(_plain_grok.train(weights, STEPS, STEPS, seed, chosen))
    pairs = zip(run.evaluations(), theirs, strict=True)
    return max(abs(a[n] - b[n]) for a, b in pairs for n in ("train_loss", "test_loss"))


def test_the_trainer_follows_the_plain_loop(in_float64: Run, tmp_path: Path) -> None:
    # losses of about 6 nats: float64 rounds them to 1e-15, float32 to 5e-7
    assert apart(in_float64) < 1e-11
    assert apart(ours(tmp_path / "run", "float32")) < 1e-5
    assert in_float64.evaluations()[-1]["step"] == STEPS
    assert in_float64.evaluations()[-1]["train_loss"] < in_float64.evaluations()[0]["train_loss"]


@pytest.mark.parametrize("wrong", [{"warmup_steps": 9}, {"weight_decay": 0.0}, {"seed": 4}])
def test_another_algorithm_is_seen(in_float64: Run, wrong: dict[str, Any]) -> None:
    assert apart(in_float64, **wrong) > 1e-6


def test_the_first_update_has_rate_0(in_float64: Run) -> None:
    first, second = in_float64.checkpoint(0).weights, in_float64.checkpoint(1).weights
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_slingshots_are_the_stretches_after_memorising() -> None:
    accuracies = [0.1, 0.99, 1.0, 0.94, 0.5, 0.99, 0.96, 0.2]
    rows = [{"step": 50 * i, "train_acc": x} for i, x in enumerate(accuracies)]
    assert openai_grok.slingshots(rows, 50) == [
        {"first": 150, "last": 200, "lowest_at": 200, "train_acc": 0.5},
        {"first": 350, "last": 350, "lowest_at": 350, "train_acc": 0.2},
    ]
    assert openai_grok.slingshots(rows[:3], 50) == []
    assert openai_grok.slingshots(rows, None) is None


def test_the_plateau_ends_before_half_is_right() -> None:
    accuracies = [0.0, 0.2, 0.3, 0.6, 0.25, 0.5, 0.9, 1.0]
    rows = [
        {"step": 50 * i, "test_acc": x, "test_acc_twin": x, "test_acc_no_twin": 0.0}
        for i, x in enumerate(accuracies)
    ]
    run: Any = SimpleNamespace(
        status={"reached": {"memorised": 50}},
        crossing=lambda metric, threshold: Crossing(200, 250),
        evaluations=lambda: rows,
        task=Task.make(EquationTask(frac_train=0.4), Seeds()),
    )
    found = openai_grok.plateau(run)
    assert found is not None
    assert (found["from"], found["to"], found["evaluations"]) == (50, 200, 4)
    assert found["median"] == {
        "test_acc": 0.275, "test_acc_twin": 0.275, "test_acc_no_twin": 0.0,
    }  # fmt: skip
    assert found["range"]["test_acc"] == [0.2, 0.6]
    assert found["share_of_rows_with_twin_in_training"] == pytest.approx(2208 / 5645)
    run.status = {"reached": {}}
    assert openai_grok.plateau(run) is None


HISTORY = {0: (0.0, 0.0), 50: (0.99, 0.2), 100: (1.0, 0.3), 150: (1.0, 0.4), 200: (0.9, 0.99),
           250: (1.0, 1.0), 300: (1.0, 1.0), 350: (1.0, 0.7)}  # fmt: skip
"""Made-up train and validation accuracies of a run that memorised at 50 and generalised at 200."""


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spectral") / "run"
    changes = {"stop.max_steps": 0}
    return train("spectral_add40", seed=47, run=path, progress=False, overrides=changes).path


@pytest.fixture
def spectral(untrained: Path, tmp_path: Path) -> Run:
    """A run of spectral_add40 with that history."""
    run = Run(shutil.copytree(untrained, tmp_path / "run"))
    rows = []
    for step, (known, test) in HISTORY.items():
        row = {"step": step, "train_acc": known, "test_acc": test, "train_loss": 1 - known}
        row |= {"test_loss": 1 - test, "test_acc_twin": test, "test_acc_no_twin": 0.0}
        rows.append(json.dumps(row))
    (run.path / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    reached = {"memorised": 50, "generalised": 200}
    write_json(
        run.path / "status.json",
        {"state": "finished", "step": 350, "reason": "made up", "reached": reached, "trigger": 200},
    )
    return run


def test_a_recorded_run_is_read_and_drawn(spectral: Run) -> None:
    row = openai_grok.row(spectral)
    json.dumps(row, allow_nan=False)
    intervals = [list(row[f"{moment}_interval"]) for moment in ("memorised", "generalised")]
    assert intervals == [[0, 50], [150, 200]]
    assert (row["generalised_fell_back_at"], row["trigger"], row["last_step"]) == (350, 200, 350)
    assert [one["first"] for one in row["slingshots"]] == [200]
    assert row["highest_test_acc"] == {"step": 250, "test_acc": 1.0}
    assert row["peak_test_loss"] == {"step": 0, "test_loss": 1.0}
    assert row["plateau"]["median"]["test_acc"] == pytest.approx(0.3)
    assert row["final"]["test_acc_no_twin"] == 0.0
    figure = _openai_grok_picture.draw({"spectral_add40": spectral})
    drawn = {trace.name: list(trace.y) for trace in figure.data if trace.name}
    assert len(drawn) == 4
    assert drawn["validation"] == [test for _, test in HISTORY.values()]


def test_presets_keeps_a_run_that_is_there_already(spectral: Run) -> None:
    found = presets.described(run_of("spectral_add40", spectral.path))
    assert (found["seed"], found["memorised"], found["generalised"]) == (47, 50, 200)
    assert found["keys"] is found["top5_share"] is found["ablation_check"] is None
    assert set(found["does_not_apply"]) == {"keys", "top5_share", "ablation_check"}
    json.dumps(found, allow_nan=False)
    bands = {"generalised": {"between": [100, 300], "share": 1.0}}
    assert presets.outside(bands, [found]) == []
    censored = found | {"generalised": None}
    assert presets.outside(bands, [censored]) == ["generalised in 100..300 for 0 of 1"]


def test_a_run_of_something_else_is_refused(spectral: Run) -> None:
    said = r"not a run of power2022_division: it has another .*task\.operation"
    with pytest.raises(ConfigError, match=said):
        run_of("power2022_division", spectral.path)
    with pytest.raises(ConfigError, match="not a run of quick: it has another .*task"):
        run_of("quick", spectral.path)
    write_json(spectral.path / "status.json", {**spectral.status, "state": "interrupted"})
    with pytest.raises(ConfigError, match="is interrupted; expected a finished run"):
        run_of("spectral_add40", spectral.path)


def test_an_unknown_part_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert openai_grok.main(["s6"]) == 1
    assert "unknown part 's6'; expected some of ['s5'" in capsys.readouterr().err
