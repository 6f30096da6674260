"""2-D Fourier spectra over a and b: logits, neurons and each head's attention to a.

As figure 4 of Nanda et al. 2023 (arXiv 2301.05217): a few products of one frequency with itself.
"""

import math
from typing import Final

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechgrok.plots._style import (
    POSITIVE,
    absence,
    dress,
    frequency_ticks,
    keys_of,
    sentence,
    spelled,
    square,
)
from mechgrok.runs.run import Run

NEEDS: Final = ("spectra_2d", "key_frequencies")
TITLE: Final = "2-D Fourier spectra"
PREFIX: Final = "norms_"
COLUMNS: Final = 3
DECADES: Final = 3
"""Orders of magnitude below a panel's largest norm that its colours tell apart."""


def plot(run: Run) -> go.Figure:
    """Norm of every component of a (down) and b (across), relative to the panel's largest."""
    saved = run.result("spectra_2d")
    reason = absence(saved)
    if reason is not None:
        return sentence(TITLE, run, reason)
    keys = keys_of(run, saved.step)
    found = {n.removeprefix(PREFIX): x for n, x in saved.arrays.items() if n.startswith(PREFIX)}
    tables = {n: found[n] for n in sorted(found, key=lambda n: (n.startswith("attention"), n))}
    rows = math.ceil(len(tables) / COLUMNS)
    figure = make_subplots(
        rows=rows,
        cols=COLUMNS,
        subplot_titles=[_words(name) for name in tables],
        horizontal_spacing=0.07,
        vertical_spacing=0.26 / (rows + 1),
    )
    for i, (name, norms) in enumerate(tables.items()):
        _map(figure, name, norms, keys, row=i // COLUMNS + 1, col=i % COLUMNS + 1)
    bar = {"title": "norm over<br>the largest", "tickvals": list(range(-DECADES, 1))}
    bar["ticktext"] = [f"≤ 10<sup>-{DECADES}</sup>", "0.01", "0.1", "1"]
    scale = {"colorscale": POSITIVE, "cmin": -DECADES, "cmax": 0, "colorbar": bar}
    figure.update_layout(coloraxis=scale)
    centring = saved.definition["centring"]
    note = f"{spelled(keys)} at the ticks (cos, then sin)<br>{centring}"
    return dress(figure, TITLE, run, saved.step, note=note, height=150 + 320 * rows)


def _words(name: str) -> str:
    return name.replace("attention_", "attention to a, ")


def _map(
    figure: go.Figure, name: str, norms: np.ndarray, keys: tuple[int, ...], row: int, col: int
) -> None:
    largest = norms.max() or 1.0
    relative = np.log10(np.maximum(norms / largest, 10.0**-DECADES))  # colours end there
    names = _components(len(norms))  # of categories, counted from 0 as the ticks are
    figure.add_heatmap(
        z=relative.astype(np.float32),
        coloraxis="coloraxis",
        x=names,
        y=names,
        hovertemplate=f"{_words(name)}<br>%{{y}} (a) x %{{x}} (b): "
        "10<sup>%{z:.2f}</sup> of the largest<extra></extra>",
        row=row,
        col=col,
    )
    ticks = frequency_ticks(len(norms) // 2, keys, components=True)
    plain = {"ticks": "outside", "showgrid": False, **ticks}
    square(figure, row, col)
    figure.update_xaxes(title="frequency of b", **plain, row=row, col=col)
    title = "frequency of a" if col == 1 else None
    figure.update_yaxes(title=title, autorange="reversed", **plain, row=row, col=col)


def _components(n: int) -> list[str]:
    """const, cos 1, sin 1, ..."""
    waves = [f"{wave} {k}" for k in range(1, n // 2 + 1) for wave in ("cos", "sin")]
    return ["const", *waves][:n]
