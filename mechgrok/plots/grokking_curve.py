"""Loss and accuracy on train and test over training: memorised early, generalised late.

As figure 1 of Power et al. 2022 (arXiv 2201.02177), with the phases of Nanda et al. 2023 shaded.
"""

from typing import Final

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechgrok.plots._phases import log_switch, mark_moments, shade
from mechgrok.plots._style import TEST, TRAIN, absence, dress, evaluations
from mechgrok.runs.run import Run

NEEDS: Final = ("times",)
"""`phases` is shaded when it is saved."""


def plot(run: Run) -> go.Figure:
    """Losses (nats, logarithmic) above accuracies (fractions) over steps."""
    columns = evaluations(run)
    times = run.result("times")
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for row, kind in enumerate(("loss", "acc"), start=1):
        for split, colour in (("train", TRAIN), ("test", TEST)):
            if f"{split}_{kind}" not in columns:
                continue
            figure.add_scatter(
                x=columns["step"],
                y=columns[f"{split}_{kind}"],
                name=f"{split} {'loss' if kind == 'loss' else 'accuracy'}",
                line={"color": colour, "width": 2, "dash": "solid" if kind == "loss" else "dot"},
                row=row,
                col=1,
            )
    note = shade(figure, run)
    if absence(times) is not None:
        note += f"<br>no accuracies: {absence(times)}"
    mark_moments(figure, times)
    figure.update_yaxes(type="log", exponentformat="power", title="loss (nats)", row=1, col=1)
    figure.update_yaxes(title="accuracy (fraction)", range=[-0.03, 1.03], row=2, col=1)
    figure.update_xaxes(title="step", row=2, col=1)
    log_switch(figure)
    figure.update_layout(hovermode="x unified")
    return dress(figure, "Grokking curve", run, note=note, height=620)
