"""Sweeps: planned before anything starts, trained once, resumed after any death."""

import gc
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import tiny

from mechgrok.config import ConfigError
from mechgrok.presets import preset
from mechgrok.runs.run import Run, write_config
from mechgrok.runs.storage import RunError, lock
from mechgrok.training import processes
from mechgrok.training.cluster import run_cluster
from mechgrok.training.plan import Job, plan, read_grid, read_plan, read_seeds
from mechgrok.training.state import resume_step
from mechgrok.training.sweep import failures, opened, run_plan, sweep

GRID = {"optim.weight_decay": [0.3, 1]}


def names(jobs: list[Job]) -> list[str]:
    return [job.name for job in jobs]


def test_jobs_are_the_grid_times_the_seeds(tmp_path: Path) -> None:
    jobs = plan("smoke_p17", [0, 3], GRID).jobs(tmp_path)
    assert names(jobs) == [
        "smoke_p17__optim.weight_decay=0.3__seed0",
        "smoke_p17__optim.weight_decay=1.0__seed0",
        "smoke_p17__optim.weight_decay=0.3__seed3",
        "smoke_p17__optim.weight_decay=1.0__seed3",
    ]
    assert jobs[2].config.optim.weight_decay == 0.3
    assert (jobs[2].config.seeds.init, jobs[2].config.threads) == (3, 1)
    assert jobs[2].config.preset == "smoke_p17"


