"""The picture of openai_grok: accuracies of each run, validation apart by swapped twin."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechgrok.plots._style import BLUE, GREEN, GREY, PURPLE, VERMILION, entitle, evaluations

if TYPE_CHECKING:
    from mechgrok.runs.run import Run

CURVES = {
    "train_acc": ("train", BLUE),
    "test_acc": ("validation", VERMILION),
    "test_acc_twin": ("validation, twin in training", GREEN),
    "test_acc_no_twin": ("validation, no twin in training", PURPLE),
}


def draw(runs: "Mapping[str, Run]") -> go.Figure:
    """A panel per run, every evaluation; vertical lines where it memorised and generalised."""
    figure = make_subplots(rows=len(runs), cols=1, subplot_titles=list(runs))
    for i, run in enumerate(runs.values(), start=1):
        columns = evaluations(run)
        for name, (label, colour) in CURVES.items():
            figure.add_scatter(
                x=columns["step"],
                y=columns[name],
                name=label,
                legendgroup=label,
                showlegend=i == 1,
                line={"color": colour, "width": 1.5},
                row=i,
                col=1,
            )
        for moment, step in run.status["reached"].items():
            figure.add_scatter(
                x=[step, step],
                y=[0, 1],
                mode="lines",
                line={"color": GREY, "dash": "dot", "width": 1},
                showlegend=False,
                row=i,
                col=1,
            )
            figure.add_annotation(
                x=step, y=1.06, text=f"{moment} {step:,}", showarrow=False, row=i, col=1
            )
        figure.update_yaxes(title="accuracy (fraction)", range=[-0.03, 1.12], row=i, col=1)
    figure.update_xaxes(title="step", row=len(runs), col=1)
    facts = ", ".join(f"{run.name}, seed {run.seed}" for run in runs.values())
    note = "twin: the row (b, a) of (a, b); it has the same answer for addition, not for division"
    title = "openai/grok's settings: accuracy over training, n = 1 run each"
    return entitle(figure, title, facts, note, height=340 * len(runs))
