"""The step at which every run reached a moment, by the value of a setting; censored ones open."""

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
        points = [
            (_beside(value, i - len(times) / 2) if numbers else str(value), time.seen)
            for value, times in groups.items()
            for i, time in enumerate(times)
            if time.censored is censored
        ]
        figure.add_scatter(
            x=[value for value, _ in points],
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


def _beside(value: Hashable, place: float) -> float:
    """Moved by a hundredth per run, so that equal times are seen apart."""
    assert isinstance(value, int | float)
    return value * 1.012**place
