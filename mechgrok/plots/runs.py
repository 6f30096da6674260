"""Test accuracy of several runs over steps, every run drawn."""

from collections.abc import Sequence
from typing import Final

import plotly.graph_objects as go

from mechgrok.plots._style import PALETTE, entitle, evaluations
from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError

NEEDS: Final = ()
"""Only metrics.jsonl is read."""
MANY: Final = 20
"""Beyond this many runs the legend is left out; the name shows on hovering."""


def plot(runs: Sequence[Run], metric: str = "test_acc") -> go.Figure:
    """One curve per run; `metric` is a column of metrics.jsonl.

    Raises RunError without runs, for a run without evaluations and for an unknown metric.
    """
    runs = list(runs)
    if not runs:
        raise RunError("got no runs to draw; expected at least one, such as mg.sweep(...) returns")
    figure = go.Figure()
    for i, run in enumerate(runs):
        columns = evaluations(run)
        if metric not in columns:
            raise RunError(f"{run.path} has no metric {metric!r}; it has {sorted(columns)}")
        figure.add_scatter(
            x=columns["step"],
            y=columns[metric],
            name=f"{run.name}, seed {run.seed}",
            line={"color": PALETTE[i % len(PALETTE)], "width": 1.5},
            opacity=0.8,
        )
    figure.update_xaxes(title="step")
    figure.update_layout(showlegend=len(runs) <= MANY)
    _axis(figure, metric)
    seeds = ", ".join(str(seed) for seed in sorted({run.seed for run in runs}))
    presets = ", ".join(sorted({run.config.preset for run in runs}))
    n = f"n = {len(runs)} run{'s' if len(runs) > 1 else ''}"
    return entitle(figure, f"{_name(metric)}, {n}", f"{presets}; seeds {seeds}; every run drawn")


def _name(metric: str) -> str:
    return metric.replace("_acc", " accuracy").replace("_", " ").capitalize()


def _axis(figure: go.Figure, metric: str) -> None:
    if metric.endswith("_acc"):
        figure.update_yaxes(title="accuracy (fraction)", range=[-0.03, 1.03])
    elif metric.endswith("_loss"):
        figure.update_yaxes(title="loss (nats)", type="log", exponentformat="power")
    else:
        figure.update_yaxes(title=metric)
