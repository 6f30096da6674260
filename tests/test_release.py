"""What goes out with a release says what is there."""

import re
import tomllib
from pathlib import Path

import yaml

import mechgrok
from mechgrok import discovery

ROOT = Path(__file__).parents[1]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()


def test_the_citation_is_of_this_version_and_of_papers_that_are_used() -> None:
    assert {"cff-version", "message", "title", "authors"} <= set(CITATION)
    assert CITATION["version"] == mechgrok.__version__
    assert CITATION["license"] == "MIT"
    folders = ("mechgrok", "tests")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    source = "".join(path.read_text() for path in files)
    for paper in CITATION["references"]:
        assert {"type", "title", "authors", "year", "url"} <= set(paper)
        assert paper["url"].rpartition("/")[2] in source, paper["title"]


def test_the_changelog_names_every_command_and_every_recorded_study() -> None:
    assert "## Unreleased" in CHANGELOG or f"## {mechgrok.__version__}" in CHANGELOG
    listed = CHANGELOG.split("- Command line: ")[1].split(".\n")[0]
    assert sorted(re.findall(r"`(\w+)`", listed)) == discovery.names("cli")
    for name in set(re.findall(r"`(?:experiments/)?(\w+\.py)`", CHANGELOG)):
        assert (ROOT / "experiments" / name).exists(), name


def test_docstrings_are_asked_for_everywhere_but_in_tests() -> None:
    """ruff's D1 is the check itself: it runs over the package before the tests."""
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert "D1" in lint["select"]
    assert {rule for rule in lint["ignore"] if rule.startswith("D")} == {"D105", "D107"}
    freed = [path for path, rules in lint["per-file-ignores"].items() if {"D1", "D103"} & {*rules}]
    assert freed == ["tests/**", "benchmarks/**"]
