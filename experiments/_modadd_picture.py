"""The picture of modadd_table: a panel per value, every run a point, bands as dashed lines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechgrok.figures import save_png
from mechgrok.plots._style import BLACK, BLUE, GREY, VERMILION, entitle

COLUMNS = 4
LOGARITHMIC = ("restricted_loss.all",)
COLOURS = (BLUE, VERMILION)
SPREAD = 0.25
"""Half-width of a preset's points, which stand in order of seeds."""


def save(expected: Mapping[str, Any], stem: Path, command: str) -> Path:
    """Write `stem`.png, and `stem`.source.json with the command and every run's digests.

    Raises RunError without a browser or kaleido.
    """
    kept = ("run", "step", "config", "weights")
    runs = [{k: row[k] for k in kept} for entry in expected.values() for row in entry["runs"]]
    return save_png(draw(expected), stem, {"command": command, "runs": runs})


def draw(expected: Mapping[str, Any]) -> go.Figure:
    """Every banded number of every preset; an interval only where it was given."""
    banded = {n: None for e in expected.values() for n in e["bands"]}
    names = [n for n in banded if any(_numbers(e, n, "values") for e in expected.values())]
    rows = -(-len(names) // COLUMNS)
    figure = make_subplots(rows, COLUMNS, subplot_titles=names, vertical_spacing=0.3 / rows)
    for i, name in enumerate(names):
        row, col = i // COLUMNS + 1, i % COLUMNS + 1
        for j, entry in enumerate(expected.values()):
            _preset(figure, entry, name, j, {"row": row, "col": col})
        log = {"type": "log", "exponentformat": "power"} if name in LOGARITHMIC else {}
        figure.update_yaxes(log, row=row, col=col)
        labels = [preset.replace("nanda2023_", "") for preset in expected]
        ticks = {"tickvals": list(range(len(labels))), "ticktext": labels}
        ticks |= {"range": [-0.6, len(labels) - 0.4]}
        figure.update_xaxes(ticks, row=row, col=col)
    figure.update_annotations(font_size=12)
    figure.update_layout(width=1200)
    counts = ", ".join(f"{name} n = {len(e['runs'])}" for name, e in expected.items())
    note = (
        "points: runs in order of seeds; filled, those the bands come from; bars: mean and 95 % "
        "bootstrap interval over runs, from 5 runs on;<br>dashed: bound of the band, with an arrow "
        "to its allowed side; crosses: the same models untrained (where the measure applies)"
    )
    title = "Modular addition: the last checkpoint of every run"
    entitle(figure, title, counts, note, height=190 + 210 * rows)
    return figure.update_layout(margin_t=160)


def _numbers(entry: Mapping[str, Any], name: str, which: str) -> list[tuple[int, float]]:
    """(index of the run, number); yes and no are not drawn."""
    found = [(i, row[which].get(name)) for i, row in enumerate(entry["runs"])]
    return [(i, float(x)) for i, x in found if type(x) in (int, float)]


def _preset(
    figure: go.Figure, entry: Mapping[str, Any], name: str, at: int, place: Mapping[str, int]
) -> None:
    n, colour = len(entry["runs"]), COLOURS[at % len(COLOURS)]
    own = [row["seed"] in entry["band_seeds"] for row in entry["runs"]]
    for which, symbol in (("values", "circle"), ("untrained", "x-thin")):
        points = _numbers(entry, name, which)
        symbols = [symbol if symbol != "circle" or own[i] else "circle-open" for i, _ in points]
        figure.add_scatter(
            x=[_offset(i, n, at) for i, _ in points],
            y=[y for _, y in points],
            mode="markers",
            marker={
                "symbol": symbols,
                "size": 7,
                "color": colour if which == "values" else GREY,
                "line": {"width": 1.5, "color": colour if which == "values" else GREY},
            },
            showlegend=False,
            **place,
        )
    _interval(figure, entry["intervals"].get(name), at, place)
    band = entry["bands"].get(name)
    if band is not None:
        ends = [at - 1.6 * SPREAD, at + 1.6 * SPREAD]
        line = {"color": colour, "dash": "dash", "width": 1}
        arrow = "▲" if band["side"] == "at least" else "▼"
        figure.add_scatter(
            x=ends,
            y=[band["threshold"]] * 2,
            mode="lines+text",
            text=["", arrow],
            textfont={"size": 8, "color": colour},
            line=line,
            showlegend=False,
            **place,
        )


def _offset(i: int, n: int, at: int) -> float:
    return at + (SPREAD * (2 * i / (n - 1) - 1) if n > 1 else 0)


def _interval(
    figure: go.Figure, ends: Mapping[str, float] | None, at: int, place: Mapping[str, int]
) -> None:
    if ends is None:
        return
    figure.add_scatter(
        x=[at + 1.4 * SPREAD],
        y=[ends["mean"]],
        error_y={
            "type": "data",
            "array": [ends["high"] - ends["mean"]],
            "arrayminus": [ends["mean"] - ends["low"]],
            "width": 4,
        },
        mode="markers",
        marker={"color": BLACK, "symbol": "line-ew-open", "size": 8},
        showlegend=False,
        **place,
    )
