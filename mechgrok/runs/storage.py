"""Files that are either whole or absent, tensors that are checked, and one process per directory.

Every file is written beside its place, synced and renamed over it, so a crash, a kill or a full
disk leaves the previous version. Tensors carry a digest in the safetensors header; no pickle is
used.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor


class RunError(RuntimeError):
    """A run directory that cannot be used as asked; nothing in it was changed."""


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file as a whole.

    Raises RunError when the disk is full or the directory cannot be written; the old file stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise RunError(cannot_write(path, error)) from error


def write_text(path: Path, text: str) -> None:
    """Replace a text file as a whole; errors as `write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: Path, data: Any) -> None:
    """Replace a JSON file as a whole; NaN is refused."""
    write_text(path, json.dumps(data, indent=1, allow_nan=False) + "\n")


def append_line(path: Path, line: str) -> None:
    """Add a line to a log; a line cut short by a crash is left out by `read_lines`."""
    try:
        with open(path, "a") as file:
            file.write(line + "\n")
    except OSError as error:
        raise RunError(cannot_write(path, error)) from error


def sync_file(path: Path) -> None:
    """Force a file that is there to the disk. Raises RunError when it cannot be."""
    try:
        with open(path, "ab") as file:
            os.fsync(file.fileno())
    except OSError as error:
        raise RunError(cannot_write(path, error)) from error


def remove_temporary(directory: Path) -> None:
    """Remove what a kill left between writing and renaming; only while holding the lock."""
    for path in directory.rglob(".*.tmp"):
        path.unlink(missing_ok=True)


def read_lines(path: Path) -> list[str]:
    """The complete lines of a log, without one that a crash cut short."""
    if not path.exists():
        return []
    text = path.read_text()
    return text[: text.rfind("\n") + 1].splitlines()


def read_json(path: Path) -> Any:
    """A JSON file. Raises RunError when it is missing or not JSON."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise RunError(f"{path} is missing; is {path.parent} a run directory?") from None
    except ValueError as error:
        raise RunError(f"{path} is not readable JSON ({error}); restore or remove it") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Replace a safetensors file; `header` and a digest of the tensors go into its metadata."""
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"mechgrok": json.dumps({**header, "sha256": tensor_digest(kept)})}
    write_bytes(path, save(kept, metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a safetensors file.

    Raises RunError when it is missing, truncated, altered, or not written by this package.
    """
    if not path.exists():
        raise RunError(f"{path} is missing; `ls {path.parent}` shows what is there")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(metadata["mechgrok"])
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise RunError(f"{path} is truncated or not ours ({error}); {_NEXT_STEP}") from error
    if tensor_digest(tensors) != header.get("sha256"):
        raise RunError(f"{path} was altered: its tensors do not match its digest; {_NEXT_STEP}")
    return tensors, header


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """Sha256 of names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Hold a directory; the kernel lets go of it when the process ends, however it ends.

    Raises RunError when another process holds it, or when it cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = open(directory / ".lock", "a")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise RunError(cannot_write(directory, error)) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(
                f"{directory} is in use by another process; wait for it, or give another --run"
            ) from None
        yield


_NEXT_STEP = "restore it from a copy, or remove it and go on from an earlier checkpoint"


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cannot_write(path: Path, error: OSError) -> str:
    """What is said of a file that cannot be written, and what to do next."""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        advice = "make room and start the same command again; it resumes"
    else:
        advice = "give a --run directory that can be written"
    return f"cannot write {path}: {reason}. Finished checkpoints are intact; {advice}"
