"""Exact match and target accuracy of every kind of query, with intervals within the run."""

from typing import Final

import plotly.graph_objects as go

from mechgrok.plots._style import BLUE, VERMILION, absence, dress, listed, sentence
from mechgrok.runs.result import Result
from mechgrok.runs.run import Run

NEEDS: Final = ("two_hop_cells",)
TITLE: Final = "Answers by kind of query"


def plot(run: Run, step: int | None = None) -> go.Figure:
    """One row per kind; the bar is the bootstrap over hop-2 facts, where there are enough."""
    saved = run.result("two_hop_cells", step)
    kinds = listed(saved, "kinds")
    if not kinds:
        return sentence(TITLE, run, absence(saved) or "nothing was saved")
    rows = [f"{kind} (n = {saved[f'{kind}_n']})" for kind in kinds]
    exact = [_number(saved, f"{kind}_exact_match") for kind in kinds]
    ends = [
        listed(saved, f"{kind}_interval_within_run") or [x, x]
        for kind, x in zip(kinds, exact, strict=True)
    ]
    figure = go.Figure()
    figure.add_scatter(
        x=exact,
        y=rows,
        mode="markers",
        name="exact match",
        marker={"color": BLUE, "size": 10},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [high - x for (_, high), x in zip(ends, exact, strict=True)],
            "arrayminus": [x - low for (low, _), x in zip(ends, exact, strict=True)],
            "color": BLUE,
        },
    )
    figure.add_scatter(
        x=[_number(saved, f"{kind}_target_accuracy") for kind in kinds],
        y=rows,
        mode="markers",
        name="target accuracy",
        marker={"color": VERMILION, "size": 9, "symbol": "square-open"},
    )
    figure.update_xaxes(title="fraction right", range=[-0.03, 1.03])
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_layout(legend={"orientation": "h", "y": -0.2})
    note = f"bars: {saved.definition['interval']}"
    return dress(figure, TITLE, run, saved.step, note=note, height=220 + 32 * len(kinds))


def _number(saved: Result, name: str) -> float:
    found = saved.values[name]
    return float(found) if isinstance(found, int | float) else 0.0
