"""EAP and EAP-IG against the exact effect of every edge, on logarithmic axes of their sizes."""

from collections.abc import Mapping
from typing import Any, Final

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechgrok.plots._circuit import METHODS, circuit_of, facts
from mechgrok.plots._style import BLACK, PALETTE, entitle
from mechgrok.runs.run import Run
from mechgrok.runs.saved_circuit import SavedCircuit

NEEDS: Final = ()
"""A circuit is saved by `mg.circuit`, not by a measure."""
TITLE: Final = "Approximate against exact edge effects"
LEAST: Final = 1e-4
"""Effects below this share of the largest are not drawn."""


def plot(subject: Run | SavedCircuit) -> go.Figure:
    """One point per edge and operand; crosses have the wrong sign, the line is equality."""
    found = circuit_of(subject)
    names = [name for name in ("eap", "eap_ig") if name in next(iter(found.scores.values()))]
    titles = [f"{METHODS[name]}: {_said(found, name)}" for name in names]
    figure = make_subplots(
        rows=1, cols=len(names), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.05
    )
    largest = max(abs(x) for methods in found.scores.values() for x in methods["exact"])
    kinds = list(dict.fromkeys(edge["kind"] for edge in found.edges))
    left = 0
    for col, name in enumerate(names, start=1):
        for kind, colour in zip(kinds, PALETTE * 2, strict=False):
            left += _points(figure, found, name, kind, colour, LEAST * largest, col)
        ends = [LEAST * largest, 2 * largest]
        line = {"color": BLACK, "width": 1, "dash": "dot"}
        figure.add_scatter(
            x=ends, y=ends, mode="lines", line=line, showlegend=False, col=col, row=1
        )
        axis = {"type": "log", "exponentformat": "power", "dtick": 1}
        figure.update_xaxes(title="size of the exact effect", **axis, row=1, col=col)
        figure.update_yaxes(**axis, row=1, col=col)
    figure.update_yaxes(title="size of the score", row=1, col=1)
    figure.update_layout(legend={"orientation": "h", "y": -0.17})
    note = (
        f"both in units of {found.metric}; crosses: wrong sign; {left} points below {LEAST:g} of "
        f"the largest effect are not drawn"
    )
    return entitle(figure, TITLE, facts(found), note, height=560)


def _said(found: SavedCircuit, method: str) -> str:
    rows = [r for r in found.errors if r["method"] == method and r["metric"] == found.metric]
    ranks = [r["rank_correlation"] for r in rows]
    shown = ", ".join("none" if x is None else f"{x:.2f}" for x in ranks)
    return f"rank correlation {shown} ({', '.join(r['operand'] for r in rows)})"


def _points(
    figure: go.Figure,
    found: SavedCircuit,
    method: str,
    kind: str,
    colour: str,
    least: float,
    col: int,
) -> int:
    """Draw one kind of edge; returns how many points are too small to draw."""
    shown: list[Mapping[str, Any]] = []
    left = 0
    for operand, scores in found.scores.items():
        for i, edge in enumerate(found.edges):
            exact, score = scores["exact"][i], scores[method][i]
            if edge["kind"] != kind:
                continue
            if min(abs(exact), abs(score)) < least:
                left += 1
                continue
            name = f"{edge['name']}, operand {operand}: exact {exact:+.3g}, score {score:+.3g}"
            symbol = "circle" if exact * score > 0 else "x"
            shown.append({"x": abs(exact), "y": abs(score), "text": name, "symbol": symbol})
    if shown:
        figure.add_scatter(
            x=[p["x"] for p in shown],
            y=[p["y"] for p in shown],
            text=[p["text"] for p in shown],
            mode="markers",
            marker={"color": colour, "size": 7, "symbol": [p["symbol"] for p in shown]},
            name=kind.replace(">", "→"),
            legendgroup=kind,
            showlegend=col == 1,
            hovertemplate="%{text}<extra></extra>",
            row=1,
            col=col,
        )
    return left
