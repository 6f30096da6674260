"""A file of rows of one size that grows while a run trains and survives its end, however it ends.

A head (magic, number of valid rows, description as JSON) is followed by the rows. They are written
through a memory map; the number is raised only after the rows it counts are on the disk, so a kill
or a power cut leaves whole rows behind it. Room is made by writing zeros before it is mapped: a
full disk is an error there, where in a map it would be a signal that ends the process.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np

from mechgrok.runs import storage
from mechgrok.runs.storage import RunError, cannot_write

MAGIC: Final = b"mechgrok"
PAGE: Final = 4096
"""The head fills whole pages of this many bytes."""

ROOM: Final = 2**18
"""Bytes made room for at once; also how much is written between two updates of the number."""

COUNT: Final = slice(8, 16)
"""Where the number of valid rows stands, as a little-endian int64; the head's length follows."""

Fields = Mapping[str, tuple[str, tuple[int, ...]]]
"""Name -> (numpy's name of the type, shape) of every part of a row."""


def create(path: Path, fields: Fields, description: Mapping[str, Any]) -> None:
    """Write a file without rows in the place of whatever was there.

    Raises RunError when it cannot be written.
    """
    text = json.dumps({"fields": fields, "description": description}, sort_keys=True).encode()
    head = MAGIC + np.array([0, len(text)], "<i8").tobytes() + text
    storage.write_bytes(path, head + bytes(-len(head) % PAGE))


def refuse_other(file: "RowFile", fields: Fields, description: Mapping[str, Any]) -> None:
    """Raise RunError when a file was made for other rows than these."""
    told = json.loads(json.dumps({"fields": fields, "description": description}))
    if told != {"fields": file.head.fields, "description": file.description}:
        raise RunError(
            f"{file.path} was recorded with other settings, or by another version; restore it, or "
            f"start a new --run"
        )


def read(path: Path) -> tuple[dict[str, Any], np.ndarray]:
    """The description and the valid rows (a structured array) of a file, also of a growing one.

    Raises RunError when it is missing, cut short or not such a file.
    """
    head = _Head.read(path)
    rows = np.fromfile(path, head.dtype, head.count, offset=head.size)
    if len(rows) < head.count:
        raise RunError(
            f"{path} is truncated: it counts {head.count} rows and holds {len(rows)}; restore it "
            f"from a copy"
        )
    return head.description, rows


class RowFile:
    """One process's hold on a file that exists; rows are appended."""

    def __init__(self, path: Path) -> None:
        """Open it behind its last valid row; nothing is written. Raises RunError as `read`."""
        self.path = path
        self.head = _Head.read(path)
        self.count = self.head.count
        self._map: np.ndarray | None = None

    @property
    def description(self) -> dict[str, Any]:
        """What `create` was given."""
        return self.head.description

    def append(self, values: Mapping[str, Any]) -> None:
        """Add a row. Raises RunError when the disk has no room for it; the rows before it stay."""
        if self.count >= self._capacity():
            self._make_room()
        row = self._rows()[self.count]
        for name, value in values.items():
            row[name] = value
        self.count += 1

    def sync(self) -> None:
        """Put the rows on the disk, then their number."""
        if self._map is not None:
            self._flush()
            self._map[COUNT] = np.frombuffer(np.array([self.count], "<i8").tobytes(), np.uint8)
            self._flush()

    def cut(self, count: int) -> None:
        """Leave `count` rows: first the number, then the file's length.

        Raises RunError when there are fewer.
        """
        if self.count < count:
            raise RunError(
                f"{self.path} has {self.count} rows, expected {count} to go on from here; restore "
                f"it from a copy, or start a new --run"
            )
        if self.count > count:
            self._open_map()
            self.count = count
            self.sync()
        self._trim()

    def close(self) -> None:
        """Put everything on the disk, without the room that was not needed."""
        self.sync()
        self._trim()

    def _capacity(self) -> int:
        return 0 if self._map is None else (len(self._map) - self.head.size) // self._width

    @property
    def _width(self) -> int:
        return self.head.dtype.itemsize

    def _rows(self) -> np.ndarray:
        assert self._map is not None
        end = self.head.size + self._capacity() * self._width
        return self._map[self.head.size : end].view(self.head.dtype)

    def _make_room(self) -> None:
        self.sync()
        self._map = None
        length = self.head.size + self.count * self._width
        more = max(1, ROOM // self._width) * self._width
        try:
            os.truncate(self.path, length)
            with open(self.path, "ab") as file:
                file.write(bytes(more))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            with suppress(OSError):
                os.truncate(self.path, length)
            raise RunError(cannot_write(self.path, error)) from error
        self._open_map()

    def _open_map(self) -> None:
        try:
            self._map = np.memmap(self.path, np.uint8, "r+")
        except OSError as error:
            raise RunError(cannot_write(self.path, error)) from error

    def _trim(self) -> None:
        self._map = None
        length = self.head.size + self.count * self._width
        if self.path.stat().st_size != length:
            try:
                os.truncate(self.path, length)
            except OSError as error:
                raise RunError(cannot_write(self.path, error)) from error

    def _flush(self) -> None:
        assert isinstance(self._map, np.memmap)
        try:
            self._map.flush()
        except OSError as error:
            raise RunError(cannot_write(self.path, error)) from error


class _Head:
    """What stands before the rows."""

    def __init__(self, count: int, size: int, told: Mapping[str, Any]) -> None:
        self.count, self.size = count, size
        self.description: dict[str, Any] = told["description"]
        self.fields: dict[str, Any] = told["fields"]
        parts = [(name, kind, tuple(shape)) for name, (kind, shape) in told["fields"].items()]
        self.dtype = np.dtype(parts)

    @classmethod
    def read(cls, path: Path) -> "_Head":
        try:
            with open(path, "rb") as file:
                if file.read(8) != MAGIC:
                    raise ValueError("another kind of file")
                count, length = (int(n) for n in np.frombuffer(file.read(16), "<i8"))
                told = json.loads(file.read(length))
            size = 24 + length
            return cls(count, size + -size % PAGE, told)
        except FileNotFoundError:
            raise RunError(f"{path} is missing; restore it from a copy") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path} is damaged or not ours ({error}); restore it") from error
