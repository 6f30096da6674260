"""Residual and effective rank of windows of training, over the accuracies.

The residual is what arXiv 2605.08237 proposes as a signal of generalisation to come: what one
linear operator, fitted in the window, does not explain. A window is drawn at its last step, where
somebody who watches the run knows it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechgrok.plots._spectrum import facts, spectrum_of
from mechgrok.plots._style import BLACK, DOES_NOT_APPLY, PALETTE, TEST, TRAIN, entitle
from mechgrok.runs.run import Run
from mechgrok.runs.training_spectrum import TrainingSpectrum

NEEDS: Final = ()
"""A spectrum is saved by `mechgrok spectra`, not by a measure."""
MOST_TICKS: Final = 6
"""Ranks up to this have a tick each."""


def plot(subject: Run | TrainingSpectrum) -> go.Figure:
    """Residual above effective rank above train and test accuracy, one colour per run."""
    found = spectrum_of(subject)
    rows = 3 if any(found.evaluations) else 2
    figure = make_subplots(rows=rows, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    several = len(found.runs) > 1
    for i, (name, columns) in enumerate(zip(found.runs, found.windows, strict=False)):
        colour = PALETTE[i % len(PALETTE)] if several else BLACK
        _windows(figure, columns, name if several else "windows", colour)
    for i, (name, curves) in enumerate(zip(found.runs, found.evaluations, strict=True)):
        if curves:
            own = PALETTE[i % len(PALETTE)]
            colours = (own, own) if several else (TRAIN, TEST)
            _accuracies(figure, curves, f"{name}: " if several else "", colours, several)
    figure.update_yaxes(title="relative residual", rangemode="tozero", row=1, col=1)
    few = all(max(columns["effective_rank"]) <= MOST_TICKS for columns in found.windows)
    ticks = 1 if few else None
    figure.update_yaxes(title="effective rank", rangemode="tozero", dtick=ticks, row=2, col=1)
    if rows == 3:
        figure.update_yaxes(title="accuracy (fraction)", range=[-0.03, 1.03], row=3, col=1)
    said = found.settings
    figure.update_xaxes(range=[said["first_step"], said["last_step"]])
    figure.update_xaxes(title="step (windows at their last one)", row=rows, col=1)
    figure.update_layout(hovermode="x unified", showlegend=True)
    if not found.windows:
        figure.update_layout(meta={DOES_NOT_APPLY: "; ".join(found.notes)})
    return entitle(figure, "Windowed residual", facts(found), _note(found), height=200 + 170 * rows)


def _windows(
    figure: go.Figure, columns: Mapping[str, Sequence[float]], name: str, colour: str
) -> None:
    for row, value in ((1, "residual"), (2, "effective_rank")):
        figure.add_scatter(
            x=columns["last_step"],
            y=columns[value],
            name=name,
            legendgroup=name,
            showlegend=row == 1,
            mode="lines+markers",
            line={"color": colour, "width": 2, "shape": "linear" if row == 1 else "hv"},
            marker={"size": 4},
            customdata=columns["first_step"],
            hovertemplate=f"{value} %{{y:.3g}} from step %{{customdata:,}}<extra>{name}</extra>",
            row=row,
            col=1,
        )


def _accuracies(
    figure: go.Figure,
    curves: Mapping[str, Sequence[Any]],
    prefix: str,
    colours: tuple[str, str],
    dotted: bool,
) -> None:
    for split, colour in zip(("train", "test"), colours, strict=True):
        figure.add_scatter(
            x=curves["step"],
            y=curves[f"{split}_acc"],
            name=f"{prefix}{split} accuracy",
            mode="lines",
            line={"color": colour, "dash": "dot" if split == "train" else "solid", "width": 2},
            showlegend=not dotted or split == "test",
            row=3,
            col=1,
        )


def _note(found: TrainingSpectrum) -> str:
    if not found.windows:
        return "; ".join(note for note in found.notes if "residual" in note)
    every = found.settings["record_every"]
    window = found.settings["window"]
    return (
        f"windows of {window} snapshots ({window * every:,} steps), each centred and fitted alone; "
        f"effective rank: singular values that hold 99 % of the energy"
    )
