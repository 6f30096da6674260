"""Loss and accuracy without each head, the position, the skip path and each cluster of neurons.

A cluster stands beside random sets of as many other neurons, drawn as open circles.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechgrok.plots._style import BLACK, BLUE, GREEN, VERMILION, absence, dress, sentence
from mechgrok.runs.result import Result
from mechgrok.runs.run import Run

NEEDS: Final = ("component_ablation", "neuron_ablation")
TITLE: Final = "Ablation of components"
MODES: Final = {"zero": VERMILION, "mean": BLUE, "resample": GREEN}
PANELS: Final = (("loss", "loss (nats)"), ("accuracy", "accuracy (fraction)"))
CLUSTER: Final = re.compile(r"(\d+)_size")
CONTROL: Final = "control: as many other neurons"
OTHER: Final = "as its label says"
SYMBOLS: Final = {"zero": "circle", "mean": "square", "resample": "triangle-up", OTHER: "diamond"}
HEAD_SHIFT: Final = {"zero": -0.12, "mean": 0.12}
SHIFT: Final = 0.22
"""Between the modes of one cluster."""


def plot(run: Run) -> go.Figure:
    """Points, as a bar has no foot on a logarithmic axis; the dotted line is the intact model."""
    saved, clusters = run.result("component_ablation"), run.result("neuron_ablation")
    reason = absence(saved)
    if reason is not None and _number(saved, "original_loss") is None:
        return sentence(TITLE, run, reason)
    figure = make_subplots(
        rows=2,
        cols=2,
        shared_xaxes=True,
        shared_yaxes=True,
        subplot_titles=["components", "clusters of neurons, by frequency"],
        column_widths=[0.55, 0.45],
        horizontal_spacing=0.03,
        vertical_spacing=0.06,
    )
    for row, (value, title) in enumerate(PANELS, start=1):
        _components(figure, saved, value, row)
        _clusters(figure, clusters, value, row)
        figure.update_yaxes(title=title, row=row, col=1)
        line = {"color": BLACK, "width": 1, "dash": "dot"}
        figure.add_hline(y=saved[f"original_{value}"], line=line, row=row)  # pyright: ignore
    figure.update_yaxes(type="log", exponentformat="power", row=1)
    figure.update_yaxes(range=[-0.03, 1.05], row=2)
    figure.update_layout(legend={"orientation": "h", "y": -0.26})
    note = f"judged on {saved.definition['split']}; dotted: the intact model"
    return dress(figure, TITLE, run, saved.step, note=note, height=660)


def names(saved: Result) -> list[str]:
    """Every edit that has a number, the intact model left out."""
    losses = [name for name in saved.values if name.endswith("_loss")]
    edits = [name.removesuffix("_loss") for name in losses if _number(saved, name) is not None]
    return [name for name in edits if name != "original"]


def _number(saved: Result, name: str) -> float | None:
    found = saved.values.get(name)
    return float(found) if isinstance(found, int | float) else None


def _components(figure: go.Figure, saved: Result, value: str, row: int) -> None:
    edits = names(saved)
    parts = list(dict.fromkeys(_part(name) for name in edits))
    for mode, colour in {**MODES, OTHER: BLACK}.items():
        own = [name for name in edits if _mode(name) == mode]
        if not own:
            continue
        figure.add_scatter(
            x=[parts.index(_part(name)) + HEAD_SHIFT.get(mode, 0) for name in own],
            y=[_number(saved, f"{name}_{value}") for name in own],
            mode="markers",
            marker={"color": colour, "size": 10, "symbol": SYMBOLS[mode]},
            name=mode,
            legendgroup=mode,
            showlegend=row == 1,
            text=own,
            hovertemplate="%{text}: %{y:.4g}<extra></extra>",
            row=row,
            col=1,
        )
    ticks = {"tickvals": list(range(len(parts))), "ticktext": parts, "tickangle": -35}
    figure.update_xaxes(**ticks, row=row, col=1)


def _part(name: str) -> str:
    return name.removesuffix(f" {_mode(name)}")


def _mode(name: str) -> str:
    last = name.rpartition(" ")[2]
    return last if last in MODES else OTHER


def _clusters(figure: go.Figure, saved: Result, value: str, row: int) -> None:
    if absence(saved) is not None:
        figure.update_xaxes(visible=False, row=row, col=2)
        return
    freqs = sorted(int(found[1]) for found in map(CLUSTER.fullmatch, saved.values) if found)
    for mode in MODES:
        own = [(k, saved[f"{k} {mode}_{value}"]) for k in freqs]
        _sets(figure, row, freqs, own, mode)
        _sets(figure, row, freqs, _controls(saved, value, mode), mode, control=True)
    ticks = {"tickvals": list(range(len(freqs))), "ticktext": [str(k) for k in freqs]}
    figure.update_xaxes(**ticks, row=row, col=2)
    if row == len(PANELS):
        figure.update_xaxes(title="frequency of the cluster", row=row, col=2)


def _controls(saved: Result, value: str, mode: str) -> list[tuple[int, float]]:
    """(frequency of the cluster, what its random neurons did), one per draw."""
    at = list(MODES).index(mode), [name for name, _ in PANELS].index(value)
    return [
        (int(name.removeprefix("controls ")), float(x))
        for name, drawn in saved.arrays.items()
        if name.startswith("controls ")
        for x in drawn[at[0], :, at[1]]
    ]


def _sets(
    figure: go.Figure,
    row: int,
    freqs: list[int],
    points: Sequence[tuple[int, Any]],
    mode: str,
    control: bool = False,
) -> None:
    """One mode of every cluster, or of its controls."""
    aside = SHIFT * (list(MODES).index(mode) - 1)
    marker: dict[str, Any] = {"color": MODES[mode], "size": 10, "symbol": SYMBOLS[mode]}
    if control:
        marker |= {"size": 8, "symbol": "circle-open", "line": {"width": 1.5}}
    # zero and mean have their entries in the legend from the components
    named = mode == ("zero" if control else "resample")
    figure.add_scatter(
        x=[freqs.index(k) + aside for k, _ in points],
        y=[y for _, y in points],
        mode="markers",
        marker=marker,
        name=CONTROL if control else mode,
        legendgroup="control" if control else mode,
        showlegend=row == 1 and named,
        hovertemplate=f"{mode}: %{{y:.4g}}<extra></extra>",
        row=row,
        col=2,
    )
