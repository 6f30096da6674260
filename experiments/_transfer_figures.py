"""Pictures of the transfer experiment: every seed of the core arms, and transfer over training."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from _study_figures import under
from _transfer_arms import CORE
from plotly.colors import qualitative
from plotly.subplots import make_subplots

from mechgrok.plots._style import entitle

NAMES = {
    "grokked": "grokked",
    "memorised": "memo-<br>rised",
    "spectrum_matched": "spectrum<br>matched",
    "w_out_permuted": "W_out<br>permuted",
    "random_init": "random",
}
COLOURS = qualitative.Safe
PANELS = {
    "T0": "T0: the same operation",
    "T1": "T1: addition mod p - 1",
    "T3": "T3: dihedral group",
}


def arms_figure(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Test accuracy of the frozen bodies: a line per seed over donors, a panel per target."""
    drawn = make_subplots(
        rows=1, cols=len(PANELS), shared_yaxes=True, subplot_titles=list(PANELS.values())
    )
    for column, target in enumerate(PANELS, 1):
        mine = {
            row["donor"]: row
            for row in rows
            if (row["target"], row["taken"], row["trained"]) == (target, "body", "embedding")
            and row["donor"] in CORE
            and row["fraction"] == (0.3 if target == "T0" else 0.4)
        }
        donors = [name for name in CORE if name in mine]
        seeds = sorted({s for name in donors for s in mine[name]["seeds"]}, key=int)
        for seed in seeds:
            drawn.add_scatter(
                x=[NAMES[name] for name in donors],
                y=[mine[name]["seeds"].get(seed) for name in donors],
                mode="lines+markers",
                name=f"seed {seed}",
                line={"width": 1, "color": COLOURS[int(seed) % len(COLOURS)]},
                opacity=0.7,
                legendgroup=seed,
                showlegend=column == 1,
                row=1,
                col=column,
            )
        drawn.add_scatter(
            x=[NAMES[name] for name in donors],
            y=[mine[name]["test_acc"] for name in donors],
            mode="markers",
            marker={"symbol": "line-ew-open", "size": 28, "line": {"width": 3}, "color": "black"},
            name="mean",
            legendgroup="mean",
            showlegend=column == 1,
            row=1,
            col=column,
        )
        untwinned = [mine[name]["test_acc_no_twin"] for name in donors]
        if None not in untwinned:  # D_n does not commute
            drawn.add_scatter(
                x=[NAMES[name] for name in donors],
                y=untwinned,
                mode="markers",
                marker={"symbol": "diamond-open", "size": 11, "color": "black"},
                name="mean over pairs whose swapped twin is not trained on",
                legendgroup="untwinned",
                showlegend=column == 1,
                row=1,
                col=column,
            )
    drawn.update_yaxes(range=[-0.03, 1.03])
    drawn.update_yaxes(title="test accuracy at step 4,000", col=1)
    drawn.update_xaxes(tickangle=0, tickfont_size=10)
    drawn.update_annotations(font_size=13)
    n = len({seed for row in rows if _in_core(row) for seed in row["seeds"]})
    facts = f"quick (p = 59), n = {n} seeds, each donor's body frozen on the target's own facts"
    return under(entitle(drawn, "Frozen donor bodies under a fresh embedding", facts, height=520))


def others_figure(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Test accuracy of the arms outside the core set, a line per arm with every seed on it."""
    mine = [row for row in rows if not _in_core(row)]
    names = [_label(row) for row in mine]
    drawn = go.Figure()
    for seed in sorted({s for row in mine for s in row["seeds"]}, key=int):
        drawn.add_scatter(
            x=[row["seeds"].get(seed) for row in mine],
            y=names,
            mode="markers",
            marker={"color": COLOURS[int(seed) % len(COLOURS)], "size": 8},
            opacity=0.75,
            name=f"seed {seed}",
        )
    drawn.add_scatter(
        x=[row["test_acc"] for row in mine],
        y=names,
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 16, "line": {"width": 3}, "color": "black"},
        name="mean",
    )
    drawn.update_yaxes(autorange="reversed", automargin=True)
    drawn.update_xaxes(range=[-0.03, 1.03], title="test accuracy at step 4,000")
    height = 190 + 24 * len(mine)
    facts = f"{len(mine)} arms, n = {sum(len(row['seeds']) for row in mine)} runs, every one drawn"
    return under(entitle(drawn, "Other arms of the transfer experiment", facts, height=height))


def _in_core(row: Mapping[str, Any]) -> bool:
    frozen = (row["taken"], row["trained"]) == ("body", "embedding")
    own_share = row["fraction"] == (0.3 if row["target"] == "T0" else 0.4)
    return frozen and row["target"] in PANELS and row["donor"] in CORE and own_share


def _label(row: Mapping[str, Any]) -> str:
    """`T0 .3: body of grokked, train embedding+body`."""
    share = f"{row['fraction']:g}".lstrip("0")
    donor = row["donor"].replace("_", " ")
    taken = "all fresh" if row["donor"] == "none" else f"{row['taken']} of {donor}"
    taken = taken.replace("embedding+body of", "whole")
    return (
        f"{row['target']} {share}: {taken}, train {row['trained'].replace('embedding+body', 'all')}"
    )


def progress_figure(found: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Transfer accuracy of every checkpoint's frozen body, and the run's own test accuracy."""
    titles = [f"donor seed {one['seed']}" for one in found]
    drawn = make_subplots(rows=1, cols=len(found), shared_yaxes=True, subplot_titles=titles)
    lines = (("transfer_acc", "frozen body on the renamed task"), ("test_acc", "the run itself"))
    for column, one in enumerate(found, 1):
        for name, label in lines:
            drawn.add_scatter(
                x=one["steps"],
                y=one[name],
                mode="lines+markers",
                name=label,
                legendgroup=name,
                line={"dash": "solid" if name == "transfer_acc" else "dot"},
                showlegend=column == 1,
                row=1,
                col=column,
            )
    drawn.update_xaxes(title="donor step")
    drawn.update_yaxes(title="test accuracy", range=[-0.03, 1.03], col=1)
    facts = f"n = {len(found)} donor run, {sum(len(one['steps']) for one in found)} checkpoints"
    return under(entitle(drawn, "Transfer accuracy of a run's checkpoints", facts))
