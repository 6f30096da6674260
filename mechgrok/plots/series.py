"""Any curves of one run over steps: losses share a logarithmic axis, accuracies one of 0..1."""

from collections.abc import Sequence
from typing import Final

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechgrok.plots._style import DOES_NOT_APPLY, PALETTE, entitle
from mechgrok.runs.series import Series

NEEDS: Final = ()
"""A Series carries its values."""
ACCURACY: Final = "accuracy (fraction)"
LOSS: Final = "loss (nats)"


def plot(series: Series) -> go.Figure:
    """One curve per name; what does not apply is said in the subtitle."""
    drawn = [name for name, points in series.curves.items() if points]
    axes = list(dict.fromkeys(axis(name) for name in drawn)) or [""]
    figure = make_subplots(rows=len(axes), cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for i, name in enumerate(drawn):
        steps, values = zip(*series[name], strict=True)
        colour = PALETTE[i % len(PALETTE)]
        row = axes.index(axis(name)) + 1
        figure.add_scatter(
            x=steps, y=values, name=name, mode="lines", line={"color": colour}, row=row, col=1
        )
    for row, title in enumerate(axes, start=1):
        _axis(figure, title, row)
    figure.update_xaxes(title="step", row=len(axes), col=1)
    figure.update_layout(showlegend=True)
    if not drawn:
        figure.update_layout(meta={DOES_NOT_APPLY: "; ".join(series.absent.values())})
    note = "<br>".join(f"{name} does not apply: {why}" for name, why in series.absent.items())
    facts = f"run {series.run}, seed {series.seed}, n = 1 run"
    return entitle(figure, _title(list(series.curves)), facts, note, height=200 + 220 * len(axes))


def axis(name: str) -> str:
    """Title of the axis a curve belongs to: curves with one title share it."""
    value = name.rpartition(".")[2]
    if "acc" in value:
        return ACCURACY
    return LOSS if "loss" in name else name


def _axis(figure: go.Figure, title: str, row: int) -> None:
    if title == LOSS:
        figure.update_yaxes(type="log", exponentformat="power", row=row, col=1)
    figure.update_yaxes(title=title, row=row, col=1)


def _title(names: Sequence[str]) -> str:
    shown = ", ".join(names[:4])
    return shown + (f" and {len(names) - 4} more" if len(names) > 4 else "")
