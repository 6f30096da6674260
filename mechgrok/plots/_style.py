"""One look for every figure: template, colours, titles that say which run and step.

Colours are Okabe & Ito's (2008), which readers with any colour vision can tell apart.
"""

from collections.abc import Sequence
from typing import Any, Final

import plotly.graph_objects as go

from mechgrok.runs.result import NotApplicable, Result
from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError

BLACK: Final = "#000000"
ORANGE: Final = "#E69F00"
SKY: Final = "#56B4E9"
GREEN: Final = "#009E73"
YELLOW: Final = "#F0E442"
BLUE: Final = "#0072B2"
VERMILION: Final = "#D55E00"
PURPLE: Final = "#CC79A7"
GREY: Final = "#A6A6A6"

PALETTE: Final = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
"""In the order they are used; yellow is left out, being faint on white."""
TRAIN: Final = BLUE
TEST: Final = VERMILION
KEY: Final = VERMILION
NOT_KEY: Final = GREY
SIGNED: Final = "RdBu"
"""Colour scale of maps with a sign; to be used with `zmid=0`."""
POSITIVE: Final = "Cividis"
"""Colour scale of maps without a sign."""

FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"

_AXIS: Final = {
    "showline": True,
    "linecolor": "#444",
    "gridcolor": "#e6e6e6",
    "zeroline": False,
    "ticks": "outside",
    "tickcolor": "#444",
    "automargin": True,
    "title": {"font": {"size": 13}, "standoff": 8},
}
TEMPLATE: Final = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": 13, "color": "#222"},
        "title": {"x": 0, "xref": "paper", "xanchor": "left", "y": 0.97, "yanchor": "top"},
        "colorway": list(PALETTE),
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "coloraxis": {"colorbar": {"title": {"font": {"size": 12}}, "thickness": 16}},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "margin": {"l": 70, "r": 20, "t": 90, "b": 60},
        "legend": {"bgcolor": "rgba(255,255,255,0.8)"},
        "hoverlabel": {"font": {"family": FONT}},
    }
)

DOES_NOT_APPLY: Final = "does_not_apply"
"""Key in `figure.layout.meta` under which a figure without data keeps its reason."""


def dress(
    figure: go.Figure,
    title: str,
    run: Run,
    step: int | None = None,
    note: str = "",
    height: int = 480,
) -> go.Figure:
    """Template, height, and a title with run, seed, step and the number of runs."""
    at = "all evaluations" if step is None else f"step {step:,}"
    facts = f"run {run.name}, seed {run.seed}, {at}, n = 1 run"
    return entitle(figure, title, facts, note, height)


def entitle(
    figure: go.Figure, title: str, facts: str, note: str = "", height: int = 480
) -> go.Figure:
    """Template, height, title, and under it the facts and a note."""
    text = facts + (f"<br>{note}" if note else "")
    figure.update_layout(
        template=TEMPLATE,
        height=height,
        title={"text": title, "subtitle": {"text": text, "font": {"size": 12, "color": "#555"}}},
    )
    lines = text.count("<br>")
    if lines:
        figure.update_layout(margin_t=90 + 18 * lines)
    return figure


def sentence(title: str, run: Run, reason: str) -> go.Figure:
    """A figure that only says why there is nothing to draw."""
    figure = go.Figure()
    figure.add_annotation(
        text=f"Does not apply: {reason}", showarrow=False, xref="paper", yref="paper"
    )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.update_layout(meta={DOES_NOT_APPLY: reason})
    return dress(figure, title, run, height=200)


def absence(result: Result) -> str | None:
    """Why a result has no headline, or None when it has one."""
    found = result.headline
    return found.reason if isinstance(found, NotApplicable) else None


def by_step(run: Run, name: str) -> list[Result]:
    """Saved results of a measure, one per step: the last one saved."""
    return list({result.step: result for result in run.results(name)}.values())


def curve(results: Sequence[Result], value: str) -> tuple[list[int], list[float]]:
    """Steps and numbers of a value, without the steps at which it does not apply."""
    points = [(r.step, r[value]) for r in results if value in r.values]
    kept = [(s, v) for s, v in points if s is not None and isinstance(v, int | float)]
    return [s for s, _ in kept], [float(v) for _, v in kept]


def evaluations(run: Run) -> dict[str, list[Any]]:
    """Columns of metrics.jsonl. Raises RunError for a run that was never evaluated."""
    rows = run.evaluations()
    if not rows:
        command = f"mechgrok train --preset {run.config.preset} --run {run.path}"
        raise RunError(f"{run.path} has no evaluations in metrics.jsonl; run: {command}")
    return {name: [row.get(name) for row in rows] for name in rows[0]}


def keys_of(run: Run, step: int | None) -> tuple[int, ...]:
    """Key frequencies saved for a step; empty where there are none or they do not apply."""
    for result in reversed(run.results("key_frequencies")):
        found = result.values.get("freqs")
        if result.step == step and isinstance(found, list | tuple):
            return tuple(int(k) for k in found if isinstance(k, int))
    return ()


def frequency_ticks(n_freqs: int, keys: Sequence[int], components: bool = False) -> dict[str, Any]:
    """Ticks of an axis of frequencies 1..n_freqs: the keys where there are any, or round numbers.

    With `components` the axis counts const, cos 1, sin 1, ... and a tick lies between its two.
    """
    freqs = sorted(keys) or [1, *range(10, n_freqs + 1, 10)]
    places = [2 * k - 0.5 if components else k for k in freqs]
    return {"tickvals": places, "ticktext": [str(k) for k in freqs], "tickangle": 0}


def square(figure: go.Figure, row: int, col: int) -> None:
    """Give both axes of a subplot one scale, without moving it away from its title."""
    place: Any = figure.get_subplot(row, col)
    figure.update_xaxes(constrain="domain", row=row, col=col)
    figure.update_yaxes(
        scaleanchor=place.xaxis.plotly_name.replace("axis", ""),
        constrain="domain",
        constraintoward="top",
        row=row,
        col=col,
    )


def listed(result: Result, name: str) -> list[Any]:
    """A value that is a list; empty for any other."""
    found = result.values.get(name)
    return list(found) if isinstance(found, list | tuple) else []


def spelled(keys: Sequence[int]) -> str:
    """Key frequencies as words."""
    return "key frequencies " + ", ".join(map(str, keys)) if keys else "no key frequencies"
