"""Which frequencies each head's attention scores and its map to the neurons are made of.

As section 4.1 and appendix C of Nanda et al. 2023 (arXiv 2301.05217): one or two per head.
"""

from collections.abc import Mapping
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
)
from mechgrok.runs.run import Run

NEEDS: Final = ("attention_spectra", "key_frequencies")
TITLE: Final = "Heads by frequency"
MAPS: Final = {
    "C": "attention scores C<sub>j</sub>",
    "W_neur": "map to the neurons W<sub>neur</sub>",
}


def plot(run: Run) -> go.Figure:
    """Share of power (0..1) per head and frequency, the constant left out."""
    saved = run.result("attention_spectra")
    reason = absence(saved)
    if reason is not None:
        return sentence(TITLE, run, reason)
    keys = keys_of(run, saved.step)
    kinds = {kind: _table(saved.arrays, kind) for kind in MAPS}
    shown = {kind: table for kind, table in kinds.items() if len(table)}
    heads, freqs = kinds["C"].shape
    figure = make_subplots(
        rows=len(shown),
        cols=1,
        shared_xaxes=True,
        subplot_titles=[MAPS[kind] for kind in shown],
        vertical_spacing=0.16,
    )
    for row, (kind, table) in enumerate(shown.items(), start=1):
        figure.add_heatmap(
            x=np.arange(1, freqs + 1),
            y=[f"L0H{head}" for head in range(heads)],
            z=table.astype(np.float32),
            coloraxis="coloraxis",
            ygap=2,
            hovertemplate=f"%{{y}}, frequency %{{x}}: %{{z:.4f}}<extra>{kind}</extra>",
            row=row,
            col=1,
        )
    figure.update_xaxes(showgrid=False, **frequency_ticks(freqs, keys), showticklabels=True)
    figure.update_xaxes(title="frequency", row=len(shown), col=1)
    figure.update_yaxes(autorange="reversed", ticks="", showgrid=False)
    bar = {"title": "share<br>of power"}
    figure.update_layout(coloraxis={"colorscale": POSITIVE, "cmin": 0, "cmax": 1, "colorbar": bar})
    height = 190 + len(shown) * (70 + 34 * heads)
    return dress(figure, TITLE, run, saved.step, note=spelled(keys), height=height)


def _table(arrays: Mapping[str, np.ndarray], kind: str) -> np.ndarray:
    """Heads by frequencies; no row where the model has no such map."""
    prefix = f"power_shares_{kind}_"
    heads = sorted((n for n in arrays if n.startswith(prefix)), key=lambda n: int(n[len(prefix) :]))
    return np.stack([arrays[n] for n in heads]) if heads else np.empty((0, 0))
