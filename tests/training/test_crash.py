"""No kill loses a finished checkpoint, and no error harms a run that is there."""

import fcntl
import os
import random
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from training import faults

from mechgrok.config import ConfigError
from mechgrok.runs import layout
from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError, lock, read_tensors, tensor_digest

STEPS = 55
"""The last checkpoint is off the schedule, so that the end of a run is interrupted too."""

CHANGES: dict[str, Any] = tiny.EVERYTHING | {"stop.max_steps": STEPS}


def train(directory: Path, **changes: Any) -> Run:
    return tiny.train(tiny.config(), directory, **{**CHANGES, **changes})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing happened to."""
    return train(tmp_path_factory.mktemp("undisturbed") / "run").path


@pytest.fixture(scope="module")
def writes(undisturbed: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """How many writes, fsyncs and renames follow the first checkpoint."""
    directory = tmp_path_factory.mktemp("count")
    found = {}
    for where in ("write", "fsync", "rename"):
        low, high = 1, 400
        while low < high:  # the first k that comes too late
            middle = (low + high) // 2
            run = directory / f"{where} {middle}"
            if killed_by(where, middle, run) == 0:
                high = middle
            else:
                low = middle + 1
        found[where] = low - 1
    return found


def killed_by(where: str, k: int, directory: Path) -> int:
    def work() -> None:
        faults.plant(where, k, directory)
        train(directory)

    return faults.exit_code(work)


def check_intact_then_resume(directory: Path, undisturbed: Path) -> None:
    """Whatever was finished is whole and right, and the run ends as if nothing had been."""
    before = finished(directory)
    assert 0 in before
    reference = finished(undisturbed)
    assert all(reference[step] == digest for step, digest in before.items())
    run = Run(directory)
    assert run[-1].step == run.steps[-1]
    assert run.status["state"] in ("running", "finished")
    assert [row["step"] for row in run.evaluations()] == sorted(
        {r["step"] for r in run.evaluations()}
    )
    train(directory)
    assert tiny.trained_parts(directory) == tiny.trained_parts(undisturbed)
    assert Run(directory).status["state"] == "finished"
    # a finished run is left alone: nothing has to be trained again
    assert (directory / "latest").read_text() == layout.checkpoint(directory, STEPS).name + "\n"


def finished(directory: Path) -> dict[int, str]:
    """Digest of every checkpoint; reading checks each against its own header."""
    return {
        step: tensor_digest(read_tensors(layout.checkpoint(directory, step))[0])
        for step in layout.steps(directory, "checkpoints")
    }


@pytest.mark.parametrize(("where", "k"), [("write", 3), ("fsync", 11), ("rename", 4)])
def test_dying_inside_a_write(where: str, k: int, tmp_path: Path, undisturbed: Path) -> None:
    assert killed_by(where, k, tmp_path / "run") == -signal.SIGKILL
    check_intact_then_resume(tmp_path / "run", undisturbed)


def killed_after(seconds: float, directory: Path) -> int:
    """Kill from outside, some time after the first checkpoint."""
    child = faults.forked(lambda: train(directory))
    while child.is_alive() and not (directory / "latest").exists():
        time.sleep(0.001)
    time.sleep(seconds)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join(60)
    assert child.exitcode is not None
    return child.exitcode


def test_dying_at_any_time(tmp_path: Path, undisturbed: Path) -> None:
    assert killed_after(0.05, tmp_path / "run") == -signal.SIGKILL
    check_intact_then_resume(tmp_path / "run", undisturbed)


def test_dying_between_the_last_state_and_its_name(tmp_path: Path, undisturbed: Path) -> None:
    """The last checkpoint is off the schedule; a resumed run must name it all the same."""

    def work() -> None:
        real = os.replace

        def replace(source: Any, target: Any) -> None:
            if Path(target).name == "latest" and layout.state(tmp_path / "run", STEPS).exists():
                faults.die()
            real(source, target)

        os.replace = replace
        train(tmp_path / "run")

    assert faults.exit_code(work) == -signal.SIGKILL
    check_intact_then_resume(tmp_path / "run", undisturbed)


def test_dying_twice(tmp_path: Path, undisturbed: Path) -> None:
    for k in (9, 5):
        assert killed_by("rename", k, tmp_path / "run") == -signal.SIGKILL
    check_intact_then_resume(tmp_path / "run", undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("case", range(30))
def test_dying_inside_many_writes(
    case: int, tmp_path: Path, undisturbed: Path, writes: dict[str, int]
) -> None:
    where = ("write", "fsync", "rename")[case % 3]
    # spread over the whole run, first and last included
    k = 1 + round((case // 3) / 9 * (writes[where] - 1))
    assert killed_by(where, k, tmp_path / "run") == -signal.SIGKILL
    check_intact_then_resume(tmp_path / "run", undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("case", range(30))
def test_dying_at_many_times(case: int, tmp_path: Path, undisturbed: Path) -> None:
    code = killed_after(random.Random(case).uniform(0, 0.4), tmp_path / "run")
    assert code in (-signal.SIGKILL, 0)  # 0: a quiet machine had finished already
    check_intact_then_resume(tmp_path / "run", undisturbed)


def test_the_comparison_sees_a_lost_or_changed_checkpoint(
    tmp_path: Path, undisturbed: Path
) -> None:
    """The control: planted damage turns the check red."""
    shutil.copytree(undisturbed, tmp_path / "run")
    parts = tiny.trained_parts(tmp_path / "run")
    layout.checkpoint(tmp_path / "run", 20).unlink()
    assert tiny.trained_parts(tmp_path / "run") != parts
    other = train(tmp_path / "other", **{"seeds.batch": 1}).path
    with pytest.raises(AssertionError):
        check_intact_then_resume(other, undisturbed)


# ------------------------------------------------------------------ errors that harm nothing


@pytest.fixture
def run(undisturbed: Path, tmp_path: Path) -> Path:
    """A finished run to make trouble in."""
    shutil.copytree(undisturbed, tmp_path / "run")
    return tmp_path / "run"


def last(kind: str, run: Path) -> Path:
    return {"checkpoint": layout.checkpoint, "state": layout.state}[kind](run, STEPS)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def truncate_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    """One bit of one weight."""
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("kind", ["checkpoint", "state"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncate, "truncated"),
        (truncate_header, "truncated"),
        (empty, "truncated"),
        (flip, "altered"),
        (Path.unlink, "missing|no state for step"),
    ],
)
def test_a_damaged_file_is_named_and_nothing_is_touched(
    kind: str, damage: Callable[[Path], None], said: str, run: Path
) -> None:
    damage(last(kind, run))
    files = tiny.files(run)
    with pytest.raises(RunError, match=said):
        train(run, **{"stop.max_steps": 80})
    if kind == "checkpoint" and damage is not Path.unlink:
        with pytest.raises(RunError, match=said):
            _ = Run(run)[-1]
    assert tiny.files(run) == files
    assert Run(run).checkpoint(40).step == 40  # the others are still there


def test_a_flipped_bit_is_seen_wherever_it_is(run: Path) -> None:
    path = layout.checkpoint(run, 40)
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    for place in (8 + length, (8 + length + len(whole)) // 2, len(whole) - 1):
        data = bytearray(whole)
        data[place] ^= 0x10
        path.write_bytes(bytes(data))
        with pytest.raises(RunError, match="altered"):
            Run(run).checkpoint(40)
    path.write_bytes(whole)
    assert Run(run).checkpoint(40).step == 40


def test_another_runs_checkpoint_is_refused(run: Path, tmp_path: Path) -> None:
    other = train(tmp_path / "other", **{"seeds.init": 5}).path
    shutil.copy(layout.checkpoint(other, STEPS), layout.checkpoint(run, STEPS))
    files = tiny.files(run)
    with pytest.raises(RunError, match="another config"):
        train(run, **{"stop.max_steps": 80})
    with pytest.raises(RunError, match="another config"):
        _ = Run(run)[-1]
    assert tiny.files(run) == files


BEFORE_A_FILE_IS_WRITTEN: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"optim.lr": 0.5}, RunError, "optim.lr"),
    ({"task.operation": "subtract"}, RunError, "task.operation"),
    ({"task.operation": "adition"}, RunError, "adition"),
    ({"optim.weight_decy": 1.0}, ConfigError, "optim.weight_decay"),
    ({"optim.lr": "fast"}, ConfigError, "expected a number"),
    ({"threads": 0}, ConfigError, "at least 1"),
]


@pytest.mark.parametrize(("changes", "kind", "said"), BEFORE_A_FILE_IS_WRITTEN)
def test_settings_that_do_not_fit_harm_nothing(
    changes: dict[str, Any], kind: type[Exception], said: str, run: Path
) -> None:
    files = tiny.files(run)
    with pytest.raises(kind, match=said):
        train(run, **changes)
    assert tiny.files(run) == files


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task.n": 2}, "at least 3"),
        ({"task.operation": "adition"}, "expected one of"),
        ({"task.operation": "divide", "task.n": 9}, "composite"),
        ({"task.frac_train": 1.0}, "strictly between"),
        ({"task.name": "bynary"}, "binary"),
        ({"model.name": "transformr"}, "transformer"),
        ({"model.init": "gpt3"}, "nanda2023"),
        ({"loss.name": "mse"}, "cross_entropy"),
        ({"optim.name": "sgd"}, "adamw"),
        ({"optim.ema": 1.0}, "out of range"),
        ({"optim.batch_size": 0}, "out of range"),
        ({"record.recorders": ["weightnorm"]}, "weight_norm"),
        ({"schedule.checkpoints": ["sometimes"]}, "forms"),
        ({"schedule.checkpoints": []}, "list of rules"),
        ({"schedule.evaluate_every": 0}, "at least 1"),
        ({"optim.weight_decy": 1.0}, "weight_decay"),
    ],
)
def test_a_new_run_that_cannot_work_writes_no_file(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        tiny.train(tiny.config(), tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_an_unknown_preset_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nanda2023_mainline"):
        tiny.train("nanda_mainline", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_newer_format_is_refused(run: Path) -> None:
    path = run / "provenance.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    files = tiny.files(run)
    for attempt in (lambda: train(run, **{"stop.max_steps": 80}), lambda: Run(run)):
        with pytest.raises(RunError, match=r"format 2.*newer mechgrok"):
            attempt()
    assert tiny.files(run) == files


def test_a_second_process_is_kept_out_and_the_lock_needs_no_clean_up(run: Path) -> None:
    files = tiny.files(run)
    held = run.parent / "held"

    def hold() -> None:
        with lock(run):
            held.touch()
            time.sleep(60)

    child = faults.forked(hold)
    while not held.exists():
        time.sleep(0.005)
    with pytest.raises(RunError, match="in use by another process"):
        train(run, **{"stop.max_steps": 80})
    assert tiny.files(run) == files
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join(60)
    assert train(run).status["state"] == "finished"


def test_the_lock_is_the_kernels(run: Path) -> None:
    with lock(run), open(run / ".lock") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with lock(run):
        pass


@pytest.mark.parametrize("room", [0, 100, 3_000, 12_000])
def test_a_full_disk_keeps_what_is_finished(
    room: int, run: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """No file may grow beyond `room` bytes, as when the disk is full."""
    whole = train(tmp_path / "whole", **{"stop.max_steps": 80}).path
    checkpoints = {n: d for n, d in tiny.files(run).items() if "step_" in n or n == "latest"}

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        try:
            train(run, **{"stop.max_steps": 80})
        except RunError as error:
            os._exit(42 if "make room and start the same command again" in str(error) else 43)

    assert faults.exit_code(work) == 42
    files = tiny.files(run)
    assert all(files[name] == digest for name, digest in checkpoints.items())
    assert not [name for name in files if name.endswith(".tmp")]
    assert Run(run)[-1].step >= STEPS
    train(run, **{"stop.max_steps": 80})
    resumed = tiny.trained_parts(run)
    del resumed[f"checkpoint {STEPS}"]
    assert resumed == tiny.trained_parts(whole)


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A directory that any user can reach, unlike pytest's own."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def as_nobody(work: Callable[[], Any]) -> int:
    """Exit code of work done without root's permission to write everywhere; 42 for a RunError."""

    def child() -> None:
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        try:
            work()
        except RunError as error:
            os._exit(42 if "give a --run directory that can be written" in str(error) else 43)

    return faults.exit_code(child)


