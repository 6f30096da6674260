"""docs/definitions.md against the code: its measures, headlines, constants and variants."""

import ast
import re
from pathlib import Path

import pytest
from smoke_runs import smoke_run

from mechgrok import discovery, measures
from mechgrok.runs.run import Run
from mechgrok.runs.runs import Runs

PAGE = (Path(__file__).parents[1] / "docs" / "definitions.md").read_text()


def sections(page: str) -> dict[str, str]:
    """Text below every heading that is a measure's name."""
    parts = re.split(r"^### `(\w+)`$", page, flags=re.MULTILINE)
    texts = [re.split(r"^## ", text, flags=re.MULTILINE)[0] for text in parts[2::2]]
    assert len(set(parts[1::2])) == len(parts[1::2]), "a measure has two sections"
    return dict(zip(parts[1::2], texts, strict=True))


SECTIONS = sections(PAGE)


def quoted_constants(text: str) -> dict[str, object]:
    """`NAME = value` in the text."""
    found = re.findall(r"`([A-Z][A-Z0-9_]+) = ([^`]+)`", text)
    return {name: ast.literal_eval(value) for name, value in found}


def headline(text: str) -> str:
    match = re.search(r"Headline `([^`]+)`", text)
    assert match, "no headline"
    return match[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return smoke_run(tmp_path_factory.mktemp("runs") / "smoke")


def test_every_measure_has_its_section_and_no_section_lacks_its_measure() -> None:
    assert set(SECTIONS) == set(measures.__all__)


@pytest.mark.parametrize("name", sorted(SECTIONS))
def test_every_section_says_what_the_others_do_and_where_ours_differs(name: str) -> None:
    assert headline(SECTIONS[name])
    assert "- **Differs**: " in SECTIONS[name]
    assert "- **Elsewhere**: " in SECTIONS[name] or "where it is from" in SECTIONS[name]


@pytest.mark.parametrize("name", sorted(SECTIONS))
def test_every_quoted_constant_is_the_codes(name: str) -> None:
    module = discovery.module("measures", name)
    quoted = quoted_constants(SECTIONS[name])
    assert quoted == {constant: getattr(module, constant) for constant in quoted}


@pytest.mark.parametrize("name", ["restricted_loss", "excluded_loss"])
def test_every_variant_is_a_row_and_every_row_a_variant(name: str) -> None:
    rows = re.findall(r"^\| `([^`]+)`", SECTIONS[name], flags=re.MULTILINE)
    assert rows == list(discovery.module("measures", name).VARIANTS)


@pytest.mark.parametrize("name", sorted(SECTIONS))
def test_every_headline_is_the_first_value(name: str, run: Run) -> None:
    subject = discovery.module("measures", name).SUBJECT
    if subject == "runs":
        result = Runs([run]).measure(name)
    elif subject == "pair":
        result = discovery.load("measures", name)(run[0], run[-1])
    else:
        result = run.measure(name)
    assert next(iter(result.values)) == headline(SECTIONS[name])


def test_measures_stand_under_their_subject() -> None:
    """The page's parts are the subjects of `SUBJECT`."""
    parts = {
        "a checkpoint": "checkpoint",
        "a pair": "pair",
        "a run": "run",
        "a set of runs": "runs",
    }
    for title, text in re.findall(r"^## Measures of (.+?)$(.+?)(?=^## |\Z)", PAGE, re.M | re.S):
        for name in sections(text):
            assert parts[title] == discovery.module("measures", name).SUBJECT, name


def test_a_page_that_rots_is_seen() -> None:
    """The parsers find what the tests above compare."""
    page = "## Measures of a run\n\n### `old`\nHeadline `x`, `TOP = 7`.\n\n## Next\n`TOP = 8`\n"
    assert set(sections(page)) == {"old"}
    assert quoted_constants(sections(page)["old"]) == {"TOP": 7}
    assert headline(sections(page)["old"]) == "x"
