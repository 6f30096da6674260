"""How much of each neuron one frequency explains, and how many neurons each frequency holds.

As section 4.2 of Nanda et al. 2023 (arXiv 2301.05217).
"""

from typing import Final

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechgrok.plots._style import BLUE, KEY, NOT_KEY, absence, dress, keys_of, sentence, spelled
from mechgrok.runs.run import Run

NEEDS: Final = ("neuron_clusters", "key_frequencies")
TITLE: Final = "Neurons and frequencies"
BIN: Final = 0.05


def plot(run: Run) -> go.Figure:
    """Histogram of the explained fraction of live neurons; neurons per frequency's cluster."""
    saved = run.result("neuron_clusters")
    reason = absence(saved)
    if reason is not None:
        return sentence(TITLE, run, reason)
    keys = keys_of(run, saved.step)
    live = ~saved.arrays["dead"].astype(bool)
    fraction, cluster = saved.arrays["fraction"][live], saved.arrays["cluster"][live]
    figure = make_subplots(
        rows=1, cols=2, subplot_titles=["fraction explained", "neurons per cluster"]
    )
    _fractions(figure, fraction, cluster > 0)
    _sizes(figure, cluster[cluster > 0], keys)
    figure.update_xaxes(
        title="share of variance in its best frequency", range=[0, 1.02], row=1, col=1
    )
    figure.update_yaxes(title="live neurons", row=1, col=1)
    figure.update_xaxes(title="frequency", type="category", row=1, col=2)
    figure.update_yaxes(title="neurons", row=1, col=2)
    figure.update_layout(barmode="stack", legend={"orientation": "h", "y": -0.22})
    dead = int((~live).sum())
    note = f"{spelled(keys)}; cluster: {saved.definition['selection']} ({dead} dead of {len(live)})"
    return dress(figure, TITLE, run, saved.step, note=note, height=460)


def _fractions(figure: go.Figure, fraction: np.ndarray, inside: np.ndarray) -> None:
    """Histogram drawn as bars, so that the figure holds counts and not a copy of the neurons."""
    edges = np.linspace(0, 1, round(1 / BIN) + 1)
    for chosen, name, colour in (
        (inside, "in a cluster", BLUE),
        (~inside, "in no cluster", NOT_KEY),
    ):
        counts, _ = np.histogram(fraction[chosen].clip(0, 1), bins=edges)
        figure.add_bar(
            x=edges[:-1] + BIN / 2,
            y=counts,
            width=BIN,
            name=f"neurons {name}",
            marker={"color": colour},
            row=1,
            col=1,
        )


def _sizes(figure: go.Figure, cluster: np.ndarray, keys: tuple[int, ...]) -> None:
    freqs, counts = np.unique(cluster, return_counts=True)
    if not len(freqs):
        place = {"xref": "paper", "yref": "paper", "x": 0.78, "y": 0.5}
        figure.add_annotation(text="no neuron is in a cluster", showarrow=False, **place)
        figure.update_xaxes(visible=False, row=1, col=2)
        figure.update_yaxes(visible=False, row=1, col=2)
        return
    figure.add_bar(
        x=[str(k) for k in freqs.tolist()],
        y=counts,
        text=counts,
        textposition="outside",
        cliponaxis=False,
        width=0.6,
        marker={"color": [KEY if k in keys else NOT_KEY for k in freqs.tolist()]},
        name="cluster (coloured: key frequency)",
        showlegend=False,
        row=1,
        col=2,
    )
    figure.update_yaxes(range=[0, 1.15 * float(counts.max())], row=1, col=2)
