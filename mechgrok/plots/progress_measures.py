"""Restricted and excluded loss beside train and test loss, with Gini and sum of squared weights.

As figure 7 of Nanda et al. 2023 (arXiv 2301.05217): the circuit forms long before test loss falls.
"""

from typing import Final

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechgrok.plots._phases import log_switch, shade
from mechgrok.plots._style import (
    BLACK,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    TEST,
    TRAIN,
    absence,
    by_step,
    curve,
    dress,
    evaluations,
)
from mechgrok.runs.run import Run

NEEDS: Final = ("restricted_loss", "excluded_loss", "gini", "weight_norm")
"""`phases` is shaded when it is saved."""
LOSSES: Final = (
    ("restricted_loss", "all", "restricted loss, all pairs", GREEN),
    ("excluded_loss", "train", "excluded loss, train", PURPLE),
)
GINIS: Final = (("W_E", "Gini of W_E", BLACK), ("W_L", "Gini of W_L", SKY))


def plot(run: Run) -> go.Figure:
    """Losses (nats), Gini coefficients (0..1) and sum of squared weights over steps."""
    figure = make_subplots(
        rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.05, row_heights=[0.5, 0.25, 0.25]
    )
    columns = evaluations(run)
    for split, colour in (("train", TRAIN), ("test", TEST)):
        line = {"color": colour, "width": 1.5, "dash": "dot"}
        points = {"x": columns["step"], "y": columns[f"{split}_loss"]}
        figure.add_scatter(**points, name=f"{split} loss", line=line, row=1, col=1)
    notes = [_loss(figure, run, *which) for which in LOSSES]
    gini, norm = by_step(run, "gini"), by_step(run, "weight_norm")
    for value, name, colour in GINIS:
        _line(figure, *curve(gini, value), name, colour, row=2)
    _line(figure, *curve(norm, "total"), "sum of squared weights", ORANGE, row=3)
    notes.append(shade(figure, run))
    figure.update_yaxes(type="log", exponentformat="power", title="loss (nats)", row=1, col=1)
    figure.update_yaxes(title="Gini (0..1)", row=2, col=1)
    figure.update_yaxes(title="sum of squares", rangemode="tozero", row=3, col=1)
    figure.update_xaxes(title="step", row=3, col=1)
    log_switch(figure)
    figure.update_layout(hovermode="x unified")
    note = "<br>".join(note for note in notes if note)
    return dress(figure, "Progress measures", run, note=note, height=760)


def _loss(figure: go.Figure, run: Run, measure: str, value: str, name: str, colour: str) -> str:
    """Draw one loss; returns its operator, or why it has no value."""
    saved = by_step(run, measure)
    reason = absence(saved[-1])
    if reason is not None:
        return f"{measure} does not apply: {reason}"
    _line(figure, *curve(saved, value), name, colour, row=1)
    return f"{name}: {saved[-1].definition['operator']}"


def _line(
    figure: go.Figure, steps: list[int], values: list[float], name: str, colour: str, row: int
) -> None:
    line = {"color": colour, "width": 2}
    marker = {"size": 4}
    figure.add_scatter(
        x=steps, y=values, name=name, mode="lines+markers", line=line, marker=marker, row=row, col=1
    )
