"""Activations of single neurons over all pairs, each periodic in its own frequency.

As figures 2 and 5 of Nanda et al. 2023 (arXiv 2301.05217). Of every frequency the best explained
neurons are shown, so the grid says what neurons of a cluster look like and not how common they are;
`neuron_clusters` counts them.
"""

import math
from typing import Final

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechgrok.plots._style import POSITIVE, absence, dress, keys_of, sentence, spelled
from mechgrok.runs.result import Result
from mechgrok.runs.run import Run

NEEDS: Final = ("neuron_clusters", "key_frequencies")
TITLE: Final = "Neurons over all pairs"
COLUMNS: Final = 4
LEVELS: Final = 255


def plot(run: Run) -> go.Figure:
    """Activation over a (down) and b (across), sorted by frequency; colours are each neuron's."""
    saved = run.result("neuron_clusters")
    reason = absence(saved)
    if reason is None and not len(saved.arrays["example"]):
        reason = "every neuron is dead"
    if reason is not None:
        return sentence(TITLE, run, reason)
    chosen = saved.arrays["example"]
    rows = math.ceil(len(chosen) / COLUMNS)
    figure = make_subplots(
        rows=rows,
        cols=COLUMNS,
        subplot_titles=[_words(saved, i) for i in chosen.tolist()],
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=0.24 / (rows + 1),
    )
    for i in range(len(chosen)):
        _map(figure, saved, i, row=i // COLUMNS + 1, col=i % COLUMNS + 1)
    figure.update_annotations(font_size=12)
    figure.update_xaxes(title="b", row=rows)
    figure.update_yaxes(title="a", col=1)
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(constrain="domain", showgrid=False)
    figure.update_yaxes(constrain="domain", showgrid=False)
    colours = "dark: a neuron's least activation, bright: its largest (numbers on hovering)"
    dead = saved.arrays["dead"]
    few = f"{len(chosen)} of {int((~dead.astype(bool)).sum())} live neurons"
    note = f"{few}, of every frequency the best explained; {colours}<br>"
    note += spelled(keys_of(run, saved.step))
    dress(figure, TITLE, run, saved.step, note=note, height=180 + 245 * rows)
    return figure.update_layout(margin_t=150)  # room for titles of two lines


def _words(saved: Result, i: int) -> str:
    freq, fraction = saved.arrays["freq"][i], saved.arrays["fraction"][i]
    inside = "" if saved.arrays["cluster"][i] > 0 else ", in no cluster"
    return f"neuron {i}: frequency {freq}<br>{100 * fraction:.0f} % explained{inside}"


def _map(figure: go.Figure, saved: Result, i: int, row: int, col: int) -> None:
    low, high = saved.arrays["example_range"][i]
    levels = saved.arrays["example_levels"][i].astype(np.float32)
    figure.add_heatmap(
        z=low + (high - low) * levels / LEVELS,
        colorscale=POSITIVE,
        showscale=False,
        hovertemplate=f"neuron {saved.arrays['example'][i]}<br>"
        "a = %{y}, b = %{x}: %{z:.3f}<extra></extra>",
        row=row,
        col=col,
    )
