"""Pictures of the two-hop experiment: every run's point."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from _study_figures import under
from _two_hop_verdicts import CELLS, PAPER
from plotly.colors import qualitative
from plotly.subplots import make_subplots

from mechgrok.plots._style import entitle

Rows = Sequence[Mapping[str, Any]]

MEASURES = {
    "ood": "OOD exact match",
    "lens": "lens excess",
    "probe": "probe selectivity",
    "swap": "swap excess",
}
HOPS = {"new_old": "new + old", "old_new": "old + new", "new_new": "new + new"}
COLOURS = qualitative.Safe


def label(row: Mapping[str, Any]) -> str:
    """Regime, and the model where it is not the recursive one."""
    regime = row["regime"].replace("_", " ")
    return regime if row["model"] == "trm" else f"{row['model'].replace('_', ' ')}, {regime}"


def table_figure(rows: Rows) -> go.Figure:
    """Exact match, lens, probe and swap by regime at the last step; untrained models open."""
    drawn = make_subplots(
        rows=1, cols=len(MEASURES), shared_yaxes=True, subplot_titles=list(MEASURES.values())
    )
    for column, name in enumerate(MEASURES, 1):
        for seed in sorted({row["seed"] for row in rows}):
            mine = [row for row in rows if row["seed"] == seed]
            for trained in (True, False):
                word = "" if trained else ", untrained"
                drawn.add_scatter(
                    x=[label(row) for row in mine],
                    y=[(row if trained else row["untrained"])[name] for row in mine],
                    mode="markers",
                    marker={
                        "symbol": "circle" if trained else "circle-open",
                        "size": 9 if trained else 7,
                        "color": COLOURS[seed % len(COLOURS)],
                    },
                    name=f"seed {seed}{word}",
                    legendgroup=f"{seed}{word}",
                    showlegend=column == 1,
                    row=1,
                    col=column,
                )
    drawn.update_yaxes(range=[-0.25, 1.03])
    drawn.update_yaxes(title="fraction", col=1)
    facts = f"n = {len(rows)} runs at their last step; open: the same models untrained"
    return under(
        entitle(drawn, "Two-hop models: what is answered, and what holds it", facts, height=560)
    )


def finetuning_figure(rows: Rows) -> go.Figure:
    """Exact match on queries of new facts at the end, by arm; the paper's figures as dashes."""
    new = [row for row in rows if row["facts"] == "new"]
    drawn = make_subplots(
        rows=1, cols=len(CELLS), shared_yaxes=True, subplot_titles=list(HOPS.values())
    )
    names = list(dict.fromkeys(row["arm"] for row in new))
    labels = {
        name: name.replace("__new", "").replace("__", ", ").replace("_", " ") for name in names
    }
    for column, cell in enumerate(CELLS, 1):
        for seed in sorted({row["seed"] for row in new}):
            mine = [row for row in new if row["seed"] == seed]
            drawn.add_scatter(
                x=[labels[row["arm"]] for row in mine],
                y=[row["at_end"][cell] for row in mine],
                mode="markers",
                marker={"size": 9, "color": COLOURS[seed % len(COLOURS)]},
                name=f"seed {seed}",
                legendgroup=str(seed),
                showlegend=column == 1,
                row=1,
                col=column,
            )
        whole = {r["arm"]: r["start"] for r in new if r["trained"] == "embedding+body"}
        known = {
            labels[arm]: PAPER[start][column - 1] for arm, start in whole.items() if start in PAPER
        }
        drawn.add_scatter(
            x=list(known),
            y=list(known.values()),
            mode="markers",
            marker={"symbol": "line-ew-open", "size": 14, "line": {"width": 3}, "color": "black"},
            name="arXiv 2601.09049",
            legendgroup="paper",
            showlegend=column == 1,
            row=1,
            col=column,
        )
    drawn.update_yaxes(range=[-0.03, 1.03])
    drawn.update_yaxes(title="exact match", col=1)
    facts = f"n = {len(new)} runs, 60 new facts taught by their atomic query alone"
    return under(entitle(drawn, "Use of new facts after fine-tuning", facts, height=600))
