"""Spectra of embedding, neuron-logit map and logits at one checkpoint, which a slider chooses."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechgrok.plots._style import (
    BLACK,
    KEY,
    NOT_KEY,
    TEST,
    TRAIN,
    absence,
    by_step,
    dress,
    evaluations,
    keys_of,
    sentence,
    spelled,
)
from mechgrok.runs.result import Result
from mechgrok.runs.run import Run

NEEDS: Final = ("spectra", "key_frequencies")
TITLE: Final = "Spectra over training, one checkpoint at a time"
MAX_FRAMES: Final = 100
PANELS: Final = (
    ("spectra", "power_shares_W_E", "embedding W_E", "share of power"),
    ("spectra", "power_shares_W_L", "neuron-logit map W_L", "share of power"),
    ("key_frequencies", "cosine", "logits", "cosine with cos w<sub>k</sub>(a+b-c)"),
)


def plot(run: Run) -> go.Figure:
    """Bars per frequency with axes that stay, below the losses (nats) with the step marked."""
    saved = {name: by_step(run, name) for name in NEEDS}
    reason = next((r for r in (absence(results[-1]) for results in saved.values()) if r), None)
    if reason is not None:
        return sentence(TITLE, run, reason)
    panels = [panel for panel in PANELS if panel[1] in saved[panel[0]][-1].arrays]
    at = {name: {r.step: r for r in results} for name, results in saved.items()}
    steps = frame_steps([step for step in run.steps if all(step in rs for rs in at.values())])
    keys = keys_of(run, saved["spectra"][-1].step)
    figure = make_subplots(
        rows=2,
        cols=len(panels),
        specs=[[{"colspan": len(panels)}, *[None] * (len(panels) - 1)], [{}] * len(panels)],
        subplot_titles=["", *(panel[2] for panel in panels)],
        row_heights=[0.4, 0.6],
        vertical_spacing=0.2,
        horizontal_spacing=0.08,
    )
    low, high = _losses(figure, run)
    chosen = {step: [_heights(at, panel, step) for panel in panels] for step in steps}
    _bars(figure, panels, chosen, keys)
    figure.add_scatter(**_mark(steps[-1], low, high), name="shown", row=1, col=1)
    traces: Any = figure.data
    moved = range(len(traces) - len(panels) - 1, len(traces))  # the bars and the mark
    figure.frames = [_frame(s, chosen[s], _mark(s, low, high), moved) for s in steps]
    figure.update_layout(
        sliders=[_slider(steps)], legend={"x": 1.01, "y": 1}, margin_b=130, hovermode="closest"
    )
    note = f"{spelled(keys)} of the last checkpoint, coloured; {len(steps)} of {len(run.steps)} "
    note += "checkpoints"
    return dress(figure, TITLE, run, None, note=note, height=720)


def frame_steps(steps: Sequence[int]) -> list[int]:
    """At most 100 of the steps, all when there are no more, otherwise even in logarithmic time."""
    if len(steps) <= MAX_FRAMES:
        return list(steps)
    positive = np.array([step for step in steps if step > 0])
    aims = np.geomspace(positive[0], positive[-1], MAX_FRAMES - 1)
    nearest = positive[np.abs(np.log(positive)[:, None] - np.log(aims)).argmin(axis=0)]
    return sorted({steps[0], *nearest.tolist()})


def _heights(
    at: dict[str, dict[int | None, Result]], panel: Sequence[str], step: int
) -> np.ndarray:
    return at[panel[0]][step].arrays[panel[1]].astype(np.float32)


def _losses(figure: go.Figure, run: Run) -> tuple[float, float]:
    """Draw train and test loss; returns their range."""
    columns = evaluations(run)
    found: list[float] = []
    for split, colour in (("train", TRAIN), ("test", TEST)):
        losses = columns[f"{split}_loss"]
        found += [x for x in losses if x]
        figure.add_scatter(
            x=columns["step"],
            y=losses,
            name=f"{split} loss",
            mode="lines",
            line={"color": colour},
            row=1,
            col=1,
        )
    figure.update_xaxes(title="step", row=1, col=1)
    figure.update_yaxes(type="log", exponentformat="power", title="loss (nats)", row=1, col=1)
    return min(found), max(found)


def _bars(
    figure: go.Figure,
    panels: Sequence[Sequence[str]],
    chosen: dict[int, list[np.ndarray]],
    keys: Sequence[int],
) -> None:
    last = list(chosen.values())[-1]
    for col, panel in enumerate(panels, start=1):
        every = np.stack([heights[col - 1] for heights in chosen.values()])
        freqs = np.arange(1, every.shape[1] + 1)
        figure.add_bar(
            x=freqs,
            y=last[col - 1],
            width=0.85,
            marker={"color": [KEY if k in keys else NOT_KEY for k in freqs.tolist()]},
            showlegend=False,
            name=panel[2],
            hovertemplate="frequency %{x}: %{y:.4f}<extra></extra>",
            row=2,
            col=col,
        )
        top, bottom = float(every.max()), min(0.0, float(every.min()))
        room = 0.05 * (top - bottom)
        span = [bottom - room if bottom else 0.0, top + room]
        figure.update_yaxes(title=panel[3], range=span, row=2, col=col)
        figure.update_xaxes(title="frequency", row=2, col=col)


def _mark(step: int, low: float, high: float) -> dict[str, Any]:
    line = {"color": BLACK, "width": 2}
    return {"x": [step, step], "y": [low, high], "mode": "lines", "line": line}


def _frame(
    step: int, heights: Sequence[np.ndarray], mark: dict[str, Any], moved: Sequence[int]
) -> go.Frame:
    bars = [go.Bar(y=y) for y in heights]
    return go.Frame(data=[*bars, go.Scatter(x=mark["x"])], traces=list(moved), name=str(step))


def _slider(steps: Sequence[int]) -> dict[str, Any]:
    now = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}}
    entries = [
        {
            "label": f"{step:,}",
            "method": "animate",
            "args": [[str(step)], {**now, "transition": {"duration": 0}}],
        }
        for step in steps
    ]
    return {
        "active": len(steps) - 1,
        "steps": entries,
        "currentvalue": {"prefix": "step ", "xanchor": "left"},
        "pad": {"t": 55},
        "ticklen": 3,
    }
