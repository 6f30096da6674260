"""The step at which every run reached a moment, over the values of a setting; censored ones open."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Final

import plotly.graph_objects as go

from mechgrok.maths.survival import Time
from mechgrok.plots._style import BLUE, VERMILION, entitle
from mechgrok.runs.storage import RunError

NEEDS: Final = ()
"""Times are handed in."""


def plot(
    groups: Mapping[Hashable, Sequence[Time]], by: str, moment: str = "generalised"
) -> go.Figure:
    """One point per run. Raises RunError for none."""
    if not groups:
        raise RunError("got no times to draw; expected those of at least one run")
    figure = go.Figure()
    numbers = all(isinstance(value, int | float) and value > 0 for value in groups)
    for censored, name, symbol, colour in (
        (False, moment, "circle", BLUE),
        (True, "censored: later than this", "triangle-up-open", VERMILION),
    ):
        points = [(v, t.seen) for v, ts in groups.items() for t in ts if t.censored is censored]
        figure.add_scatter(
            x=[v if numbers else str(v) for v, _ in points],
            y=[step for _, step in points],
            name=name,
            mode="markers",
            marker={"symbol": symbol, "size": 9, "color": colour, "opacity": 0.75},
        )
    if numbers:
        figure.update_xaxes(type="log", tickvals=list(groups), ticktext=[f"{v:g}" for v in groups])
    figure.update_xaxes(title=by)
    figure.update_yaxes(title=f"step {moment}", type="log")
    figure.update_layout(showlegend=True)
    runs = sum(map(len, groups.values()))
    return entitle(figure, f"Step {moment}, by {by}", f"n = {runs} runs, every run drawn")
