"""Mean attention from the answer position per head, and its standard deviation over inputs.

Read both: a uniform mean does not show uniform attention.
"""

from typing import Final

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechgrok.plots._style import absence, dress, sentence
from mechgrok.runs.run import Run

NEEDS: Final = ("mean_attention",)
TITLE: Final = "Attention from the answer position"
POSITIONS: Final = ("a", "b", "=")


def plot(run: Run) -> go.Figure:
    """Heat maps of head by source position: mean (0..1) and standard deviation over inputs."""
    saved = run.result("mean_attention")
    reason = absence(saved)
    if reason is not None:
        return sentence(TITLE, run, reason)
    mean, std = saved.arrays["mean"], saved.arrays["std"]
    layers, heads, sources = mean.shape
    names = [f"L{layer}H{head}" for layer in range(layers) for head in range(heads)]
    labels = [POSITIONS[i] if sources == len(POSITIONS) else str(i) for i in range(sources)]
    titles = ["mean over inputs", "standard deviation over inputs"]
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, subplot_titles=titles)
    for col, table in enumerate((mean, std), start=1):
        _map(figure, table.reshape(layers * heads, sources), names, labels, col)
    figure.update_xaxes(title="source position", tickangle=0, ticks="", showline=False)
    figure.update_yaxes(autorange="reversed", ticks="", showline=False)
    figure.update_layout(coloraxis={"colorscale": "Blues", "cmin": 0, "cmax": 1})
    note = saved.definition["split"]
    return dress(figure, TITLE, run, saved.step, note=note, height=230 + 36 * len(names))


def _map(
    figure: go.Figure, table: np.ndarray, rows: list[str], columns: list[str], col: int
) -> None:
    figure.add_heatmap(
        x=columns,
        y=rows,
        z=table,
        coloraxis="coloraxis",
        texttemplate="%{z:.2f}",
        xgap=2,
        ygap=2,
        hovertemplate="%{y} to %{x}: %{z:.4f}<extra></extra>",
        row=1,
        col=col,
    )
