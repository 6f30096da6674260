"""Every picture of figures/: where it comes from, and that it can be drawn from what is kept."""

import json
from pathlib import Path
from typing import Any

import pytest

import figures
from mechgrok.examples import load_example
from mechgrok.runs.storage import tensor_digest

PICTURES = sorted(path.stem for path in figures.FIGURES.glob("*.png"))
EXPECTED = Path(figures.__file__).parent
DRAWABLE = sorted(
    name
    for name, (experiment, _) in figures.recorded().items()
    if (EXPECTED / f"{experiment}.expected.json").exists()
) + sorted(figures.OF_EXAMPLES)


def test_there_are_pictures() -> None:
    assert len(PICTURES) > 20
    assert len(DRAWABLE) > 5


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_has_its_command_and_its_runs(name: str) -> None:
    source: dict[str, Any] = json.loads((figures.FIGURES / f"{name}.source.json").read_text())
    assert source["command"].startswith(("python experiments/", "mechgrok plot "))
    for run in source.get("runs", [source]):
        assert run["run"]
        assert len(run["config"]) == len(run["weights"]) == 64


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_has_its_numbers_beside_it(name: str) -> None:
    assert figures.source(name) is not None


@pytest.mark.parametrize("name", DRAWABLE)
def test_a_recorded_picture_is_drawn_from_its_numbers(name: str) -> None:
    drawn = figures.figure(name)
    assert drawn.layout.title.text
    assert sum(len(trace.y) for trace in drawn.data if trace.y is not None) > 10


@pytest.mark.parametrize("name", sorted(figures.OF_EXAMPLES))
def test_a_picture_of_an_example_is_of_its_last_weights(name: str) -> None:
    source: dict[str, Any] = json.loads((figures.FIGURES / f"{name}.source.json").read_text())
    run = load_example(figures.OF_EXAMPLES[name])
    assert source["run"] == run.name
    assert source["weights"] == tensor_digest(run[-1].weights)
    assert max(figures.figure(name).data[0].x) == run[-1].step


def test_the_law_shows_the_recorded_times() -> None:
    found = json.loads((EXPECTED / "weight_decay_law.expected.json").read_text())
    times = [row["generalised_by"] for row in found["quick"]["runs"]]
    seen, censored = figures.figure("weight_decay_law").data
    assert sorted(seen.y) == sorted(times)
    assert len(times) == 40
    assert not censored.y


def test_a_picture_without_anything_kept_names_its_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "FIGURES", tmp_path)
    (tmp_path / "lost.png").write_bytes(b"")
    (tmp_path / "lost.source.json").write_text('{"command": "python experiments/lost.py"}')
    assert figures.main([]) == 1
    assert "lost: python experiments/lost.py" in capsys.readouterr().err
    assert figures.main(["absent"]) == 1
    assert "no picture ['absent']" in capsys.readouterr().err
