"""Moments and phases of a run, marked on figures over steps."""

from typing import Final

import plotly.graph_objects as go

from mechgrok.plots._style import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION
from mechgrok.runs.result import NotApplicable, Result
from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError

COLOURS: Final = {
    "memorisation": SKY,
    "circuit formation": GREEN,
    "cleanup": ORANGE,
    "circuit formation and cleanup": PURPLE,
}
MOMENTS: Final = {"memorised": BLUE, "generalised": VERMILION}


def shade(figure: go.Figure, run: Run) -> str:
    """Shade the saved phases over all subplots; returns a note that says what was done."""
    try:
        saved = run.result("phases")
    except RunError:
        return "phases not measured"
    reason = saved.headline
    if isinstance(reason, NotApplicable):
        return f"no phases: {reason.reason}"
    for name, start, end in spans(saved):
        _band(figure, start, end, f"phase: {name}", COLOURS[name], 0.16)
    return f"phases: {saved.definition.get('selection', '')}"


def spans(saved: Result) -> list[tuple[str, float, float]]:
    """Name, first and last step of each phase; two that have no boundary are one."""
    ends = {
        n: saved.values.get(f"{n}_end") for n in ("memorisation", "circuit_formation", "cleanup")
    }
    memorisation, circuit, cleanup = (
        float(x) if isinstance(x, int | float) else None for x in ends.values()
    )
    if memorisation is None or cleanup is None:
        return []
    found = [("memorisation", 0.0, memorisation)]
    if circuit is None:
        return [*found, ("circuit formation and cleanup", memorisation, cleanup)]
    return [*found, ("circuit formation", memorisation, circuit), ("cleanup", circuit, cleanup)]


def mark_moments(figure: go.Figure, times: Result) -> None:
    """Mark the intervals in which the run memorised and generalised."""
    for name, colour in MOMENTS.items():
        interval = times.values.get(f"{name}_interval")
        if isinstance(interval, list | tuple):
            bounds = [int(x) for x in interval if isinstance(x, int | float)]
            start, end = bounds[0], bounds[-1]  # one bound when already there at the start
            words = f"by {end:,}" if len(bounds) == 1 else f"({start:,}, {end:,}]"
            _band(figure, start, end, f"{name} {words}", colour, 0.55)


def _band(
    figure: go.Figure, start: float, end: float, name: str, colour: str, opacity: float
) -> None:
    """A band over every subplot, with one entry in the legend."""
    figure.add_vrect(
        x0=max(start, 1),  # step 0 has no place on a logarithmic axis
        x1=max(end, 1),
        fillcolor=colour,
        opacity=opacity,
        line={"width": 1 if opacity > 0.5 else 0, "color": colour},
        layer="below",
        name=name,
        legendgroup=name,
        showlegend=False,
    )
    swatch = {"size": 12, "symbol": "square", "color": colour, "opacity": min(1, 2 * opacity)}
    figure.add_scatter(
        x=[None], y=[None], mode="markers", marker=swatch, name=name, hoverinfo="skip"
    )


def log_switch(figure: go.Figure, y: float = 1.0) -> None:
    """Buttons for a linear or logarithmic axis of steps."""
    axes = [name for name in figure.to_dict()["layout"] if name.startswith("xaxis")]
    buttons = [
        {
            "label": f"{kind} steps",
            "method": "relayout",
            "args": [{f"{a}.type": kind for a in axes}],
        }
        for kind in ("linear", "log")
    ]
    menu = {"type": "buttons", "direction": "right", "buttons": buttons, "showactive": True}
    place = {"x": 1, "xanchor": "right", "y": y, "yanchor": "bottom", "pad": {"b": 6}}
    figure.update_layout(updatemenus=[{**menu, **place, "font": {"size": 11}}])
