"""Pictures of early_warning.py: every run, every signal's concordance, every alarm."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import plotly.graph_objects as go
from _warning_findings import CLAIMED
from _warning_ranking import Followed
from _warning_signals import Settings, residual_name
from plotly.subplots import make_subplots

from mechgrok.plots._style import BLACK, BLUE, GREY, ORANGE, VERMILION, entitle

if TYPE_CHECKING:
    from mechgrok.runs.run import Run

KINDS: Final = {"generalised": BLUE, "onset only": ORANGE, "neither": GREY}


def kind(run: Followed) -> str:
    """What became of a run: one of KINDS."""
    if run.moments.generalised is not None:
        return "generalised"
    return "neither" if run.moments.onset is None else "onset only"


def every_run(sets: Mapping[str, Sequence[tuple["Run", Followed]]], of: Settings) -> go.Figure:
    """Validation accuracy and both published residuals of every run, by set."""
    rows = ("validation accuracy", "residual of answer", "residual of end token")
    by_row: Any = "rows"
    titles = [f"{name.replace('_', ' ')} (n = {len(runs)})" for name, runs in sets.items()]
    figure = make_subplots(
        rows=3, cols=len(sets), shared_xaxes=True, shared_yaxes=by_row, vertical_spacing=0.04,
        horizontal_spacing=0.04, column_titles=titles,
    )  # fmt: skip
    named: set[str] = set()
    for col, runs in enumerate(sets.values(), start=1):
        for run, followed in runs:
            name = kind(followed)
            curves = [[(e["step"], e["test_acc"]) for e in run.evaluations()]]
            for observable in ("answer", "end token"):
                signal = followed.signals[residual_name(observable, *of.choices[0])]
                curves.append(list(zip(signal.steps, signal.values, strict=True)))
            for row, points in enumerate(curves, start=1):
                figure.add_scatter(
                    x=[x for x, _ in points], y=[y for _, y in points], mode="lines", name=name,
                    legendgroup=name, showlegend=name not in named, opacity=0.6,
                    line={"color": KINDS[name], "width": 1},
                    text=followed.moments.run, hovertemplate="%{text}, step %{x}: %{y:.3g}",
                    row=row, col=col,
                )  # fmt: skip
                named.add(name)
            if followed.moments.onset is not None:
                accuracy = dict(curves[0]).get(followed.moments.onset)
                figure.add_scatter(
                    x=[followed.moments.onset], y=[accuracy], mode="markers", name="onset",
                    legendgroup="onset", showlegend="onset" not in named,
                    marker={"color": BLACK, "size": 5}, row=1, col=col,
                )  # fmt: skip
                named.add("onset")
    for at in of.landmarks:
        figure.add_vline(x=at, line={"color": "#888", "dash": "dot", "width": 1})
    for row, title in enumerate(rows, start=1):
        figure.update_yaxes(title=title, row=row, col=1)
    for row in (2, 3):
        figure.update_yaxes(type="log", exponentformat="power", dtick=1, row=row)
    figure.update_xaxes(title="step", row=3)
    facts = f"n = {sum(map(len, sets.values()))} runs, every run drawn; dotted: landmarks"
    rank, window = of.choices[0]
    note = f"residual as published: rank {rank} of {of.n_delays} delays, {window} snapshots"
    return entitle(figure, "Runs and the published signal", facts, note, height=900)


def concordances(found: Mapping[str, Any]) -> go.Figure:
    """Mean over landmarks of every signal on both outcomes, with intervals over runs."""
    panels = {"C": "C, time to onset", "AUROC onset": "AUROC, onset or not"}
    figure = make_subplots(
        rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.03,
        subplot_titles=list(panels.values()),
    )  # fmt: skip
    for col, outcome in enumerate(panels, start=1):
        for label, colour, symbol in (
            ("calibration", GREY, "circle-open"), ("held_out", BLUE, "circle"),
        ):  # fmt: skip
            rows = [r for r in found["ranking"].get(label, []) if r["outcome"] == outcome]
            intervals = [row["interval"] if label == "held_out" else None for row in rows]
            figure.add_scatter(
                x=[row["mean"] for row in rows], y=[row["signal"] for row in rows], mode="markers",
                name=label.replace("_", " "), legendgroup=label, showlegend=col == 1,
                marker={"color": colour, "symbol": symbol, "size": 9},
                error_x=_bars([row["mean"] for row in rows], intervals, colour), row=1, col=col,
            )  # fmt: skip
        place: dict[str, Any] = {"row": 1, "col": col}
        figure.add_vline(x=0.5, line={"color": BLACK, "width": 1}, **place)
        if outcome != "C":
            figure.add_vline(x=CLAIMED, line={"color": VERMILION, "dash": "dash"}, **place)
    figure.update_xaxes(range=[-0.03, 1.03])
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(showlegend=True)
    risk = ", ".join(
        f"{row['runs']} at {row['landmark']:,}" for row in found["at_risk"]["held_out"]
    )
    facts = f"held-out runs before onset: {risk}; 95 % bootstrap over runs; .5 is a clock"
    note = f"mean over landmarks; dashed: AUROC of about {CLAIMED} that the paper reports"
    return entitle(figure, "What ranks runs before onset", facts, note, height=640)


def _bars(
    means: Sequence[float], intervals: Sequence[Sequence[float] | None], colour: str
) -> dict[str, Any]:
    if not all(intervals):
        return {"visible": False}
    known = [(m, i) for m, i in zip(means, intervals, strict=True) if i is not None]
    return {
        "type": "data",
        "symmetric": False,
        "array": [max(0.0, i[1] - m) for m, i in known],
        "arrayminus": [max(0.0, m - i[0]) for m, i in known],
        "color": colour,
        "thickness": 1.5,
    }


def lead_times(found: Mapping[str, Any]) -> go.Figure:
    """Every alarm before an onset by its lead, and counts of hits and false alarms."""
    rows = [row for row in found["alarms"] if "hits" in row]
    names = [
        f"{r['signal']}: {r['hits']} of {r['with_onset']}, false {r['false_alarms']} of "
        f"{r['without_onset']}"
        for r in rows
    ]
    figure = go.Figure()
    figure.add_scatter(
        x=[lead for row in rows for lead in row["leads"]],
        y=[name for row, name in zip(rows, names, strict=True) for _ in row["leads"]],
        mode="markers", name="one alarm", marker={"color": BLUE, "size": 8, "opacity": 0.5},
    )  # fmt: skip
    figure.add_scatter(
        x=[row["median_lead"] for row in rows], y=names, mode="markers", name="median",
        marker={"color": VERMILION, "symbol": "line-ns-open", "size": 14},
    )  # fmt: skip
    figure.update_xaxes(title="lead: steps from alarm to onset", rangemode="tozero")
    figure.update_yaxes(categoryorder="array", categoryarray=names[::-1])
    figure.update_layout(showlegend=True)
    facts = (
        f"n = {len(found['alarms'][0].get('raised', {}))} held-out runs; hits of runs with onset"
    )
    note = "false: alarms in runs without onset; thresholds from calibration runs"
    return entitle(figure, "Alarms before onset", facts, note, height=600)
