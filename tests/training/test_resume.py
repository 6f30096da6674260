"""train(2n) is train(n) and a resume to 2n, bit for bit, and what a resume refuses."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml

from mechgrok.config import ConfigError, Stop
from mechgrok.runs import layout
from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError, read_tensors
from mechgrok.training import losses, trainer
from mechgrok.training.schedule import CONSECUTIVE, Progress, checkpoint_rule
from mechgrok.training.state import Batches
from mechgrok.training.trainer import TrainingDiverged

KINDS: dict[str, dict[str, Any]] = {
    "full batch": {},
    "partial epochs": {"optim.batch_size": 10},
    "ema": {"optim.ema": 0.9},
    "recorders": {"record.recorders": ["update_norm", "weight_norm"]},
    "everything": tiny.EVERYTHING,
    "everything, two layers": tiny.EVERYTHING
    | {"model.n_layers": 2, "model.normalization": "LN", "model.trained_biases": "all"},
}


def train(directory: Path, changes: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """Train to a step, and all that training decided."""
    trainer.train(
        tiny.config(), run=directory, progress=False, overrides={**changes, "stop.max_steps": steps}
    )
    return tiny.trained_parts(directory)


@pytest.mark.parametrize("kind", KINDS)
def test_resume_is_exact(kind: str, tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", KINDS[kind], 60)
    halves = train(tmp_path / "halves", KINDS[kind], 20)
    assert halves != whole
    assert train(tmp_path / "halves", KINDS[kind], 60) == whole


@pytest.mark.parametrize("first", [0, 1, 13, 25, 39])
def test_resume_is_exact_off_every_grid(first: int, tmp_path: Path) -> None:
    """The stop adds a checkpoint where it fell; everything else is the same."""
    whole = train(tmp_path / "whole", tiny.EVERYTHING, 60)
    train(tmp_path / "halves", tiny.EVERYTHING, first)
    halves = train(tmp_path / "halves", tiny.EVERYTHING, 60)
    if first % 20:
        del halves[f"checkpoint {first}"]
    assert halves == whole


def test_other_seeds_and_settings_do_give_other_bits(tmp_path: Path) -> None:
    """The control: the comparison above sees a change of any seed it depends on."""
    base = train(tmp_path / "base", tiny.EVERYTHING, 20)
    for name in ("data", "init", "batch"):
        other = train(tmp_path / name, {**tiny.EVERYTHING, f"seeds.{name}": 1}, 20)
        assert other["checkpoint 20"] != base["checkpoint 20"]
    again = train(tmp_path / "again", tiny.EVERYTHING, 20)
    assert again == base


def test_an_epoch_visits_every_row_once_and_its_last_batch_is_the_rest() -> None:
    batches = Batches(torch.arange(100, 129), 10, seed=0)
    first = [batches.next() for _ in range(3)]
    second = [batches.next() for _ in range(3)]
    assert [len(rows) for rows in first] == [10, 10, 9]
    assert torch.cat(first).sort().values.tolist() == list(range(100, 129))
    assert torch.cat(second).sort().values.tolist() == list(range(100, 129))
    assert torch.cat(first).tolist() != torch.cat(second).tolist()


@pytest.mark.parametrize("size", [None, 29, 4096])
def test_a_batch_at_least_as_large_as_the_split_is_full_batch_and_recorded(
    size: int | None, tmp_path: Path
) -> None:
    run = tiny.train(tiny.config(stop__max_steps=2, optim__batch_size=size), tmp_path / "run")
    assert run.provenance["full_batch"] is True
    assert run.provenance["rows_per_step"] == 29


def test_the_average_is_the_exponential_average_of_the_weights(tmp_path: Path) -> None:
    config = tiny.config(optim__ema=0.75, schedule__checkpoints=["every 1"], stop__max_steps=6)
    run = tiny.train(config, tmp_path / "run")
    raw = [run.checkpoint(step, weights="raw").weights["embed.W_E"].double() for step in run.steps]
    average = raw[0]
    for weights in raw[1:]:
        average = 0.75 * average + 0.25 * weights
    found = run.checkpoint(6).weights["embed.W_E"].double()
    assert run.checkpoint(6).kind == "ema"
    assert float((found - average).abs().max()) < 1e-6  # six float32 roundings of weights below 1
    assert not torch.equal(found, raw[-1])


def test_update_norm_is_the_relative_change_since_the_evaluation_before(tmp_path: Path) -> None:
    run = tiny.train(
        tiny.config(
            record__recorders=["update_norm", "weight_norm"], schedule__checkpoints=["every 10"]
        ),
        tmp_path / "run",
    )
    rows = {row["step"]: row for row in run.evaluations()}
    flat = {
        step: torch.cat([w.double().flatten() for w in run.checkpoint(step).weights.values()])
        for step in run.steps
    }
    assert rows[0]["update_norm"] == 0
    for step in (10, 40):
        expected = float((flat[step] - flat[step - 10]).norm() / flat[step - 10].norm())
        assert rows[step]["update_norm"] == pytest.approx(expected, rel=1e-6)  # float32 differences
        # frozen biases are 0 and add nothing
        assert rows[step]["sum_of_squares"] == pytest.approx(
            float(flat[step].square().sum()), rel=1e-9
        )


def test_a_finished_run_returns_at_once_and_unchanged(tmp_path: Path) -> None:
    before = train(tmp_path / "run", tiny.EVERYTHING, 60)
    files = tiny.files(tmp_path / "run")
    began = time.monotonic()
    assert train(tmp_path / "run", tiny.EVERYTHING, 60) == before
    assert time.monotonic() - began < 2  # nothing is trained
    after = tiny.files(tmp_path / "run")
    assert {name for name in files if files[name] != after[name]} <= {"status.json"}
    assert Run(tmp_path / "run").status["state"] == "finished"


def test_a_longer_stop_goes_on_and_is_written_down(tmp_path: Path) -> None:
    train(tmp_path / "run", {}, 20)
    train(tmp_path / "run", {}, 40)
    run = Run(tmp_path / "run")
    assert run.config.stop.max_steps == 40
    assert run.status["step"] == 40
    assert [row["step"] for row in run.evaluations()] == [0, 10, 20, 30, 40]


def test_resume_false_refuses_a_run_that_is_there(tmp_path: Path) -> None:
    train(tmp_path / "run", {}, 20)
    files = tiny.files(tmp_path / "run")
    with pytest.raises(RunError, match="resume is False"):
        trainer.train(tiny.config(), run=tmp_path / "run", resume=False, progress=False)
    assert tiny.files(tmp_path / "run") == files
    trainer.train(
        tiny.config(stop__max_steps=0), run=tmp_path / "new", resume=False, progress=False
    )


def test_another_config_is_refused_with_the_fields_that_differ(tmp_path: Path) -> None:
    train(tmp_path / "run", {}, 20)
    files = tiny.files(tmp_path / "run")
    with pytest.raises(RunError) as error:
        train(tmp_path / "run", {"optim.lr": 0.01, "task.n": 8, "stop.max_steps": 99}, 20)
    assert "optim.lr: 0.001 there, 0.01 asked" in str(error.value)
    assert "task.n: 7 there, 8 asked" in str(error.value)
    assert "stop" not in str(error.value)
    assert tiny.files(tmp_path / "run") == files


def test_a_config_written_with_integers_for_floats_is_the_same_config(tmp_path: Path) -> None:
    """1 in Python, 1.0 once read back: one run, one digest."""
    config = tiny.config(stop__max_steps=20)
    object.__setattr__(config.optim, "weight_decay", 1)
    trainer.train(config, run=tmp_path / "run", progress=False)
    assert len(Run(tmp_path / "run")[-1].weights) > 0
    train(tmp_path / "run", {}, 40)


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def test_another_thread_count_is_a_recorded_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], two_threads: None
) -> None:
    train(tmp_path / "run", {"threads": 1}, 20)
    assert "warnings" not in Run(tmp_path / "run").provenance
    train(tmp_path / "run", {"threads": 2}, 40)
    assert "2 threads, started with 1" in capsys.readouterr().out
    assert "2 threads, started with 1" in Run(tmp_path / "run").provenance["warnings"][0]
    assert Run(tmp_path / "run").status["step"] == 40


def test_init_from_takes_the_weights_only(tmp_path: Path) -> None:
    train(tmp_path / "parent", tiny.EVERYTHING, 40)
    parent = Run(tmp_path / "parent")
    for source in (parent.path, layout.checkpoint(parent.path, 40)):
        child = tiny.train(
            tiny.config(stop__max_steps=0, init_from=str(source)), tmp_path / f"child {source.name}"
        )
        wanted = parent.checkpoint(40, weights="raw").weights
        assert all(torch.equal(child[0].weights[name], wanted[name]) for name in wanted)
        tensors, _ = read_tensors(layout.state(child.path, 0))
        assert not any(name.startswith("optimizer/") for name in tensors)


def test_init_from_is_strict(tmp_path: Path) -> None:
    train(tmp_path / "parent", {}, 0)
    with pytest.raises(RunError) as error:
        train(tmp_path / "child", {"init_from": str(tmp_path / "parent"), "task.n": 8}, 20)
    assert "embed.W_E has shape [8, 8], expected [9, 8]" in str(error.value)
    with pytest.raises(RunError, match=r"missing blocks.1"):
        train(tmp_path / "child", {"init_from": str(tmp_path / "parent"), "model.n_layers": 2}, 20)
    with pytest.raises(RunError, match=r"is missing|no checkpoint"):
        train(tmp_path / "child", {"init_from": str(tmp_path / "nowhere")}, 20)
    assert not (tmp_path / "child").exists()


def test_the_runs_own_directory_comes_before_init_from(tmp_path: Path) -> None:
    train(tmp_path / "parent", {}, 20)
    changes = {"init_from": str(tmp_path / "parent")}
    whole = train(tmp_path / "whole", changes, 40)
    train(tmp_path / "child", changes, 20)
    shutil.rmtree(tmp_path / "parent")
    assert train(tmp_path / "child", changes, 40) == whole


@pytest.mark.parametrize(
    ("rule", "due"),
    [
        ("at 0 7 100", [0, 7, 100]),
        ("every 40", [0, 40, 80, 120]),
        ("every 40 until 80", [0, 40, 80]),
        ("log 2 until 100", [1, 3, 10, 32, 100]),  # 10^(k/2), rounded
        ("every 20 while test_acc in 0.1..0.5", [40, 60, 80]),
    ],
)
def test_checkpoint_rules(rule: str, due: list[int]) -> None:
    accuracy = {0: 0.0, 20: 0.0, 40: 0.1, 60: 0.3, 80: 0.5, 100: 0.6, 120: 1.0}
    metrics: dict[str, float] = {}
    found = []
    is_due = checkpoint_rule([rule])
    for step in range(121):
        if step in accuracy:
            metrics = {"test_acc": accuracy[step]}
        if is_due(step, metrics):
            found.append(step)
    assert found == due
    both = checkpoint_rule([rule, "at 119"])
    assert [s for s in range(121) if both(s, {})] == sorted(
        {*[s for s in due if "while" not in rule], 119}
    )


@pytest.mark.parametrize(
    "rule",
    ["", "every", "every 0", "log 0 until 5", "at", "every 5 while x in 1", "often", "at -1"],
)
def test_a_rule_that_cannot_be_read_lists_the_forms(rule: str) -> None:
    with pytest.raises(ConfigError, match=r"forms|at least 1"):
        checkpoint_rule([rule])


def progress_of(accuracies: list[float], every: int = 10) -> Progress:
    """After evaluations with the given test accuracies; training is solved throughout."""
    found = Progress.start()
    for i, accuracy in enumerate(accuracies):
        found = found.after({"step": i * every, "train_acc": 1.0, "test_acc": accuracy}, every)
    return found


def test_generalising_takes_three_evaluations_in_a_row() -> None:
    assert CONSECUTIVE == 3
    assert progress_of([0, 0.99, 0.99]).reached == {"memorised": 0}
    assert progress_of([0, 0.99, 0.98, 1, 1]).reached == {"memorised": 0}
    assert progress_of([0, 0.99, 0.98, 1, 1, 0.99]).reached == {"memorised": 0, "generalised": 30}
    # falling back later does not move the first time
    assert progress_of([1, 1, 1, 0, 1, 1, 1]).reached["generalised"] == 0


def test_the_stop_rule_counts_from_the_first_of_the_three() -> None:
    solved = progress_of([0, 1, 1, 1])
    rule = Stop(max_steps=100, after_generalised=25)
    assert [solved.stop_reason(step, rule) is not None for step in (30, 34, 35, 99)] == [
        False,
        False,
        True,
        True,
    ]
    assert "25 steps after generalising at 10" in str(solved.stop_reason(35, rule))
    assert solved.stop_reason(99, Stop(100, None)) is None
    assert solved.stop_reason(100, Stop(100, None)) == "max_steps 100"
    assert progress_of([0, 0]).stop_reason(99, rule) is None


def test_progress_survives_json() -> None:
    found = progress_of([0, 1, 1, 1, 0.1 + 0.2])
    assert Progress.restore(json.loads(json.dumps(vars(found)))) == found


def test_a_run_that_does_not_grok_ends_normally(tiny_run: Run) -> None:
    status = tiny_run.status
    assert (status["state"], status["reason"], status["step"]) == ("finished", "max_steps 60", 60)
    assert "generalised" not in status["reached"]


def solved(model: Any, task: Any, loss: Any, device: str) -> dict[str, float]:
    """Evaluations of a model that has learnt everything."""
    return {"train_loss": 0.0, "test_loss": 0.0, "train_acc": 1.0, "test_acc": 1.0}


def test_training_ends_some_steps_after_generalising(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "evaluate_splits", solved)
    run = tiny.train(tiny.config(stop__after_generalised=33), tmp_path / "run")
    assert run.status["step"] == 33
    assert run.status["reached"] == {"memorised": 0, "generalised": 0}
    assert run.steps == [0, 20, 33]


def test_a_band_is_followed_on_resume_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint is due by the last evaluation, which a resumed run has not made itself."""
    monkeypatch.setattr(trainer, "evaluate_splits", solved)
    changes = {"schedule.checkpoints": ["every 3 while test_acc in 0.9..1"]}
    whole = train(tmp_path / "whole", changes, 16)
    train(tmp_path / "halves", changes, 12)
    assert train(tmp_path / "halves", changes, 16) == whole
    assert Run(tmp_path / "whole").steps == [0, 3, 6, 9, 12, 15, 16]


