"""Tokens in the plane of each key frequency, where a grokked embedding is a circle.

Nanda et al. 2023 (arXiv 2301.05217), section 4.1. The whole embedding is projected, so what else
lies in the plane blurs the circle.
"""

import math
from typing import Final

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechgrok.plots._style import absence, dress, listed, sentence, square
from mechgrok.runs.result import Result
from mechgrok.runs.run import Run

NEEDS: Final = ("embedding_circles",)
TITLE: Final = "Embedding in the planes of its key frequencies"
COLUMNS: Final = 4
CYCLIC: Final = "Twilight"
"""Colour scale whose ends meet, as phases do."""


def plot(run: Run) -> go.Figure:
    """A point per token a, coloured by a * k mod p: on a circle the colours follow one another."""
    saved = run.result("embedding_circles")
    reason = absence(saved)
    if reason is not None:
        return sentence(TITLE, run, reason)
    keys = [int(k) for k in listed(saved, "keys")]
    rows, cols = math.ceil(len(keys) / COLUMNS), min(COLUMNS, len(keys))
    figure = make_subplots(
        rows=rows,
        cols=cols,
        subplot_titles=[_words(saved, k) for k in keys],
        horizontal_spacing=0.06,
        vertical_spacing=0.3 / (rows + 1),
    )
    for i, k in enumerate(keys):
        _circle(figure, saved.arrays[f"points_{k}"], k, row=i // cols + 1, col=i % cols + 1)
    figure.update_annotations(font_size=12)
    figure.update_xaxes(title="along cos")
    figure.update_yaxes(title="along sin", col=1)
    p = len(saved.arrays[f"points_{keys[0]}"])
    bar = {"title": f"a·k mod {p}", "thickness": 14}
    scale = {"colorscale": CYCLIC, "cmin": 0, "cmax": p, "colorbar": bar}
    figure.update_layout(coloraxis=scale, showlegend=False)
    note = "share: of the plane's variance at its own frequency; round: 1 a circle, 0 a line"
    dress(figure, TITLE, run, saved.step, note=note, height=180 + 240 * rows)
    return figure.update_layout(margin_t=140)  # room for titles of two lines


def _words(saved: Result, k: int) -> str:
    return f"frequency {k}<br>share {saved[f'share_{k}']:.3f}, round {saved[f'roundness_{k}']:.2f}"


def _circle(figure: go.Figure, points: np.ndarray, k: int, row: int, col: int) -> None:
    p = len(points)
    tokens = np.arange(p)
    figure.add_scatter(
        x=points[:, 0],
        y=points[:, 1],
        mode="markers",
        marker={
            "color": tokens * k % p,
            "coloraxis": "coloraxis",
            "size": 7,
            "line": {"width": 0.7, "color": "#555"},
        },
        text=[f"a = {a}, a·k mod p = {a * k % p}" for a in tokens.tolist()],
        hovertemplate="%{text}<extra></extra>",
        name=f"frequency {k}",
        row=row,
        col=col,
    )
    reach = 1.12 * float(np.abs(points).max())
    square(figure, row, col)
    figure.update_xaxes(range=[-reach, reach], row=row, col=col)
    figure.update_yaxes(range=[-reach, reach], row=row, col=col)
