"""Share of runs without an event over steps, by the value of a setting (Kaplan & Meier 1958)."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Final

import plotly.graph_objects as go

from mechgrok.maths.survival import Time, kaplan_meier
from mechgrok.plots._style import PALETTE, entitle
from mechgrok.runs.storage import RunError

NEEDS: Final = ()
"""Times are handed in."""


def plot(
    groups: Mapping[Hashable, Sequence[Time]], by: str, moment: str = "generalised"
) -> go.Figure:
    """One step curve per value; a cross marks runs that were censored. Raises RunError for none."""
    if not groups:
        raise RunError("got no times to draw; expected those of at least one run")
    figure = go.Figure()
    for i, (value, times) in enumerate(groups.items()):
        curve, colour = kaplan_meier(times), PALETTE[i % len(PALETTE)]
        name = f"{value} (n = {len(times)})"
        figure.add_scatter(
            x=[*curve.steps, curve.end],
            y=[*curve.share, curve.share[-1]],
            name=name,
            mode="lines",
            line={"shape": "hv", "color": colour, "width": 2},
            legendgroup=name,
        )
        late = sorted(t.seen for t in times if t.censored)
        if late:
            figure.add_scatter(
                x=late,
                y=[float(curve.share[curve.steps <= at][-1]) for at in late],
                name=f"{value}: censored",
                mode="markers",
                marker={"symbol": "x-thin", "size": 9, "line": {"width": 2, "color": colour}},
                legendgroup=name,
                showlegend=False,
            )
    figure.update_xaxes(title="step", rangemode="tozero")
    figure.update_yaxes(title=f"share not {moment}", range=[-0.03, 1.03])
    figure.update_layout(legend_title_text=by, showlegend=True)
    runs = sum(map(len, groups.values()))
    facts = f"n = {runs} runs, {sum(t.censored for ts in groups.values() for t in ts)} censored (x)"
    return entitle(figure, f"Runs that have not {moment}, by {by}", facts)
