"""Singular values of the embedding against Gaussian matrices of its shape and norm."""

from typing import Final

import numpy as np
import plotly.graph_objects as go

from mechgrok.plots._style import BLUE, GREY, absence, dress, sentence
from mechgrok.runs.run import Run

NEEDS: Final = ("embedding_rank",)
TITLE: Final = "Singular values of the embedding"


def plot(run: Run) -> go.Figure:
    """Singular values, largest first; every control draw lies in the grey band."""
    saved = run.result("embedding_rank")
    reason = absence(saved)
    if reason is not None:
        return sentence(TITLE, run, reason)
    singular, controls = saved.arrays["singular"], saved.arrays["control_singular"]
    order = np.arange(1, len(singular) + 1)
    figure = go.Figure()
    figure.add_scatter(
        x=np.concatenate([order, order[::-1]]),
        y=np.concatenate([controls.max(axis=0), controls.min(axis=0)[::-1]]),
        fill="toself",
        mode="lines",
        line={"color": GREY, "width": 1},
        name=f"{len(controls)} Gaussian matrices, least to largest",
        hoverinfo="skip",
    )
    line = {"color": BLUE, "width": 2}
    figure.add_scatter(
        x=order, y=singular, mode="lines+markers", line=line, marker={"size": 4}, name="W_E"
    )
    figure.update_xaxes(title="index, largest first")
    figure.update_yaxes(title="singular value", rangemode="tozero")
    figure.update_layout(legend={"x": 1, "xanchor": "right", "y": 1})
    words = [
        f"{name.replace('_', ' ')} {saved[name]:.1f} (control {saved[f'control_{name}']:.1f})"
        for name in ("participation_ratio", "effective_rank")
    ]
    return dress(figure, TITLE, run, saved.step, note="; ".join(words), height=440)
