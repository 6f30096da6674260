"""Figures of fingerprint_study.py; every run is drawn."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import plotly.graph_objects as go
from _study_figures import high, under
from plotly.subplots import make_subplots

from mechgrok.maths import dmd
from mechgrok.plots._style import BLACK, GREEN, GREY, PALETTE, PURPLE, TEST, TRAIN, entitle, square

if TYPE_CHECKING:
    from _fingerprint_spectra import Observed
    from _moments import Moments

    from mechgrok.runs.fingerprints import Fingerprints
    from mechgrok.runs.run import Run

NAMES: Final = {"answer_log_prob": "answer", "end_log_prob": "end token"}
COLOURS: Final = {"answer_log_prob": GREEN, "end_log_prob": PURPLE}
MARKS: Final = {"memorised": "dot", "onset": "dash", "generalised": "solid"}
COLUMNS: Final = 2
ZOOM: Final = {"x": [0.93, 1.01], "y": [-0.04, 0.04]}


def curves(
    runs: Sequence["Run"],
    moments: Sequence["Moments"],
    fingerprints: Sequence["Fingerprints"],
    observed: Sequence["Observed"],
    first: int,
) -> go.Figure:
    """Accuracies of every run with its moments, and the windowed residual of both observables."""
    rows = -(-len(runs) // COLUMNS)
    pairs = zip(runs, observed[0].decays, strict=True)
    titles = [f"seed {run.seed}, weight decay {decay:g}" for run, decay in pairs]
    figure = make_subplots(
        rows, COLUMNS, subplot_titles=titles, specs=[[{"secondary_y": True}] * COLUMNS] * rows,
        vertical_spacing=0.3 / rows, horizontal_spacing=0.12,
    )  # fmt: skip
    for i, run in enumerate(runs):
        place: Any = {"row": i // COLUMNS + 1, "col": i % COLUMNS + 1}
        evaluated = run.evaluations()
        for split, colour in (("train", TRAIN), ("test", TEST)):
            _line(
                figure, [e["step"] for e in evaluated], [e[f"{split}_acc"] for e in evaluated],
                f"{split} accuracy", colour, i == 0, place, False,
            )  # fmt: skip
        steps = fingerprints[i].between(first).steps
        for one in observed:
            found = one.windows[i]
            _line(
                figure, steps[found.last], found.residuals, f"residual, {NAMES[one.name]}",
                COLOURS[one.name], i == 0, place, True,
            )  # fmt: skip
        for name, dash in MARKS.items():
            step = getattr(moments[i], name)
            if step is not None:
                figure.add_vline(x=step, line={"dash": dash, "width": 1, "color": BLACK}, **place)
    figure.update_yaxes(range=[-0.03, 1.03], secondary_y=False)
    figure.update_yaxes(
        type="log", exponentformat="power", showgrid=False, dtick=1, secondary_y=True
    )
    figure.update_yaxes(title="accuracy", secondary_y=False, col=1)
    figure.update_yaxes(title="residual", secondary_y=True, col=COLUMNS)
    figure.update_xaxes(title="step", row=rows)
    note = (
        "upright lines: memorised (dotted), onset (dashed), generalised (solid);<br>"
        "a residual stands at the last step of its window, relative to |Z'|"
    )
    facts = f"n = {len(runs)} runs, every run drawn"
    return under(entitle(figure, "Accuracy and windowed residual", facts, note, 180 + 200 * rows))


def singular_values(observed: Sequence["Observed"]) -> go.Figure:
    """Singular values of every run's delayed states, relative to the first."""
    figure = make_subplots(
        1, len(observed), subplot_titles=[NAMES[one.name] for one in observed], shared_yaxes=True
    )
    for col, one in enumerate(observed, start=1):
        colours = _colours(one.decays)
        seen: set[float] = set()
        for spectrum, decay in zip(one.spectra, one.decays, strict=True):
            s = spectrum.singular_values
            figure.add_scatter(
                x=np.arange(1, min(len(s), 60) + 1), y=(s / s[0])[:60], mode="lines",
                name=f"weight decay {decay:g}", legendgroup=str(decay), opacity=0.7,
                showlegend=col == 1 and decay not in seen,
                line={"color": colours[decay], "width": 1.2}, row=1, col=col,
            )  # fmt: skip
            seen.add(decay)
        ranks = one.spectra[0].operator.rank
        place: Any = {"row": 1, "col": col}
        figure.add_vline(x=ranks + 0.5, line={"dash": "dot", "color": GREY}, **place)
    figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    figure.update_yaxes(title="singular value / largest", col=1)
    figure.update_xaxes(title="number")
    facts = f"n = {len(observed[0].spectra)} runs; dotted: the rank used"
    return under(entitle(figure, "Singular values of the delayed fingerprints", facts))


