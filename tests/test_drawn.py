"""A drawn figure kept as a file: what it shows is what was drawn, and it is small."""

import json
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest

from mechgrok import figures
from mechgrok.drawn import MOST, SUFFIX, kept_points, read_drawn, save_drawn
from mechgrok.runs.storage import RunError


def test_a_short_figure_comes_back_as_it_was(tmp_path: Path) -> None:
    figure = go.Figure(layout={"title": {"text": "t"}})
    figure.add_scatter(x=np.arange(5), y=[0.1, None, 0.25, 1e-9, 4], mode="lines")
    figure.add_heatmap(z=np.array([[1.0, np.nan], [2.0, 3.0]]))
    figure.add_scatter(x=["a", "b"], y=np.array([1 / 3, 2]), mode="markers")
    line, grid, points = save_drawn(figure, tmp_path / "f").data
    assert (list(line.x), list(line.y)) == ([0, 1, 2, 3, 4], [0.1, None, 0.25, 1e-9, 4])
    assert [list(row) for row in grid.z] == [[1, None], [2, 3]]
    assert (list(points.x), list(points.y)) == (["a", "b"], [0.33333, 2])
    assert read_drawn(tmp_path / "f").layout.title.text == "t"


def test_a_long_line_keeps_its_ends_its_peak_and_its_trough() -> None:
    steps = list(range(50_000))
    heights = np.random.default_rng(0).random(50_000).tolist()
    heights[12_345], heights[40_000] = 9.0, -9.0
    kept = kept_points(steps, heights)
    assert {0, 49_999, 12_345, 40_000} <= set(kept)
    assert MOST / 2 < len(kept) <= MOST
    assert kept == sorted(set(kept))


@pytest.mark.parametrize(
    "x", [[*range(999), 0], [*range(999), None], [str(i) for i in range(1000)]]
)
def test_a_line_that_turns_back_or_has_gaps_is_kept_whole(x: list[object]) -> None:
    assert len(kept_points(x, [0.5] * 1000)) == 1000


def test_the_same_figure_is_the_same_file(tmp_path: Path) -> None:
    x = np.linspace(0, 6, 5_000)
    figure = go.Figure(go.Scatter(x=x, y=np.sin(x), mode="lines"))
    for name in ("a", "b"):
        save_drawn(figure, tmp_path / name)
    one, two = ((tmp_path / f"{name}{SUFFIX}").read_bytes() for name in ("a", "b"))
    assert one == two
    assert len(one) < 10_000


def test_what_is_kept_is_what_the_picture_shows(
    tiny_run: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []
    monkeypatch.setattr(figures, "browser", lambda: "browser")
    monkeypatch.setattr(figures, "has_kaleido", lambda: True)
    monkeypatch.setattr(figures, "render", lambda figure, *_: shown.append(figure) or b"png")
    figure = go.Figure(go.Scatter(x=[1, 2], y=[1 / 3, 2 / 3]))
    figures.save_picture(figure, tmp_path / "a", tiny_run, "c")  # type: ignore[arg-type]
    assert shown[0] == read_drawn(tmp_path / "a")
    figures.save_sweep_picture(figure, tmp_path / "b", [tiny_run], "c", recorded=True)  # type: ignore[list-item]
    assert not (tmp_path / f"b{SUFFIX}").exists()
    assert json.loads((tmp_path / "b.source.json").read_text())["command"] == "c"


def test_nothing_kept_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"absent\.drawn\.json\.gz"):
        read_drawn(tmp_path / "absent")
