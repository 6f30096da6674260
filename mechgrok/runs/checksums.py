"""SHA256SUMS of a folder, in the format of sha256sum, and the refusal of files that differ."""

import hashlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from mechgrok.runs.storage import RunError, cannot_write, write_text

NAME: Final = "SHA256SUMS"


def new_folder(out: Path) -> None:
    """Make a folder. Raises RunError when it holds something, or cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        used = next(out.iterdir(), None)
    except OSError as error:
        raise RunError(cannot_write(out, error)) from error
    if used is not None:
        raise RunError(f"{out} holds {used.name}; give a new or empty folder")


def write_sums(folder: Path, files: Sequence[str]) -> None:
    """Write the digests of these files (paths inside the folder); `sha256sum --check` reads it."""
    write_text(folder / NAME, "".join(f"{_digest(folder / f)}  {f}\n" for f in sorted(files)))


def check_sums(folder: Path, advice: str = "copy or export the folder again") -> list[str]:
    """The files that SHA256SUMS lists, each with the digest it had when it was written.

    Raises RunError that names a file which is missing, damaged or edited, and what to do.
    """
    path = folder / NAME
    if not path.is_file():
        raise RunError(
            f"{folder} has no {NAME}: no exported run, or one whose export or download was cut "
            f"off; make it with `mechgrok export RUN --out DIR`, or copy it again"
        )
    listed = dict(
        _line(path, line, advice) for line in path.read_text(errors="replace").splitlines()
    )
    for name, digest in listed.items():
        file = folder / name
        if not file.is_file():
            raise RunError(f"{file} is missing, but stands in {NAME}; {advice}")
        if _digest(file) != digest:
            raise RunError(f"{file} is damaged or was edited: its sha256 is not {NAME}'s; {advice}")
    return sorted(listed)


def _line(path: Path, line: str, advice: str) -> tuple[str, str]:
    digest, _, name = line.partition("  ")
    place = PurePosixPath(name)
    if len(digest) != 64 or not name or place.is_absolute() or ".." in place.parts:
        raise RunError(f"{path} has a line {line[:80]!r}; expected a sha256 and a file; {advice}")
    return name, digest


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
