"""Curves of several runs, over steps or around a moment of each run."""

from typing import Final

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechgrok.plots._style import PALETTE, entitle
from mechgrok.plots.series import LOSS, axis
from mechgrok.runs.series_set import SeriesSet

NEEDS: Final = ()
"""A SeriesSet carries its values."""


def plot(curves: SeriesSet) -> go.Figure:
    """One panel per curve's name, one line per run; runs left out are named in the subtitle."""
    names = list(curves.series[0].curves)
    figure = make_subplots(rows=len(names), cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for row, name in enumerate(names, start=1):
        for i, series in enumerate(curves.series):
            points = series[name]
            figure.add_scatter(
                x=[step for step, _ in points],
                y=[value for _, value in points],
                name=series.run,
                legendgroup=series.run,
                showlegend=row == 1,
                mode="lines",
                line={"color": PALETTE[i % len(PALETTE)], "width": 1.3},
                opacity=0.8,
                row=row,
                col=1,
            )
        figure.update_yaxes(title=name, row=row, col=1)
        if axis(name) == LOSS:
            figure.update_yaxes(type="log", exponentformat="power", row=row, col=1)
    if curves.moment is not None:
        figure.add_vline(x=0, line={"color": "#444", "dash": "dot", "width": 1})
    when = "step" if curves.moment is None else f"steps from {curves.moment}"
    figure.update_xaxes(title=when, row=len(names), col=1)
    facts = f"n = {len(curves)} runs, every run drawn"
    left = ", ".join(curves.left_out or {})
    note = f"left out, not {curves.moment}: {left}" if left else ""
    title = ", ".join(names) + ("" if curves.moment is None else f" around {curves.moment}")
    return entitle(figure, title, facts, note, height=200 + 220 * len(names))
