"""Figures of perturbation_study.py; every run is drawn."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import plotly.graph_objects as go
from _study_figures import under
from plotly.subplots import make_subplots

from mechgrok.plots._style import BLACK, BLUE, GREEN, GREY, ORANGE, VERMILION, entitle

if TYPE_CHECKING:
    from _perturbation_report import Group

    from mechgrok.runs.run import Run

TITLES: Final = {
    "divergence": "Distance from the control",
    "early": "Growth of small differences",
    "accuracy": "Test accuracy",
    "times": "Times",
    "spectra": "Distances between spectra",
}
UNITS: Final = {
    "weights": "weights, relative",
    "fingerprints": "fingerprints (nats)",
    "predictions": "predictions (nats)",
    "answers": "answers (share)",
}
COLOURS: Final = {1e-5: BLUE, 1e-4: GREEN, 1e-3: ORANGE, 1e-2: VERMILION}
EARLY: Final = 600
"""Steps of the figure of growth."""


def divergence(groups: Sequence["Group"]) -> go.Figure:
    """Distances over all of training; those between seeds in grey."""
    figure = _panels(groups, list(UNITS))
    shown: set[str] = set()
    for col, group in enumerate(groups, start=1):
        for row, kind in enumerate(UNITS, start=1):
            place = {"row": row, "col": col}
            for i, found in enumerate(group.apart[kind]):
                _line(figure, found, "two seeds", GREY, shown, place, f"pair {i}")
            for run in group.perturbed:
                found = group.distances[kind][run.name]
                scale = run.config.perturbation.scale
                _line(figure, found, f"scale {scale:g}", _colour(run), shown, place, run.name)
    figure.update_yaxes(type="linear", range=[-0.03, 1.03], row=len(UNITS))
    facts = f"{_counts(groups)}<br>every run drawn"
    return under(entitle(figure, "Distance from the control", facts, height=960))


def early(groups: Sequence["Group"]) -> go.Figure:
    """The first steps of weights and fingerprints, as they are and divided by the scale."""
    rows = [(kind, by) for kind in ("weights", "fingerprints") for by in (False, True)]
    titles = [f"{kind}{' / scale' if by else ''}" for kind, by in rows]
    figure = _panels(groups, titles)
    shown: set[str] = set()
    for col, group in enumerate(groups, start=1):
        for row, (kind, by) in enumerate(rows, start=1):
            for run in group.perturbed:
                found, scale = group.distances[kind][run.name], run.config.perturbation.scale
                kept = found.steps <= EARLY
                values = found.values[kept] / (scale if by else 1)
                cut = type(found)(found.steps[kept], values)
                place = {"row": row, "col": col}
                _line(figure, cut, f"scale {scale:g}", _colour(run), shown, place, run.name)
    facts = f"{_counts(groups)}<br>equal curves after division: a linear response"
    return under(entitle(figure, "Growth of small differences", facts, height=960))


def accuracy(groups: Sequence["Group"]) -> go.Figure:
    """Test accuracy of control, perturbed runs and seeds."""
    figure = make_subplots(
        len(groups), 1, subplot_titles=[group.name for group in groups],
        vertical_spacing=0.25 / len(groups),
    )  # fmt: skip
    shown: set[str] = set()
    for row, group in enumerate(groups, start=1):
        for run in [*group.seeds, *group.perturbed, group.control]:
            name, colour = _kind(run, group)
            rows = run.evaluations()
            figure.add_scatter(
                x=[e["step"] for e in rows], y=[e["test_acc"] for e in rows], mode="lines",
                name=name, legendgroup=name, showlegend=name not in shown, opacity=0.8,
                line={"color": colour, "width": 2.5 if run is group.control else 1.2},
                hovertemplate=f"{run.name}<br>step %{{x}}: %{{y:.3f}}<extra></extra>",
                row=row, col=1,
            )  # fmt: skip
            shown.add(name)
    figure.update_yaxes(title="accuracy (fraction)", range=[-0.03, 1.03])
    figure.update_xaxes(title="step", row=len(groups))
    facts = f"{_counts(groups)}<br>every run drawn"
    return under(entitle(figure, "Test accuracy", facts, height=220 + 280 * len(groups)))


def times(groups: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Memorised and generalised of every recorded run; open: censored."""
    names = ("memorised", "generalised")
    figure = make_subplots(
        len(groups), len(names), vertical_spacing=0.3 / len(groups),
        subplot_titles=[f"{group['group']}: {name}" for group in groups for name in names],
    )  # fmt: skip
    for row, group in enumerate(groups, start=1):
        for col, name in enumerate(names, start=1):
            for kind, colour, points in _points(group, name):
                figure.add_scatter(
                    x=[step for step, _ in points], y=[kind] * len(points), mode="markers",
                    marker={
                        "color": colour, "size": 10, "opacity": 0.7,
                        "symbol": ["circle" if seen else "triangle-right-open"
                                   for _, seen in points],
                    },
                    row=row, col=col,
                )  # fmt: skip
    figure.update_yaxes(type="category", col=1)
    figure.update_yaxes(type="category", showticklabels=False, col=2)
    figure.update_xaxes(title="step", row=len(groups))
    counts = {g["group"]: Counter(row["kind"] for row in g["runs"]) for g in groups}
    each = {name: (kinds["perturbed"], kinds["seed"]) for name, kinds in counts.items()}
    facts = f"{_said(each)}<br>open triangle: censored, later than this"
    entitle(figure, "Times of every run", facts, height=200 + 260 * len(groups))
    return under(figure).update_layout(showlegend=False)


