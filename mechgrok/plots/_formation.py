"""Panels of the published figures: bridge found, answers and training accuracy over steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import plotly.graph_objects as go

from mechgrok.plots._style import BLUE, GREEN, GREY, PURPLE, SKY, VERMILION, by_step, curve
from mechgrok.runs.run import Run

MARKERS: Final = 30
"""Most markers of a curve, spread over it."""


@dataclass(frozen=True)
class Curve:
    """How one curve is read and drawn."""

    name: str
    measure: str
    value: str
    """With `{kind}` for the kind of query."""
    colour: str
    symbol: str | None = None
    dash: str = "solid"


BRIDGE: Final = Curve("bridge found", "bridge_lens", "{kind}_bridge_found", BLUE, "circle")
NOT_TRIVIAL: Final = Curve(
    "the same, b neither h nor t",
    "bridge_lens",
    "{kind}_bridge_found_not_trivial",
    SKY,
    dash="dash",
)
CHANCE: Final = Curve(
    "its control: other queries' bridges", "bridge_lens", "{kind}_control", GREY, dash="dot"
)
FORMATION: Final = (
    BRIDGE,
    Curve("target found", "bridge_lens", "{kind}_target_found", VERMILION, "square"),
    Curve("training accuracy", "two_hop_cells", "training_accuracy", GREEN, "triangle-up"),
    Curve("exact match", "bridge_lens", "{kind}_exact_match", PURPLE, dash="dash"),
    NOT_TRIVIAL,
    CHANCE,
)
"""The first three as published."""
FINETUNING: Final = (
    BRIDGE,
    Curve("exact match", "two_hop_cells", "{kind}_exact_match", VERMILION, "square"),
    Curve("new facts", "two_hop_cells", "atomic_new_exact_match", GREEN, "triangle-up"),
    NOT_TRIVIAL,
    CHANCE,
)
"""The first three as published."""


def several(runs: Run | Sequence[Run]) -> list[Run]:
    """One run or more, as a list."""
    return [runs] if isinstance(runs, Run) else list(runs)


def panel(
    figure: go.Figure, run: Run, kind: str, curves: Sequence[Curve], row: int, col: int
) -> None:
    """Every curve of one run and kind; a panel without this kind says so."""
    saved = {name: by_step(run, name) for name in {one.measure for one in curves}}
    points = [curve(saved[one.measure], one.value.format(kind=kind)) for one in curves]
    if not any(steps for one, (steps, _) in zip(curves, points, strict=True) if "{" in one.value):
        centre = {"x": 0.5, "y": 0.5, "xref": "x domain", "yref": "y domain"}
        figure.add_annotation(text=f"no {kind}", showarrow=False, **centre, row=row, col=col)
    for one, (steps, values) in zip(curves, points, strict=True):
        traces: Any = figure.data
        drawn = any(t.name == one.name and t.showlegend for t in traces)
        marked = {"symbol": one.symbol, "size": 6, "maxdisplayed": MARKERS}
        figure.add_scatter(
            x=steps,
            y=values,
            name=one.name,
            legendgroup=one.name,
            showlegend=not drawn and bool(steps),
            mode="lines+markers" if one.symbol else "lines",
            line={"color": one.colour, "dash": one.dash, "width": 1.6},
            marker=marked if one.symbol else None,
            hovertemplate=f"{run.name}, {kind}<br>step %{{x}}: %{{y:.3f}}<extra>{one.name}</extra>",
            row=row,
            col=col,
        )


def frame(figure: go.Figure, rows: int) -> None:
    """Axes of rates, and one legend above the panels."""
    figure.update_yaxes(range=[0, 1.05])
    figure.update_yaxes(title="fraction", col=1)
    figure.update_xaxes(title="step", row=rows)
    figure.update_layout(legend={"orientation": "h", "y": -0.28 / rows, "x": 0})