def forked(work: Callable[[], Any]) -> multiprocessing.Process:
    """Work in a child that needs no imports of its own."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def test_ctrl_c_saves_and_resumes_exactly(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", tiny.EVERYTHING, 150)
    child = forked(lambda: train(tmp_path / "run", tiny.EVERYTHING, 150))
    while child.is_alive() and not layout.checkpoint(tmp_path / "run", 20).exists():
        time.sleep(0.005)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGINT)
    child.join(60)
    assert child.exitcode == 0
    status = Run(tmp_path / "run").status
    assert status["state"] == "interrupted"
    assert 0 < status["step"] < 150
    assert Run(tmp_path / "run").steps[-1] == status["step"]
    resumed = train(tmp_path / "run", tiny.EVERYTHING, 150)
    if status["step"] % 20:
        del resumed[f"checkpoint {status['step']}"]
    assert resumed == whole


def test_a_huge_rate_diverges_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match=r"smaller optim.lr"):
        train(tmp_path / "run", {"optim.lr": 1e30, "schedule.checkpoints": ["every 1"]}, 60)
    run = Run(tmp_path / "run")
    assert run.status["state"] == "diverged"
    assert all(w.isfinite().all() for w in run[-1].weights.values())
    assert (run.path / "latest").read_text().strip() == layout.checkpoint(
        run.path, run.steps[-1]
    ).name


def test_a_loss_that_is_not_a_number_stops_and_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tmp_path / "whole", {}, 60)
    real, calls = losses.cross_entropy, []

    def failing(logits: Any, labels: Any, in_float64: bool = True) -> Any:
        scalar, parts = real(logits, labels, in_float64)
        calls.append(scalar.requires_grad)  # false in evaluations
        return (scalar * float("nan") if sum(calls) == 50 else scalar), parts

    with monkeypatch.context() as patch:
        patch.setattr(losses, "cross_entropy", failing)
        with pytest.raises(TrainingDiverged, match="loss nan"):
            train(tmp_path / "run", {}, 60)
    run = Run(tmp_path / "run")
    assert run.status["state"] == "diverged"
    assert run.steps[-1] >= 20
    assert train(tmp_path / "run", {}, 60) == whole


def test_stale_states_of_a_later_step_do_not_push_out_the_newest(tmp_path: Path) -> None:
    """A crash may leave a state that `latest` never named."""
    train(tmp_path / "run", {}, 20)
    for step in (90, 91):
        layout.state(tmp_path / "run", step).write_bytes(b"never finished")
    tiny.train(tiny.config(), tmp_path / "run", **{"stop.max_steps": 40})
    assert tiny.train(tiny.config(), tmp_path / "run").status["step"] == 60


def test_the_written_config_is_the_resolved_one(tiny_run: Run) -> None:
    assert tiny_run.config == tiny.config()
    assert yaml.safe_load((tiny_run.path / "config.yaml").read_text())["task"]["n"] == 7


def test_metrics_hold_exactly_the_documented_columns(tiny_run: Run) -> None:
    wanted = ["step", "train_loss", "test_loss", "train_acc", "test_acc"]
    wanted += ["test_acc_twin", "test_acc_no_twin", "lr", "seconds"]
    assert all(list(row) == wanted for row in tiny_run.evaluations())
    rates = {row["step"]: row["lr"] for row in tiny_run.evaluations()}
    assert (rates[0], rates[10]) == (0.0, 1e-3)  # the first update has rate 0; full after 10


def test_the_first_update_has_rate_zero(tmp_path: Path) -> None:
    config = tiny.config(schedule__checkpoints=["every 1"], stop__max_steps=2)
    run = tiny.train(config, tmp_path / "run")
    before, first, second = (run.checkpoint(step).weights for step in (0, 1, 2))
    assert all(torch.equal(before[name], first[name]) for name in before)
    assert not torch.equal(first["embed.W_E"], second["embed.W_E"])
