"""Heat maps of stage by position, of two-hop measures."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechgrok.plots._style import POSITIVE, SIGNED, listed
from mechgrok.runs.result import Result


def stage_maps(
    result: Result, tables: Mapping[str, np.ndarray], signed: Sequence[str] = ()
) -> go.Figure:
    """One map per title, in order, first stage on top; `signed` ones are centred at 0.

    Maps without a sign share one scale of 0..1, those with a sign another.
    """
    stages = listed(result, "stages")
    positions = [html.escape(name) for name in listed(result, "positions")]  # </a> is no tag
    figure = make_subplots(
        rows=1,
        cols=len(tables),
        shared_yaxes=True,
        subplot_titles=list(tables),
        horizontal_spacing=0.03,
    )
    most = max([float(np.abs(tables[name]).max()) for name in signed] or [0.0]) or 1.0
    for col, (title, table) in enumerate(tables.items(), start=1):
        scale: dict[str, Any] = {"colorscale": POSITIVE, "zmin": 0, "zmax": 1}
        if title in signed:
            scale = {"colorscale": SIGNED, "zmid": 0, "zmin": -most, "zmax": most}
        # the numbers are written in the cells: one scale is enough
        shown = title == ([*signed] or list(tables))[-1]
        figure.add_heatmap(
            x=positions[: table.shape[1]],
            y=stages,
            z=table,
            **scale,
            showscale=shown,
            colorbar={"thickness": 12},
            texttemplate="%{z:.2f}",
            xgap=1,
            ygap=1,
            hovertemplate="%{y} at %{x}: %{z:.4f}<extra></extra>",
            row=1,
            col=col,
        )
    figure.update_annotations(font_size=12)  # the maps' titles stand close beside each other
    figure.update_xaxes(ticks="", showline=False, type="category", tickangle=0, tickfont_size=10)
    figure.update_yaxes(autorange="reversed", ticks="", showline=False, type="category")
    return figure


def height(result: Result) -> int:
    """Of a figure with one row of maps."""
    return 200 + 30 * len(listed(result, "stages"))
