"""README, docs/ and the experiments' docstrings: links, files, names and commands that exist."""

import argparse
import ast
import functools
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import mechgrok
from mechgrok import discovery
from mechgrok.cli import main, read_train
from mechgrok.presets import preset
from mechgrok.runs import layout
from mechgrok.runs.run import write_config

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = sorted((ROOT / "experiments").glob("[a-z]*.py"))
PROGRAMS = ("mechgrok", "python", "make", "pip")
FIRST = re.compile(rf"({'|'.join(PROGRAMS)}) [^.]")


class Parsed(Exception):
    """A script's arguments were understood; nothing more is to happen."""


def text(path: Path) -> str:
    """A page, or the docstring of a script."""
    whole = path.read_text()
    return whole if path.suffix == ".md" else ast.get_docstring(ast.parse(whole)) or ""


def commands(page: str) -> Iterator[str]:
    """Every command of a page: in fences, indented blocks and between backticks."""
    fences = re.findall(r"```sh\n(.*?)```", page, flags=re.DOTALL)
    bare = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    lines = [line for block in fences for line in block.splitlines()]
    lines += re.findall(r"^    (\S.*)$", bare, flags=re.MULTILINE)
    quoted = re.findall(r"`([^`]+)`", re.sub(r"^    .*$", "", bare, flags=re.MULTILINE))
    lines += [" ".join(words.split()) for words in quoted]
    for line in lines:
        if FIRST.match(line) and "COMMAND" not in line:
            yield re.sub(r"[\[\]]|\.\.\.", "", line).replace("--step N", "--step 1")


FOUND = sorted({c for path in [*PAGES, *SCRIPTS] for c in commands(text(path))})


def understood(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse a command without running it; a word that is not known is an error."""
    if words[0] == "make":
        assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text()
    elif words[0] == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        asked = re.findall(r"\[(\w+)\]", " ".join(words))
        assert set(asked) <= set(extras["optional-dependencies"])
    elif words[0] == "mechgrok" and len(words) == 2:
        assert words[1] in discovery.names("cli")
    elif words[0] == "python" and words[1].startswith("experiments/"):
        assert (ROOT / words[1]).exists()
        script_understands(Path(words[1]).stem, words[2:], monkeypatch)
    elif words[0] == "python":
        assert (ROOT / words[1]).exists()
    elif words[1] == "train":
        write_config(tmp_path / "config.yaml", preset("quick"))
        given = [str(tmp_path / "config.yaml") if w.endswith("config.yaml") else w for w in words]
        read_train(given[2:], "quick", "test")
    elif words[1] == "sweep":
        assert main([*words[1:], "--dry-run", "--runs", str(tmp_path)]) == 0
    else:
        command_understands(words[1], words[2:])


def script_understands(name: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "grok_modadd":
        read_train(words, "nanda2023_mainline", "test")
        return
    parse = argparse.ArgumentParser.parse_args

    def only_parse(self: Any, *arguments: Any) -> None:
        parse(self, *arguments)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
    with pytest.raises(Parsed):
        import_module(name).main(words)


def command_understands(name: str, words: list[str]) -> None:
    import tyro

    command = discovery.load("cli", name)

    @functools.wraps(command)
    def nothing(*_: Any, **__: Any) -> None:
        return None

    tyro.cli(nothing, args=words, prog=name)


def test_every_picture_is_on_a_page() -> None:
    pages = " ".join(path.read_text() for path in PAGES)
    pictures = {path.name for path in (ROOT / "figures").glob("*.png")}
    assert {name for name in pictures if f"figures/{name})" not in pages} == set()


def test_commands_are_found() -> None:
    assert len(FOUND) > 60
    assert {line.split()[0] for line in FOUND} == set(PROGRAMS)


@pytest.mark.parametrize("line", FOUND)
def test_every_command_is_understood(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["test"])
    monkeypatch.chdir(ROOT)
    understood(shlex.split(line, comments=True), tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "line",
    ["mechgrok plot R --nmes x", "mechgrok train --preset quik", "make grock", "pip install a[b]",
     "python experiments/leads.py R --contrl R", "python experiments/leeds.py"],
)  # fmt: skip
def test_a_command_that_rots_is_seen(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises((AssertionError, SystemExit, ValueError)):
        understood(shlex.split(line), tmp_path, monkeypatch)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_and_picture_exists(path: Path) -> None:
    page = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", page)
    missing = [
        link
        for link in links
        if "://" not in link and not (path.parent / link.partition("#")[0]).exists()
    ]
    assert not missing


@pytest.mark.parametrize("path", [*PAGES, *SCRIPTS], ids=lambda path: path.name)
def test_every_file_that_is_named_exists(path: Path) -> None:
    named = re.findall(
        r"\b(?:experiments|docs|notebooks|benchmarks|tests)/[\w./]+\.\w+", text(path)
    )
    assert not [name for name in named if not (ROOT / name).exists()]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_name_of_the_library_exists(path: Path) -> None:
    named = set(re.findall(r"\bmg\.(\w+)", path.read_text()))
    assert named <= set(mechgrok.__all__)


def test_the_page_of_the_library_has_every_name() -> None:
    page = (ROOT / "docs" / "library.md").read_text()
    assert {n for n in mechgrok.__all__ if f"`mg.{n}`" not in page} == set()


def test_the_api_page_has_every_name_and_its_home() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    found = re.findall(
        r"^::: mechgrok\.([\w.]+)\n    options:\n      heading: mg\.(\w+)", page, re.M
    )
    homes = {name: home for home, name in found}
    assert "### mg.load_run" in page
    assert set(homes) == set(mechgrok.__all__) - {"load_run"}
    for name, home in homes.items():
        module, _, member = f"mechgrok.{home}".rpartition(".")
        assert getattr(import_module(module), member) is getattr(mechgrok, name), name


def test_the_page_of_a_runs_directory_is_the_layout() -> None:
    page = (ROOT / "docs" / "run_directory.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \|$", page, flags=re.MULTILINE)
    assert dict(rows) == dict(layout.FILES)
    assert [name for name, _ in rows] == list(layout.FILES)
    assert f"The layout version is {layout.FORMAT};" in " ".join(page.split())


def test_every_page_is_in_the_navigation_and_on_the_first_page() -> None:
    config = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
    listed = re.findall(r"'([\w.]+\.md)'", str(config["nav"]))
    pages = {path.name for path in PAGES[1:]}
    assert set(listed) == pages
    linked = re.findall(r"\]\((\w+\.md)\)", (ROOT / "docs" / "index.md").read_text())
    assert set(linked) == pages - {"index.md"}
