"""Singular values of the delayed states, with the rank that was taken and what a rule would take.

Where they fall off a cliff is the rank; where they only slope, look at several ranks.
"""

from typing import Final

import numpy as np
import plotly.graph_objects as go

from mechgrok.plots._spectrum import facts, spectrum_of
from mechgrok.plots._style import BLUE, GREEN, VERMILION, entitle
from mechgrok.runs.run import Run
from mechgrok.runs.training_spectrum import TrainingSpectrum

NEEDS: Final = ()
"""A spectrum is saved by `mechgrok spectra`, not by a measure."""
ROUNDING: Final = 1e-14
"""Share of the first singular value below which one is rounding."""


def plot(subject: Run | TrainingSpectrum) -> go.Figure:
    """All of them on logarithmic axes, and the share of energy of the leading ones."""
    found = spectrum_of(subject)
    said, values = found.settings, found.singular_values
    index = np.arange(1, len(values) + 1)
    shares = np.cumsum(np.square(values)) / np.square(values).sum()
    shown = values > ROUNDING * values[0]
    figure = go.Figure()
    figure.add_scatter(
        x=index[shown],
        y=values[shown],
        mode="lines+markers",
        name="singular values",
        line={"color": BLUE, "width": 1},
        marker={"size": 6},
        customdata=1 - shares[shown],
        hovertemplate="%{x}: %{y:.4g}, energy beyond it %{customdata:.2g}<extra></extra>",
    )
    rank, rule = said["rank"], said["optimal_rank"]
    height = np.array([*values[shown][[0, -1]], said["threshold"]])
    _line(figure, "v", rank + 0.5, f"rank taken: {rank}", VERMILION, "solid", height)
    _line(figure, "v", rule + 0.5, f"optimal rank, at most 12: {rule}", GREEN, "dash", height)
    _line(figure, "h", said["threshold"], "optimal hard threshold", GREEN, "dot", index[shown])
    states = "states of length 1" if said["method"] == "rayleigh" else "delayed states"
    figure.update_xaxes(type="log", title="index", dtick="D2")
    figure.update_yaxes(type="log", exponentformat="power", title=f"singular value of {states}")
    energy = 1 - shares[min(rank, len(shares)) - 1]
    note = f"rank {rank} leaves out {max(energy, 0):.2g} of the energy; "
    note += f"first value left out over last one kept: {said['cut']:.3f}"
    if not shown.all():
        note += f"<br>{(~shown).sum()} values below {ROUNDING:g} of the first are not drawn"
    return entitle(figure, "Singular values of the delayed states", facts(found), note)


def _line(
    figure: go.Figure, way: str, at: float, name: str, colour: str, dash: str, extent: np.ndarray
) -> None:
    """A named line over the extent of the other axis."""
    ends = [float(extent.min()), float(extent.max())]
    x, y = ([at, at], ends) if way == "v" else (ends, [at, at])
    style = {"color": colour, "dash": dash, "width": 2}
    figure.add_scatter(x=x, y=y, mode="lines", name=name, line=style, hoverinfo="skip")
