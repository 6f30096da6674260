"""Fourier spectra of embedding, unembedding and neuron-logit map, and W_E's over training.

As figures 3 and 7 of Nanda et al. 2023 (arXiv 2301.05217): a few frequencies hold the power.
"""

from typing import Final

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechgrok.plots._style import (
    KEY,
    NOT_KEY,
    POSITIVE,
    absence,
    by_step,
    dress,
    keys_of,
    sentence,
    spelled,
)
from mechgrok.runs.result import Result
from mechgrok.runs.run import Run

NEEDS: Final = ("spectra", "key_frequencies")
MATRICES: Final = {"W_E": "embedding W_E", "W_U": "unembedding W_U", "W_L": "neuron-logit map W_L"}
TITLE: Final = "Fourier spectra of the weights"


def plot(run: Run) -> go.Figure:
    """Power share per frequency of the last checkpoint, above W_E's at every saved step."""
    saved = by_step(run, "spectra")
    last = saved[-1]
    reason = absence(last)
    if reason is not None:
        return sentence(TITLE, run, reason)
    keys = keys_of(run, last.step)
    figure = make_subplots(
        rows=2,
        cols=3,
        specs=[[{}, {}, {}], [{"colspan": 3}, None, None]],
        subplot_titles=[*MATRICES.values(), "embedding W_E over training"],
        vertical_spacing=0.17,
        horizontal_spacing=0.06,
    )
    for col, name in enumerate(MATRICES, start=1):
        _bars(figure, last, name, keys, col)
    _map(figure, [result for result in saved if absence(result) is None])
    figure.update_yaxes(title="share of power", row=1, col=1)
    figure.update_yaxes(title="frequency", row=2, col=1)
    figure.update_xaxes(title="step", row=2, col=1)
    figure.update_layout(bargap=0.15, legend={"orientation": "h", "y": -0.12})
    return dress(figure, TITLE, run, last.step, note=spelled(keys), height=720)


def _bars(figure: go.Figure, result: Result, name: str, keys: tuple[int, ...], col: int) -> None:
    shares = result.arrays.get(f"power_shares_{name}")
    if shares is None:
        # in paper coordinates, because axes without a trace are not laid out
        place = {"xref": "paper", "yref": "paper", "x": (2 * col - 1) / 6, "y": 0.8}
        figure.add_annotation(text="not in this model", showarrow=False, **place)
        figure.update_xaxes(visible=False, row=1, col=col)
        figure.update_yaxes(visible=False, row=1, col=col)
        return
    freqs = np.arange(1, len(shares) + 1)
    is_key = np.isin(freqs, keys)
    for chosen, colour, label in ((is_key, KEY, "key"), (~is_key, NOT_KEY, "not key")):
        figure.add_bar(
            x=freqs[chosen],
            y=shares[chosen],
            marker={"color": colour},
            width=0.85,
            name=f"{label} frequency",
            legendgroup=label,
            showlegend=col == 1,
            hovertemplate=f"{name} frequency %{{x}}: %{{y:.4f}}<extra></extra>",
            row=1,
            col=col,
        )
    figure.update_xaxes(title="frequency", row=1, col=col)


def _map(figure: go.Figure, results: list[Result]) -> None:
    shares = np.stack([result.arrays["power_shares_W_E"] for result in results], axis=1)
    figure.add_heatmap(
        x=[result.step for result in results],
        y=np.arange(1, len(shares) + 1),
        z=shares.astype(np.float32),
        colorscale=POSITIVE,
        zmin=0,
        colorbar={"title": "share<br>of power", "len": 0.42, "y": 0.2},
        hovertemplate="step %{x}, frequency %{y}: %{z:.4f}<extra></extra>",
        row=2,
        col=1,
    )