def spectra(groups: Sequence["Group"]) -> go.Figure:
    """W1 between all pairs of runs of a group."""
    figure = make_subplots(
        1, len(groups), subplot_titles=[group.name for group in groups], horizontal_spacing=0.25
    )
    for col, group in enumerate(groups, start=1):
        names = [_label(run, group) for run in group.runs]
        place: Any = figure.get_subplot(1, col)
        bar = {"x": place.xaxis.domain[1] + 0.01, "thickness": 12}
        figure.add_heatmap(
            z=group.matrix, x=names, y=names, colorscale="Cividis", colorbar=bar, row=1, col=col
        )
    figure.update_xaxes(tickangle=90, type="category")
    figure.update_yaxes(autorange="reversed", type="category")
    facts = f"{_counts(groups)}<br>W1 of trusted eigenvalues, answer, up to the last common step"
    return under(entitle(figure, "Distances between spectra", facts, height=620))


def _panels(groups: Sequence["Group"], rows: Sequence[str]) -> go.Figure:
    figure = make_subplots(
        len(rows), len(groups), column_titles=[group.name for group in groups],
        vertical_spacing=0.06, horizontal_spacing=0.1,
    )  # fmt: skip
    for row, name in enumerate(rows, start=1):
        figure.update_yaxes(title=UNITS.get(name, name), row=row, col=1)
    figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    figure.update_xaxes(title="step", row=len(rows))
    return figure


def _line(
    figure: go.Figure, found: Any, name: str, colour: str, shown: set[str],
    place: Mapping[str, int], run: str,
) -> None:  # fmt: skip
    every = max(1, len(found.steps) // 400)
    figure.add_scatter(
        x=found.steps[::every], y=found.values[::every],
        mode="lines", name=name, legendgroup=name, showlegend=name not in shown, opacity=0.75,
        line={"color": colour, "width": 1.2},
        hovertemplate=f"{run}<br>step %{{x}}: %{{y:.3g}}<extra></extra>", **place,
    )  # fmt: skip
    shown.add(name)


def _points(group: Mapping[str, Any], name: str) -> list[tuple[str, str, list[tuple[int, bool]]]]:
    """Kind, colour, and (step, whether it was seen) of its runs."""
    found: dict[str, tuple[str, list[tuple[int, bool]]]] = {}
    others = {"control": ("control", BLACK), "seed": ("other seeds", GREY)}
    for row in group["runs"]:
        scale = row["scale"]
        kind, colour = others.get(row["kind"], (f"scale {scale:g}", COLOURS.get(scale, ORANGE)))
        place = (row["last"], False) if row[name] is None else (row[name], True)
        found.setdefault(kind, (colour, []))[1].append(place)
    for row in group["recorded_seeds"]:
        seen = row[name] is not None
        point = (row[name] if seen else row["steps"], seen)
        found.setdefault("recorded seeds", (GREY, []))[1].append(point)
    return [(kind, colour, points) for kind, (colour, points) in found.items()]


def _kind(run: "Run", group: "Group") -> tuple[str, str]:
    if run is group.control:
        return "control", BLACK
    if run in group.seeds:
        return "other seeds", GREY
    return f"scale {run.config.perturbation.scale:g}", _colour(run)


def _label(run: "Run", group: "Group") -> str:
    if run is group.control:
        return "control"
    asked = run.config.perturbation
    return f"seed {run.seed}" if run in group.seeds else f"{asked.scale:g} / {asked.seed}"


def _colour(run: "Run") -> str:
    return COLOURS.get(run.config.perturbation.scale, ORANGE)


def _counts(groups: Sequence["Group"]) -> str:
    return _said({group.name: (len(group.perturbed), len(group.seeds)) for group in groups})


def _said(each: Mapping[str, tuple[int, int]]) -> str:
    """Perturbed runs and seeds of every group, in words."""
    parts = (f"{name}: 1 control, {n} perturbed, {m} seeds" for name, (n, m) in each.items())
    return "n runs: " + "<br>".join(parts)
