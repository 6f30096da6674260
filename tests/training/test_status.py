"""What a run says about itself, and what it leaves behind."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from mechgrok.config import ConfigError
from mechgrok.models.hooked import HookError
from mechgrok.options import override
from mechgrok.presets import preset
from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError
from mechgrok.training import state, trainer
from mechgrok.training.recorders import UpdateNorm
from mechgrok.training.trainer import TrainingDiverged


def test_seconds_and_steps_are_of_the_whole_run(tmp_path: Path) -> None:
    run = tiny.train(tiny.config(stop__max_steps=20), tmp_path / "run")
    first = run.status
    run = tiny.train(tiny.config(stop__max_steps=60), tmp_path / "run")
    assert run.status["steps"] == 60
    assert run.status["seconds"] > first["seconds"]
    again = tiny.train(tiny.config(stop__max_steps=60), tmp_path / "run")
    assert again.status["steps"] == 60, "a finished run takes no steps"


def test_a_failed_write_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise RunError("no space left")

    monkeypatch.setattr(state.State, "save", full)
    with pytest.raises(RunError, match="no space left"):
        tiny.train(tiny.config(), tmp_path / "run")
    assert Run(tmp_path / "run").status["state"] == "failed"


def test_what_a_kill_left_between_writing_and_renaming_is_removed(tmp_path: Path) -> None:
    run = tiny.train(tiny.config(stop__max_steps=20), tmp_path / "run")
    left = run.path / "checkpoints" / ".step_00000040.safetensors.123.tmp"
    left.write_bytes(b"half")
    tiny.train(tiny.config(stop__max_steps=40), run.path)
    assert not left.exists()
    assert 40 in run.steps


def test_a_recorder_that_gives_nan_ends_the_run_as_diverged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UpdateNorm, "observe", lambda *_: {"update_norm": float("nan")})
    config = tiny.config(record__recorders=["update_norm"])
    with pytest.raises(TrainingDiverged, match="update_norm"):
        tiny.train(config, tmp_path / "run")
    assert Run(tmp_path / "run").status["state"] == "diverged"


def test_a_hook_added_under_an_unknown_name_is_refused(tiny_run: Run) -> None:
    model = tiny_run[-1].model
    with pytest.raises(HookError, match="hook_resid_pre"):
        model.add_hook("blocks.0.hook_resid_per", lambda x, hook: x)
    model.add_hook("blocks.0.hook_resid_pre", lambda x, hook: torch.zeros_like(x))
    model.reset_hooks()


def test_a_group_of_settings_is_not_set_as_one() -> None:
    with pytest.raises(ConfigError, match="group of settings"):
        override(preset("quick"), {"task": {"n": 7}})


def test_a_run_stops_after_a_threshold_of_its_own_and_says_when(tmp_path: Path) -> None:
    """Test accuracies scripted by hand: a dip at 20, sustained from 30, threshold not .99."""
    scripted = {0: 0.1, 10: 0.9, 20: 0.1, 30: 0.6, 40: 0.7, 50: 0.9, 60: 0.2}

    class Scripted(trainer._Trainer):
        def _evaluate(self) -> dict[str, float]:
            at = scripted.get(self.state.step, 0.1)
            return super()._evaluate() | {"train_acc": 0.0, "test_acc": at}

    def run(name: str, **changes: Any) -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trainer, "_Trainer", Scripted)
            settings = {"stop__max_steps": 90, "stop__after_generalised": 35, **changes}
            config = tiny.config(**settings)
            return tiny.train(config, tmp_path / name).status

    status = run("half", stop__threshold=0.5)
    assert (status["state"], status["trigger"], status["step"]) == ("finished", 30, 65)
    assert status["reason"] == "35 steps after test_acc 0.5 at 30"
    status = run("usual")
    assert (status["trigger"], status["step"], status["reason"]) == (None, 90, "max_steps 90")
    first = run("halves", stop__threshold=0.5, stop__max_steps=40)
    assert (first["trigger"], first["reason"]) == (None, "max_steps 40")
    assert run("halves", stop__threshold=0.5)["trigger"] == 30


@pytest.mark.parametrize("threshold", [0.0, 1.5])
def test_a_threshold_no_accuracy_can_mean_is_refused(threshold: float, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stop.threshold = .*at most 1"):
        tiny.train(tiny.config(stop__threshold=threshold), tmp_path / "run")
    assert not (tmp_path / "run").exists()
