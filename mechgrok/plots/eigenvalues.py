"""Eigenvalues of training in the complex plane, coloured by how far they can be trusted.

As the spectra of arXiv 2605.08237 and 2302.09160, with what the optimiser does by itself drawn in:
an eigenvalue on a reference pole needs no other explanation.
"""

from typing import Final

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechgrok.plots._spectrum import facts, spectrum_of
from mechgrok.plots._style import BLACK, GREY, POSITIVE, VERMILION, entitle, square
from mechgrok.runs.run import Run
from mechgrok.runs.training_spectrum import Mode, TrainingSpectrum

NEEDS: Final = ()
"""A spectrum is saved by `mechgrok spectra`, not by a measure."""
ZOOM: Final = (0.9, 1.05)
"""Real parts of the right panel; its imaginary parts have the same extent about 0."""
LEAST: Final = 1e-4
"""Residuals below this have the colour of this."""
SYMBOLS: Final = ("diamond-tall-open", "triangle-up-open", "triangle-down-open")


def plot(subject: Run | TrainingSpectrum) -> go.Figure:
    """All eigenvalues with the unit circle, beside those near 1; rejected ones are hollow."""
    found = spectrum_of(subject)
    titles = ("all eigenvalues", f"near 1: real part {ZOOM[0]} to {ZOOM[1]}")
    figure = make_subplots(rows=1, cols=2, subplot_titles=titles, horizontal_spacing=0.09)
    for col in (1, 2):
        _circle(figure, col)
        _intervals(figure, found, col)
        _poles(figure, found, col)
        for trusted in (True, False):
            _points(figure, [m for m in found.modes if m.trusted is trusted], trusted, col)
        figure.update_xaxes(title="real part (per snapshot)", row=1, col=col)
        figure.update_yaxes(title="imaginary part (per snapshot)", row=1, col=col)
        square(figure, 1, col)
    reach = 1.1 * max(1.0, *(abs(m.eigenvalue) for m in found.modes))
    figure.update_xaxes(range=[-reach, reach], row=1, col=1)
    figure.update_yaxes(range=[-reach, reach], row=1, col=1)
    half = (ZOOM[1] - ZOOM[0]) / 2
    figure.update_xaxes(range=list(ZOOM), row=1, col=2)
    figure.update_yaxes(range=[-half, half], row=1, col=2)
    figure.update_layout(coloraxis=_colours(), legend={"orientation": "h", "y": -0.16})
    return entitle(figure, "Eigenvalues of training", facts(found), _note(found), height=620)


def _points(figure: go.Figure, modes: list[Mode], trusted: bool, col: int) -> None:
    name = "trusted" if trusted else "rejected: residual above the limit"
    figure.add_scatter(
        x=[m.eigenvalue.real for m in modes],
        y=[m.eigenvalue.imag for m in modes],
        mode="markers",
        name=name,
        legendgroup=name,
        showlegend=col == 1 and bool(modes),
        marker={
            "color": [float(np.log10(max(m.residual, LEAST))) for m in modes],
            "coloraxis": "coloraxis",
            "symbol": "circle" if trusted else "circle-open",
            "size": 11,
            "line": {"width": 1 if trusted else 2.5, "color": BLACK if trusted else None},
        },
        customdata=[[abs(m.eigenvalue), _lives(m), m.residual, max(m.energies)] for m in modes],
        hovertemplate="%{x:.5f} %{y:+.5f}i, modulus %{customdata[0]:.5f}<br>%{customdata[1]}"
        "<br>residual %{customdata[2]:.2g}, energy share %{customdata[3]:.2g}<extra></extra>",
        row=1,
        col=col,
    )


def _lives(mode: Mode) -> str:
    if mode.half_life is None:
        return "neither grows nor decays"
    verb = "halved" if mode.half_life > 0 else "doubled"
    return f"{verb} in {abs(mode.half_life):,.1f} steps, {mode.turn:+.2g} radians a step"


def _circle(figure: go.Figure, col: int) -> None:
    # dense near 1, so that the circle is round in the zoom too
    angles = np.sign(np.linspace(-1, 1, 801)) * np.pi * np.linspace(-1, 1, 801) ** 2
    figure.add_scatter(
        x=np.cos(angles), y=np.sin(angles), mode="lines", name="unit circle", showlegend=col == 1,
        legendgroup="circle", line={"color": GREY, "width": 1.5}, hoverinfo="skip", row=1, col=col,
    )  # fmt: skip


def _intervals(figure: go.Figure, found: TrainingSpectrum, col: int) -> None:
    """Radial bars over the interval of the modulus, of the trusted ones."""
    x: list[float | None] = []
    y: list[float | None] = []
    for mode in found.modes:
        if mode.trusted and mode.modulus_interval is not None and mode.eigenvalue:
            along = mode.eigenvalue / abs(mode.eigenvalue)
            x += [*(r * along.real for r in mode.modulus_interval), None]
            y += [*(r * along.imag for r in mode.modulus_interval), None]
    if x:
        name = f"95 % of modulus over {found.settings['resampled']}"
        figure.add_scatter(
            x=x, y=y, mode="lines", name=name, legendgroup="interval", showlegend=col == 1,
            line={"color": BLACK, "width": 2}, hoverinfo="skip", row=1, col=col,
        )  # fmt: skip


def _poles(figure: go.Figure, found: TrainingSpectrum, col: int) -> None:
    for (name, value), symbol in zip(found.poles.items(), SYMBOLS, strict=False):
        figure.add_scatter(
            x=[value], y=[0], mode="markers", name=f"{name}: {value:.5g}", legendgroup=name,
            showlegend=col == 1, row=1, col=col,
            marker={"symbol": symbol, "size": 16, "color": VERMILION, "line": {"width": 2}},
        )  # fmt: skip


def _colours() -> dict[str, object]:
    ticks = list(range(int(np.log10(LEAST)), 1))
    words = [f"10<sup>{t}</sup>" if t else "1" for t in ticks]
    words[0] = f"≤ {words[0]}"
    return {
        "colorscale": POSITIVE,
        "cmin": ticks[0],
        "cmax": 0,
        "colorbar": {"title": "residual", "tickvals": ticks, "ticktext": words, "thickness": 16},
    }


def _note(found: TrainingSpectrum) -> str:
    limit = found.settings["residual_limit"]
    kept = f"{len(found.eigenvalues)} of {len(found.modes)} eigenvalues"
    return f"{kept} with a residual of at most {limit:g}" if limit else f"{kept}, none filtered"
