"""What a kill leaves of the fingerprints, and settings and files that do not fit."""

import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from training import faults

from mechgrok.config import ConfigError
from mechgrok.runs import layout, row_file
from mechgrok.runs.fingerprints import read_fingerprints
from mechgrok.runs.row_file import RowFile
from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError
from mechgrok.training.fingerprint import Fingerprint

RECORD = {
    "record.fingerprint.every": 3,
    "record.fingerprint.probes": 10,
    "record.fingerprint.hook": "blocks.0.hook_resid_post",
    "optim.batch_size": 10,
}


def train(directory: Path, **changes: Any) -> Run:
    return tiny.train(tiny.config(), directory, **{**RECORD, **changes})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("undisturbed") / "run").path


def killed_at(step: int, where: str, directory: Path) -> int:
    """Kill at the recording of a step: before, after, or between its rows and their number."""

    def work() -> None:
        real, flush = Fingerprint.record, RowFile._flush

        def record(self: Fingerprint, at: int, model: Any) -> bool:
            if at == step and where == "before":
                faults.die()
            done = real(self, at, model)
            if at == step and where == "after":
                faults.die()
            if at == step and where == "number":
                RowFile._flush = lambda self: (flush(self), faults.die())  # pyright: ignore
                self.sync()
            return done

        Fingerprint.record = record
        train(directory)

    return faults.exit_code(work)


@pytest.mark.parametrize("where", ["before", "after", "number"])
@pytest.mark.parametrize("step", [3, 21, 57])
def test_a_kill_leaves_whole_rows_and_a_resume_the_same_file(
    step: int, where: str, tmp_path: Path, undisturbed: Path
) -> None:
    run = tmp_path / "run"
    assert killed_at(step, where, run) == -signal.SIGKILL
    told, rows = row_file.read(layout.fingerprints(run))
    whole = read_fingerprints(undisturbed)
    # the checkpoints before, each of which put its rows on the disk, are all that is counted
    assert len(rows) == -(-(step // 20 * 20) // 3)
    assert told == whole.description
    assert np.array_equal(rows["margin"], whole.values["margin"][: len(rows)])
    train(run)
    assert tiny.trained_parts(run) == tiny.trained_parts(undisturbed)


def test_rows_are_counted_only_once_they_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every flush, the number in the file covers rows that an earlier flush has written."""
    path = tmp_path / "x.rows"
    row_file.create(path, {"step": ("<i8", ())}, {})
    file = RowFile(path)
    flushed, real = [0], RowFile._flush

    def flush(self: RowFile) -> None:
        number = int(np.frombuffer(path.read_bytes()[row_file.COUNT], "<i8")[0])
        assert number <= flushed[0]
        real(self)
        flushed[0] = self.count

    monkeypatch.setattr(RowFile, "_flush", flush)
    monkeypatch.setattr(row_file, "ROOM", 8 * 4)
    for step in range(11):
        file.append({"step": step})
    assert row_file.read(path)[1]["step"].tolist() == list(range(8))  # two fillings of 4
    file.close()
    assert row_file.read(path)[1]["step"].tolist() == list(range(11))
    assert path.stat().st_size == file.head.size + 11 * 8


def test_rows_beyond_the_checkpoint_are_cut_and_written_again(
    tmp_path: Path, undisturbed: Path
) -> None:
    """A run may have synced rows behind its last checkpoint; a resume does not trust them."""
    run = tmp_path / "run"
    train(run, **{"stop.max_steps": 20})
    file = RowFile(layout.fingerprints(run))
    assert file.count == 7
    for step in range(21, 36, 3):
        file.append({"step": step, "margin": np.full(10, 1e9)})
    file.sync()
    assert len(read_fingerprints(run).steps) == 12
    train(run)
    assert tiny.trained_parts(run) == tiny.trained_parts(undisturbed)


def lose_rows(path: Path) -> None:
    file = RowFile(path)
    file.cut(2)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def other_probes(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"seed": 0', b'"seed": 1'))


def other_kind(path: Path) -> None:
    path.write_bytes(b"x" * 9000)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (Path.unlink, "is missing"),
        (lose_rows, "has 2 rows, expected 20"),
        (other_probes, "other settings"),
        (other_kind, "damaged or not ours"),
    ],
)
def test_a_damaged_file_is_named_and_nothing_is_touched(
    damage: Callable[[Path], None], said: str, tmp_path: Path, undisturbed: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    damage(layout.fingerprints(run))
    files = tiny.files(run)
    with pytest.raises(RunError, match=said):
        train(run, **{"stop.max_steps": 80})
    assert tiny.files(run) == files


def test_what_cannot_be_read_is_named(tmp_path: Path, undisturbed: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    truncate(layout.fingerprints(run))
    with pytest.raises(RunError, match="counts 20 rows and holds 19"):
        _ = Run(run).fingerprints
    other_kind(layout.fingerprints(run))
    with pytest.raises(RunError, match="damaged or not ours"):
        _ = Run(run).fingerprints
    layout.fingerprints(run).unlink()
    with pytest.raises(RunError, match=r"--set record.fingerprint.every=2"):
        _ = Run(run).fingerprints
    empty = train(tmp_path / "empty", **{"stop.max_steps": 0})
    with pytest.raises(RunError, match="holds no snapshot yet"):
        _ = empty.fingerprints


@pytest.mark.parametrize("room", [20_000, 100_000])
def test_a_full_disk_is_said_and_resumed_from(room: int, tmp_path: Path, undisturbed: Path) -> None:
    """No file may grow beyond `room` bytes: the head fits, the first rows do not."""
    run = tmp_path / "run"

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        try:
            train(run)
        except RunError as error:
            said = "snapshots.rows" in str(error) and "make room and start" in str(error)
            os._exit(42 if said else 43)

    assert faults.exit_code(work) == 42
    assert Run(run).status["state"] == "failed"
    assert layout.fingerprints(run).stat().st_size == 4096
    train(run)
    assert tiny.trained_parts(run) == tiny.trained_parts(undisturbed)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"every": -1}, r"every = -1; expected 0 \(off\)"),
        ({"probes": 30}, "probes = 30; expected 1 to 29"),
        ({"probes": 0}, "expected 1 to 29"),
        ({"probes": 21, "splits": ["train", "test"]}, "expected 1 to 20"),
        ({"splits": ["validation"]}, r"expected some of \['test', 'train'\]"),
        ({"splits": []}, "each once"),
        ({"splits": ["train", "train"]}, "each once"),
        ({"hook": "blocks.0.hook_resid_pots"}, "nearest: .*blocks.0.hook_resid_post"),
        ({"hook": "blocks.0.attn.hook_result"}, "never fired"),
        ({"hook": "blocks.0.attn.hook_pattern"}, "expected .probes, position"),
        ({"position": 3}, "position = 3; expected -3 to 2"),
        ({"directions": 0}, "directions = 0; expected at least 1"),
    ],
)
def test_settings_that_cannot_work_write_no_file(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    asked = {f"record.fingerprint.{name}": value for name, value in changes.items()}
    with pytest.raises(ConfigError, match=said):
        train(tmp_path / "run", **asked)
    assert not (tmp_path / "run").exists()