def test_a_read_only_directory_is_named_and_stays_as_it_is(
    undisturbed: Path, open_to_all: Path
) -> None:
    run = open_to_all / "run"
    shutil.copytree(undisturbed, run)
    for path in [run, *run.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    files = tiny.files(run)
    assert as_nobody(lambda: train(run, **{"stop.max_steps": 80})) == 42
    assert as_nobody(lambda: train(open_to_all / "new")) == 42
    assert tiny.files(run) == files
    assert (
        as_nobody(lambda: Run(run)[-1].answer_logits) == 0
    )  # reading needs no permission to write


def test_a_file_in_the_place_of_a_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(RunError, match="cannot write"):
        train(tmp_path / "run")
    assert (tmp_path / "run").read_text() == "mine"


def test_someone_elses_checkpoints_are_left_alone(run: Path) -> None:
    (run / "config.yaml").unlink()
    files = tiny.files(run)
    with pytest.raises(RunError, match=r"no config.yaml"):
        train(run)
    with pytest.raises(RunError, match="not a run directory"):
        Run(run)
    assert tiny.files(run) == files


@pytest.mark.parametrize("text", ["", "step_x.safetensors", "step_00000099.safetensors"])
def test_a_broken_latest_is_named(text: str, run: Path) -> None:
    (run / "latest").write_text(text)
    files = tiny.files(run)
    with pytest.raises(RunError, match=r"expected a checkpoint's file name|no state for step 99"):
        train(run)
    assert tiny.files(run) == files