def spectra(observed: Sequence["Observed"], lr: float) -> go.Figure:
    """Eigenvalues of all runs by observable and decay: the disc, and near 1."""
    decays = sorted(set(observed[0].decays))
    cases = [(one, decay) for one in observed for decay in decays]
    titles = [
        f"{NAMES[one.name]}, decay {d:g}{part}" for one, d in cases for part in ("", ": near 1")
    ]
    rows = len(cases)
    figure = make_subplots(
        rows, 2, subplot_titles=titles, vertical_spacing=0.26 / rows, column_widths=[0.45, 0.55]
    )
    angle = np.linspace(0, 2 * np.pi, 1000)
    for row, (one, decay) in enumerate(cases, start=1):
        for col in (1, 2):
            place = {"row": row, "col": col}
            figure.add_scatter(
                x=np.cos(angle), y=np.sin(angle), mode="lines", showlegend=False, hoverinfo="skip",
                line={"color": GREY, "width": 1}, **place,
            )  # fmt: skip
            _eigenvalues(figure, one, decay, place)
            _poles(figure, one.spectra[0].record_every, lr, decay, place)
        figure.update_xaxes(range=[-1.1, 1.1], row=row, col=1)
        figure.update_yaxes(range=[-1.1, 1.1], row=row, col=1)
        square(figure, row, 1)
        figure.update_xaxes(range=ZOOM["x"], row=row, col=2)
        figure.update_yaxes(range=ZOOM["y"], row=row, col=2)
    figure.update_layout(
        coloraxis={"colorscale": "Viridis_r", "cmin": -4, "cmax": 0, "colorbar": {
            "title": "residual", "tickvals": [-4, -3, -2, -1, 0],
            "ticktext": ["1e-4", "1e-3", ".01", ".1", "1"], "len": 0.4}}
    )  # fmt: skip
    s = observed[0].spectra[0]
    facts = (
        f"n = {len(observed[0].spectra)} runs, every eigenvalue of rank {s.operator.rank}, "
        f"{s.n_delays} delays, {s.center}, {s.operator.method}; open: residual above .1"
    )
    note = (
        "crosses: poles of weight decay and of Adam's two averages; real axis along, per snapshot"
    )
    return under(
        entitle(figure, "Spectra of every run's fingerprints", facts, note, 160 + 330 * rows)
    )