def test_a_printed_command_makes_the_same_config(tmp_path: Path) -> None:
    import shlex

    from mechgrok.cli import read_train

    grid = {"schedule.checkpoints": [["at 0", "every 7"]], "stop.after_generalised": [None]}
    for job in plan("quick", [2], grid | GRID, {"task.frac_train": 0.5}).jobs(tmp_path):
        words = shlex.split(job.command())
        assert words[:2] == ["mechgrok", "train"]
        asked = read_train(words[2:], "smoke_p17", "test")
        assert asked.config == job.config
        assert asked.run == job.directory


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ({"optim.weigth_decay": [1]}, "optim.weight_decay"),
        ({"optim.weight_decay": ["much"]}, "expected a number"),
        ({"optim.weight_decay": []}, "a list of values"),
        ({"optim.weight_decay": "1,2"}, "a list of values"),
        ({"optim.weight_decay": [1, 1.0]}, "same run twice"),
        ({"optim": [1]}, "unknown option 'optim'"),
    ],
)
def test_a_grid_that_cannot_be_is_refused_before_anything(
    grid: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        sweep("smoke_p17", grid=grid, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_seeds_workers_and_files_that_cannot_be(tmp_path: Path) -> None:
    assert (read_seeds("0:3"), read_seeds("1,5"), read_seeds([2])) == ([0, 1, 2], [1, 5], [2])
    assert read_grid(["a.b=0.3,1", "c=[1, 2],x"]) == {"a.b": [0.3, 1], "c": [[1, 2], "x"]}
    for call, said in (
        (lambda: read_seeds("a:b"), "expected 0:5"),
        (lambda: read_grid(["a.b"]), "a.b=value"),
        (lambda: read_grid(["a=1", "a=2"]), "given twice"),
        (lambda: sweep("smoke_p17", workers=0, runs=tmp_path), "at least 1"),
        (lambda: sweep("smoke_p17", seeds=[], runs=tmp_path), "at least one seed"),
        (lambda: read_plan(tmp_path / "none.yaml"), "cannot read"),
    ):
        with pytest.raises(ConfigError, match=said):
            call()
    path = tmp_path / "x.yaml"
    path.write_text("preset: quick\ngird: {}\n")
    with pytest.raises(ConfigError, match="grid"):
        read_plan(path)


@pytest.mark.parametrize("name", ["weight_decay", "train_fraction"])
def test_shipped_sweeps_can_be_planned(name: str, tmp_path: Path) -> None:
    path = Path(__file__).parents[2] / "experiments" / "sweeps" / f"{name}.yaml"
    assert len(read_plan(path).jobs(tmp_path)) == {"weight_decay": 40, "train_fraction": 6}[name]


def test_another_run_in_the_way_is_refused_before_anything(tmp_path: Path) -> None:
    asked = plan(tiny.config(), [0], GRID)
    tiny.train(
        tiny.config(stop__max_steps=10), asked.jobs(tmp_path)[1].directory, **{"optim.lr": 2e-3}
    )
    with pytest.raises(RunError, match=r"optim\.lr"):
        run_plan(asked, tmp_path, progress=False)
    assert not (tmp_path / "logs").exists()


def test_a_second_sweep_in_the_same_place_is_refused(tmp_path: Path) -> None:
    with lock(tmp_path), pytest.raises(RunError, match="in use"):
        sweep(tiny.config(), runs=tmp_path)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs, one of which diverges and one of which cannot even start."""
    directory = tmp_path_factory.mktemp("swept") / "runs"
    sweep(tiny.config(), grid={"optim.lr": [1e-3, 1e30], "task.frac_train": [0.6, 5]},
          runs=directory, progress=False)  # fmt: skip
    return directory


def test_a_failed_run_has_its_reason_and_stops_no_other(swept: Path) -> None:
    found = failures(swept)
    assert len(found) == 3
    said = {name.split("tiny__optim.lr=")[1].split("__seed")[0]: r for name, r in found.items()}
    assert "frac_train" in said["0.001__task.frac_train=5.0"]
    assert said["1.0e+30__task.frac_train=0.6"].startswith("TrainingDiverged")
    whole = Run(swept / "tiny__optim.lr=0.001__task.frac_train=0.6__seed0")
    assert whole.status["state"] == "finished"


def test_finished_and_diverged_runs_are_not_trained_again(
    swept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = {"optim.lr": [1e-3, 1e30], "task.frac_train": [0.6]}
    before = {p: p.stat().st_mtime_ns for p in swept.glob("*/status.json")}
    assert len(before) == 2
    monkeypatch.setattr(processes, "_start", None)  # starting anything fails
    runs = sweep(tiny.config(), grid=grid, runs=swept, progress=False)
    assert {p: p.stat().st_mtime_ns for p in swept.glob("*/status.json")} == before
    assert [run.status["state"] for run in runs] == ["finished", "diverged"]
    kept = failures(swept)
    assert any("1.0e+30__task.frac_train=0.6" in name for name in kept), "its reason stays"


def test_without_a_single_run_the_reasons_are_the_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"none of the 1 runs(.|\n)*frac_train"):
        sweep(tiny.config(), overrides={"task.frac_train": 5}, runs=tmp_path, progress=False)


def wait_for(condition: Any, seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


STEPS, EVERY, LOOK = 2_000, 200, 50
LONG = tiny.config(stop__max_steps=STEPS, schedule__checkpoints=[f"every {EVERY}"],
                   schedule__evaluate_every=LOOK)  # fmt: skip

SCRIPT = """
import sys
from pathlib import Path
from mechgrok.runs.run import read_config
from mechgrok.training.state import resume_step
from mechgrok.training.sweep import sweep
sweep(read_config(Path(sys.argv[1])), seeds=range(3), runs=sys.argv[2], progress=False)
"""


def test_kill_9_of_the_sweep_loses_at_most_a_checkpoint_per_worker(tmp_path: Path) -> None:
    """Steps executed in both processes together: the grid's, and one interval per worker."""
    config, directory = tmp_path / "config.yaml", tmp_path / "runs"
    write_config(config, LONG)
    command = [sys.executable, "-c", SCRIPT, str(config), str(directory)]
    parent = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    jobs = plan(LONG, range(3)).jobs(directory)

    def saved(job: Job) -> int:
        return resume_step(job.directory) or 0

    wait_for(lambda: max(map(saved, jobs[:2])) >= 2 * EVERY)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for(lambda: all(_free(job.directory) for job in jobs))  # the workers left with it
    at, looked = [saved(job) for job in jobs], [_looked(job.directory) for job in jobs]
    done = {j.name: (j.directory / "status.json").read_bytes() for j in jobs if j.ended()}
    assert len(done) < 3, "killed too late to show anything"
    runs = sweep(LONG, seeds=range(3), runs=directory, progress=False)
    assert [run.status["state"] for run in runs] == ["finished"] * 3
    assert failures(directory) == {}
    for run in runs:
        if run.name in done:
            assert (run.path / "status.json").read_bytes() == done[run.name]
    again = sum(max(0, a + LOOK - b) for a, b in zip(looked, at, strict=True))
    assert again <= 2 * (EVERY + LOOK)
    resumed = [run.status["steps"] for run in runs if run.name not in done]
    assert resumed == [STEPS - a for a, j in zip(at, jobs, strict=True) if j.name not in done]


def _looked(directory: Path) -> int:
    path = directory / "metrics.jsonl"
    return json.loads(path.read_text().splitlines()[-1])["step"] if path.exists() else 0


def _free(directory: Path) -> bool:
    try:
        with lock(directory):
            return True
    except RunError:
        return False


def test_a_worker_that_is_killed_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    real = processes._start

    def spy(job: Job, logs: Path, attempt: int) -> Any:
        found = real(job, logs, attempt)
        started.append(found)
        return found

    monkeypatch.setattr(processes, "_start", spy)
    real_sleep = time.sleep

    def sleep(seconds: float) -> None:
        if len(started) == 1 and (resume_step(tmp_path / "tiny__seed0") or 0) > 0:
            os.kill(started[0].popen.pid, signal.SIGKILL)
            started[0].popen.wait()
        real_sleep(seconds)

    monkeypatch.setattr(processes.time, "sleep", sleep)
    runs = sweep(LONG, runs=tmp_path, progress=False)
    assert [p.attempt for p in started] == [1, 2]
    assert runs[0].status["state"] == "finished"
    assert runs[0].status["steps"] < STEPS, "it went on from a checkpoint"


def test_a_worker_that_always_dies_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = processes._start

    def spy(job: Job, logs: Path, attempt: int) -> Any:
        found = real(job, logs, attempt)
        found.popen.kill()
        return found

    monkeypatch.setattr(processes, "_start", spy)
    with pytest.raises(RunError, match=r"SIGKILL, perhaps out of memory\) 3 times"):
        sweep(LONG, runs=tmp_path, progress=False)


def test_exit_codes_in_words() -> None:
    assert processes.spelled(-9) == "SIGKILL, perhaps out of memory"
    assert processes.spelled(-11) == "SIGSEGV"
    assert processes.spelled(2) == "exit code 2"


@pytest.mark.parametrize("cluster", ["local", "debug"])
@pytest.mark.filterwarnings("ignore")
def test_submitit_executors_train_and_report(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONBREAKPOINT", "0")
    monkeypatch.setattr("pdb.post_mortem", lambda: None)  # what the debug executor does on errors
    asked = plan(tiny.config(), [0], {"task.frac_train": [0.6, 5]})
    failed = run_plan(asked, tmp_path, cluster=cluster, progress=False)
    assert [run.status["state"] for run in opened(asked.jobs(tmp_path), tmp_path)] == ["finished"]
    gc.collect()  # submitit leaves log files open
    assert list(failed) == ["tiny__task.frac_train=5.0__seed0"]
    (reason,) = failed.values()
    assert "ended as" in reason
    assert "expected a share strictly between 0 and 1" in reason


def test_a_cluster_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(tiny.config(), runs=tmp_path, progress=False)
    before = (tmp_path / "tiny__seed0" / "status.json").read_bytes()
    monkeypatch.setenv("PATH", str(tmp_path))  # neither srun nor sbatch
    with pytest.raises(RunError, match="slurm did not take the jobs(.|\n)*without --cluster"):
        sweep(tiny.config(), seeds=[0, 1], runs=tmp_path, cluster="slurm", progress=False)
    assert (tmp_path / "tiny__seed0" / "status.json").read_bytes() == before
    broken = tmp_path / "sbatch"
    for name in ("sbatch", "srun"):
        (tmp_path / name).write_text(
            "#!/bin/sh\necho 'Unable to contact slurm controller' >&2\nexit 1\n"
        )
        (tmp_path / name).chmod(0o755)
    assert broken.exists()
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(RunError, match="Unable to contact slurm controller"):
        sweep(tiny.config(), seeds=[0, 1], runs=tmp_path, cluster="slurm", progress=False)
    with pytest.raises(ConfigError, match="expected one of"):
        list(run_cluster([], tmp_path, 1, "lsf"))


def test_presets_in_a_sweep_keep_their_digest(tmp_path: Path) -> None:
    """Threads do not count, so a run of the sweep is the preset's run."""
    (job,) = plan("nanda2023_mainline", [0]).jobs(tmp_path)
    assert job.config.digest() == preset("nanda2023_mainline", 0).digest()
