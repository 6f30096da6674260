"""Accuracies of every run over steps, one panel per value of a setting."""

import math
from collections.abc import Sequence
from typing import Final

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechgrok.plots._style import TEST, TRAIN, entitle, evaluations
from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError
from mechgrok.runs.table import settings

NEEDS: Final = ()
"""Only metrics.jsonl is read."""
COLUMNS: Final = 3
POINTS: Final = 250
"""Most points of a curve; between them evaluations are skipped, never the last."""


def plot(runs: Sequence[Run], by: str) -> go.Figure:
    """One pair of curves per run; panels in order of the values. Raises RunError for no runs."""
    if not runs:
        raise RunError("got no runs to draw; expected at least one, such as mg.sweep(...) returns")
    values = sorted({settings(run).get(by) for run in runs}, key=_order)
    rows = math.ceil(len(values) / COLUMNS)
    columns = min(COLUMNS, len(values))
    counts = [sum(settings(run).get(by) == value for run in runs) for value in values]
    titles = [f"{value} (n = {n})" for value, n in zip(values, counts, strict=True)]
    figure = make_subplots(
        rows=rows, cols=columns, subplot_titles=titles, shared_xaxes=True, shared_yaxes=True,
        vertical_spacing=0.12 if rows < 4 else 0.06, horizontal_spacing=0.03,
    )  # fmt: skip
    for run in runs:
        place = values.index(settings(run).get(by))
        _draw(figure, run, place // columns + 1, place % columns + 1)
    figure.update_yaxes(range=[-0.03, 1.03])
    figure.update_yaxes(title="accuracy (fraction)", col=1)
    figure.update_xaxes(matches="x")
    figure.update_xaxes(title="step", row=rows)
    figure.update_layout(showlegend=True)
    _legend_once(figure)
    facts = f"n = {len(runs)} runs, every run drawn"
    entitle(figure, f"Accuracy by {by}", facts, height=170 + 210 * rows)
    return figure.update_layout(margin_t=120)  # room for the panels' own titles


def _draw(figure: go.Figure, run: Run, row: int, column: int) -> None:
    found = evaluations(run)
    every = math.ceil(len(found["step"]) / POINTS)
    kept = [i for i in range(len(found["step"])) if i % every == 0 or i == len(found["step"]) - 1]
    for split, colour in (("train", TRAIN), ("test", TEST)):
        if f"{split}_acc" not in found:
            continue
        figure.add_scatter(
            x=[found["step"][i] for i in kept],
            y=[found[f"{split}_acc"][i] for i in kept],
            name=split,
            legendgroup=split,
            mode="lines",
            line={"color": colour, "width": 1.2},
            opacity=0.6,
            hovertemplate=f"{run.name}<br>step %{{x}}: %{{y:.3f}}<extra>{split}</extra>",
            row=row,
            col=column,
        )


def _legend_once(figure: go.Figure) -> None:
    seen: set[str] = set()
    for trace in figure.data:
        trace.showlegend = trace.name not in seen
        seen.add(trace.name)


def _order(value: object) -> tuple[bool, object]:
    """Numbers by size, then the rest by name."""
    number = isinstance(value, int | float)
    return (not number, value if number else str(value))
