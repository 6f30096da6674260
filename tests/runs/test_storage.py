"""Files are whole or absent, and tensors are what was written."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mechgrok.runs import storage
from mechgrok.runs.storage import RunError


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    storage.write_text(path, "one")
    storage.write_text(path, "two")
    assert path.read_text() == "two"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.txt"
    storage.write_text(path, "old")

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fail)
        with pytest.raises(RunError, match=r"No space left.*make room"):
            storage.write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_data_is_synced_before_it_appears_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(handle: int) -> None:
        happened.append(
            "sync " + ("directory" if os.path.isdir(f"/proc/self/fd/{handle}") else "file")
        )
        real_fsync(handle)

    def replace(source: Any, target: Any) -> None:
        happened.append("rename")
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    storage.write_bytes(tmp_path / "file", b"data")
    assert happened == ["sync file", "rename", "sync directory"]


TENSORS = {
    "float": torch.randn(3, 4),
    "double": torch.randn(2).double(),
    "long": torch.arange(5),
    "bytes": torch.arange(7, dtype=torch.uint8),
    "half": torch.randn(3).bfloat16(),
    "scalar": torch.tensor(2.5),
    "empty": torch.empty(0, dtype=torch.long),
    "transposed": torch.randn(3, 4).T,
}


def test_tensors_and_header_come_back_to_the_bit(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    storage.write_tensors(path, TENSORS, {"step": 3, "third": 1 / 3})
    tensors, header = storage.read_tensors(path)
    assert set(tensors) == set(TENSORS)
    assert all(torch.equal(tensors[n], TENSORS[n]) for n in TENSORS)
    assert all(tensors[n].dtype == TENSORS[n].dtype for n in TENSORS)
    assert (header["step"], header["third"]) == (3, 1 / 3)
    assert header["sha256"] == storage.tensor_digest(TENSORS)


def test_the_digest_follows_names_types_shapes_and_bytes() -> None:
    base = {"a": torch.zeros(2, 3)}
    others = [
        {"b": torch.zeros(2, 3)},
        {"a": torch.zeros(3, 2)},
        {"a": torch.zeros(2, 3, dtype=torch.int32)},
        {"a": -torch.zeros(2, 3)},
        {"a": torch.zeros(2, 3), "b": torch.zeros(0)},
    ]
    digests = {storage.tensor_digest(tensors) for tensors in [base, *others]}
    assert len(digests) == 6
    assert storage.tensor_digest({"a": torch.zeros(3, 2).T}) == storage.tensor_digest(base)


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(RunError, match="not ours"):
        storage.read_tensors(path)
    save_file({"a": torch.zeros(2)}, path, {"mechgrok": json.dumps({"step": 1})})
    with pytest.raises(RunError, match="altered"):
        storage.read_tensors(path)
    with pytest.raises(RunError, match="is missing"):
        storage.read_tensors(tmp_path / "y.safetensors")


def test_a_line_cut_short_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert storage.read_lines(path) == []
    storage.append_line(path, "one")
    storage.append_line(path, "two")
    with open(path, "a") as file:
        file.write('{"half')
    assert storage.read_lines(path) == ["one", "two"]


def test_json_is_strict(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(ValueError, match="JSON"):
        storage.write_json(path, {"a": float("nan")})
    assert not path.exists()
    with pytest.raises(RunError, match="is missing"):
        storage.read_json(path)
    path.write_text('{"a": ')
    with pytest.raises(RunError, match="not readable JSON"):
        storage.read_json(path)
