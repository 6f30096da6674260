"""Loss and accuracy as the key frequencies of the embedding are scaled, with random controls."""

from typing import Final

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechgrok.plots._style import GREY, KEY, absence, dress, listed, sentence
from mechgrok.runs.result import Result
from mechgrok.runs.run import Run

NEEDS: Final = ("dose_response",)
TITLE: Final = "Dose response of the embedding's frequencies"
PANELS: Final = ("loss (nats)", "accuracy (fraction)")


def plot(run: Run) -> go.Figure:
    """Both against the share of power removed; one curve for the keys, one per control set."""
    saved = run.result("dose_response")
    if not listed(saved, "keys"):  # the headline may not apply where the curves do
        return sentence(TITLE, run, absence(saved) or "no frequencies were scaled")
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.1)
    for col, title in enumerate(PANELS, start=1):
        _curves(figure, saved, col)
        figure.update_yaxes(title=title, row=1, col=col)
    figure.update_yaxes(type="log", exponentformat="power", row=1, col=1)
    figure.update_yaxes(range=[-0.03, 1.05], row=1, col=2)
    figure.update_xaxes(title="share of the scaled frequencies' power removed, 1 - scale²")
    figure.update_layout(legend={"orientation": "h", "y": -0.22})
    keys = [int(k) for k in listed(saved, "keys")]
    split = saved.definition["split"]
    chosen = saved.definition["selection"].split(";")[0].split(" (")[0]
    half = saved["half"]
    back = f"{half:.2f}" if isinstance(half, float) else "none"
    note = f"frequencies {', '.join(map(str, keys))} ({chosen}); judged on {split}<br>"
    note += f"scale at which half of the intact accuracy is left: {back}"
    return dress(figure, TITLE, run, saved.step, note=note, height=500)


def _curves(figure: go.Figure, saved: Result, col: int) -> None:
    scales, controls = saved.arrays["scales"], saved.arrays["controls"]
    removed = 1 - scales**2
    place = {"row": 1, "col": col, "x": removed, "customdata": scales}
    hover = "scale %{customdata:.1f}: %{y:.4g}<extra></extra>"
    for i, control in enumerate(controls):
        figure.add_scatter(
            **place,
            y=control[:, col - 1],
            mode="lines",
            line={"color": GREY, "width": 1.3},
            name=f"each of {len(controls)} random sets of as many others",
            legendgroup="controls",
            showlegend=col == 1 and i == 0,
            hovertemplate="control, " + hover,
        )
    figure.add_scatter(
        **place,
        y=saved.arrays["keys"][:, col - 1],
        mode="lines+markers",
        line={"color": KEY, "width": 2},
        name="key frequencies",
        legendgroup="keys",
        showlegend=col == 1,
        hovertemplate="keys, " + hover,
    )
