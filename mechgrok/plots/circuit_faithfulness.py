"""How much of the metric the strongest edges keep, by how many there are and who ranked them."""

from typing import Final

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechgrok.plots._circuit import METHODS, circuit_of, facts
from mechgrok.plots._style import BLACK, BLUE, GREEN, GREY, ORANGE, VERMILION, entitle
from mechgrok.runs.run import Run
from mechgrok.runs.saved_circuit import SavedCircuit

NEEDS: Final = ()
"""A circuit is saved by `mg.circuit`, not by a measure."""
TITLE: Final = "Faithfulness of circuits by size"
DASHES: Final = {"exact": "solid", "eap": "dash", "eap_ig": "dot"}
COLOURS: Final = {"exact": BLUE, "eap": VERMILION, "eap_ig": GREEN}
CONTROLS: Final = {
    "uniform": ("random edges", GREY),
    "matched": ("random, as many per kind", ORANGE),
}


def plot(subject: Run | SavedCircuit) -> go.Figure:
    """A panel per operand: curves over sizes, the circuit, and random circuits of its size."""
    found = circuit_of(subject)
    operands = list(found.scores)
    titles = [f"operand {name} corrupted" for name in operands]
    figure = make_subplots(
        rows=1,
        cols=len(operands),
        shared_yaxes=True,
        subplot_titles=titles,
        horizontal_spacing=0.04,
    )
    for col, operand in enumerate(operands, start=1):
        for method, colour in COLOURS.items():
            points = [r for r in found.curve if (r["method"], r["operand"]) == (method, operand)]
            figure.add_scatter(
                x=[r["size"] for r in points],
                y=[r["faithfulness"] for r in points],
                mode="lines+markers",
                line={"color": colour, "width": 2, "dash": DASHES[method]},
                marker={"size": 6},
                name=f"strongest by {METHODS[method]}",
                legendgroup=method,
                showlegend=col == 1,
                row=1,
                col=col,
            )
        _circuit(figure, found, operand, col)
        figure.update_xaxes(title="edges", row=1, col=col)
    figure.update_yaxes(title="faithfulness (1: whole model)", row=1, col=1)
    figure.update_layout(legend={"orientation": "h", "y": -0.17})
    draws = [len(x) for row in found.judged.values() for x in row["random"].values()]
    note = f"random circuits: {min(draws, default=0)} of each make per operand; not clipped"
    return entitle(figure, TITLE, facts(found), note, height=520)


def _circuit(figure: go.Figure, found: SavedCircuit, operand: str, col: int) -> None:
    """The circuit and its random controls."""
    if operand not in found.judged:
        return
    own = found.judged[operand]
    for control, (name, colour) in CONTROLS.items():
        draws = own["random"].get(control, ())
        aside = 0.8 if control == "matched" else -0.8
        figure.add_scatter(
            x=[own["size"] + aside] * len(draws),
            y=list(draws),
            mode="markers",
            marker={"color": colour, "size": 6, "symbol": "circle-open", "line": {"width": 1.5}},
            name=name,
            legendgroup=control,
            showlegend=col == 1,
            row=1,
            col=col,
        )
    figure.add_scatter(
        x=[own["size"]],
        y=[own["faithfulness"]],
        mode="markers",
        marker={"color": BLACK, "size": 12, "symbol": "star"},
        name="the circuit (greedy)",
        legendgroup="circuit",
        showlegend=col == 1,
        row=1,
        col=col,
    )