def distances(rows: Sequence[tuple[str, np.ndarray]], names: Sequence[str]) -> go.Figure:
    """Distance matrices; runs in order of decay."""
    n = -(-len(rows) // 2)
    figure = make_subplots(
        n, 2, subplot_titles=[title for title, _ in rows], vertical_spacing=0.35 / n,
        horizontal_spacing=0.2,
    )  # fmt: skip
    for i, (_, matrix) in enumerate(rows):
        place: Any = {"row": i // 2 + 1, "col": i % 2 + 1}
        axis: Any = figure.get_subplot(**place)
        x, y = axis.xaxis.domain, axis.yaxis.domain
        bar = {"x": x[1] + 0.01, "y": sum(y) / 2, "len": y[1] - y[0], "thickness": 12}
        figure.add_heatmap(
            z=matrix, x=list(names), y=list(names), colorscale="Cividis", colorbar=bar, **place
        )
    figure.update_xaxes(tickangle=90, type="category")
    figure.update_yaxes(type="category")
    figure.update_yaxes(autorange="reversed")
    facts = f"n = {len(names)} runs, decay / seed; trusted eigenvalues, up to the last common step"
    return high(entitle(figure, "Distances between spectra", facts, height=200 + 360 * n))


def grids(
    panels: Sequence[tuple[str, Mapping[tuple[int, int], float]]], title: str, facts: str
) -> go.Figure:
    """Numbers by rank and delays."""
    figure = make_subplots(
        1, len(panels), subplot_titles=[name for name, _ in panels], horizontal_spacing=0.08
    )
    for col, (_, values) in enumerate(panels, start=1):
        ranks = sorted({rank for rank, _ in values})
        delays = sorted({d for _, d in values})
        z = [[values.get((rank, d), np.nan) for rank in ranks] for d in delays]
        figure.add_heatmap(
            z=z, x=[str(r) for r in ranks], y=[str(d) for d in delays], colorscale="Cividis",
            texttemplate="%{z:.2~g}", showscale=False, row=1, col=col,
        )  # fmt: skip
    figure.update_xaxes(title="rank", type="category")
    figure.update_yaxes(type="category")
    figure.update_yaxes(title="delays", col=1)
    return entitle(figure, title, facts, height=420)


def pooled(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Moduli of one operator per decay and observable, with intervals over runs."""
    figure = go.Figure()
    for i, row in enumerate(rows):
        moduli = np.array(row["moduli"])
        spread = np.array(row.get("intervals", np.column_stack([moduli, moduli])))
        figure.add_scatter(
            x=np.arange(len(moduli)) + 1 + 0.12 * i, y=moduli, mode="markers",
            name=f"{NAMES[row['observable']]}, decay {row['decay']:g}",
            marker={"color": PALETTE[i % len(PALETTE)], "size": 8},
            error_y={"type": "data", "symmetric": False, "array": spread[:, 1] - moduli,
                     "arrayminus": moduli - spread[:, 0]},
        )  # fmt: skip
    figure.update_xaxes(title="number, by falling modulus; conjugates once")
    figure.update_yaxes(title="modulus per snapshot")
    facts = "one operator of all runs of a decay; bars: 95 % over whole runs, from 5 runs on"
    return under(entitle(figure, "Moduli of the pooled operators", facts))


def _line(
    figure: go.Figure, x: Any, y: Any, name: str, colour: str, legend: bool,
    place: Mapping[str, int], secondary: bool,
) -> None:  # fmt: skip
    figure.add_scatter(
        x=x, y=y, name=name, legendgroup=name, showlegend=legend, mode="lines",
        line={"color": colour, "width": 1.3}, secondary_y=secondary, **place,
    )  # fmt: skip


def _eigenvalues(
    figure: go.Figure, one: "Observed", decay: float, place: Mapping[str, int]
) -> None:
    for i, (spectrum, of) in enumerate(zip(one.spectra, one.decays, strict=True)):
        if of != decay:
            continue
        values, residuals = spectrum.operator.eigenvalues, spectrum.operator.residuals
        figure.add_scatter(
            x=np.real(values), y=np.imag(values), mode="markers", showlegend=False,
            marker={
                "symbol": ["circle" if t else "circle-open" for t in spectrum.trusted],
                "color": np.log10(np.maximum(residuals, 1e-8)), "coloraxis": "coloraxis",
                "size": 7, "opacity": 0.85,
            },
            hovertemplate=f"run {i}: %{{x:.4f}} + %{{y:.4f}}i<extra></extra>", **place,
        )  # fmt: skip


def _poles(
    figure: go.Figure, every: int, lr: float, decay: float, place: Mapping[str, int]
) -> None:
    poles = dmd.reference_poles(every, lr, decay, (0.9, 0.98))
    figure.add_scatter(
        x=list(poles.values()), y=[0.0] * len(poles), mode="markers", text=list(poles),
        showlegend=False, marker={"symbol": "x-thin", "size": 11, "line": {"width": 2}},
        hovertemplate="%{text}: %{x:.4f}<extra></extra>", **place,
    )  # fmt: skip


def _colours(decays: Sequence[float]) -> dict[float, str]:
    return dict(zip(sorted(set(decays)), PALETTE, strict=False))
