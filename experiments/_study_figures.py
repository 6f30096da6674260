"""Layout that the figures of both studies share."""

from typing import Any

import plotly.graph_objects as go


def high(figure: go.Figure) -> go.Figure:
    """The title at the top and the panels' own titles below it, however high the figure is."""
    layout: Any = figure.layout
    return figure.update_layout(title_y=1 - 12 / layout.height, margin_t=125)


def under(figure: go.Figure) -> go.Figure:
    """The same, with the legend below the panels."""
    legend = {"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"}
    return high(figure).update_layout(showlegend=True, legend=legend, margin_b=100)
