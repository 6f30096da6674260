"""Activation patching by component and position: what each clean activation alone restores."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechgrok.plots._style import SIGNED, entitle

if TYPE_CHECKING:
    import pandas as pd

NEEDS: Final = ()
"""Tables of `mg.patch` are given by the caller; no measure keeps them."""
TITLE: Final = "Activation patching by position"


def plot(tables: "Mapping[str, pd.DataFrame]", columns: Sequence[str], facts: str) -> go.Figure:
    """One panel per table of `mg.patch(...).table()`, by name; `columns` names the positions.

    1 is the clean run, 0 the corrupted one; an effect that does not exist is empty. Raises
    ValueError for no table.
    """
    if not tables:
        raise ValueError("got no tables; pass those of mg.patch(..., position='each').table()")
    figure = make_subplots(
        rows=1,
        cols=len(tables),
        shared_yaxes=True,
        subplot_titles=list(tables),
        horizontal_spacing=0.04,
    )
    deepest = 0
    for col, table in enumerate(tables.values(), start=1):
        rows = [str(name).rsplit(" @", 1)[0] for name in table["node"]]
        names = list(dict.fromkeys(rows))
        deepest = max(deepest, len(names))
        cells: list[list[float | None]] = [[None] * len(columns) for _ in names]
        for name, position, effect in zip(rows, table["position"], table["effect"], strict=True):
            cells[names.index(name)][int(position)] = None if effect is None else float(effect)
        figure.add_heatmap(
            x=list(columns),
            y=names,
            z=cells,
            colorscale=SIGNED,
            zmid=0,
            zmin=-1,
            zmax=1,
            xgap=2,
            ygap=2,
            texttemplate="%{z:.2f}",
            showscale=col == len(tables),
            colorbar={"title": "effect"},
            hovertemplate="%{y} at %{x}: %{z:.4g}<extra></extra>",
            row=1,
            col=col,
        )
    figure.update_xaxes(title="position", type="category", ticks="", showline=False)
    figure.update_yaxes(autorange="reversed", ticks="", showline=False)
    one = next(iter(tables.values()))
    note = (
        f"{one['metric'].iloc[0]}, n = {one['n'].iloc[0]:,} rows; {one['direction'].iloc[0]}: "
        f"1 is the clean run, 0 the corrupted one, colours end at -1 and 1"
    )
    return entitle(figure, TITLE, facts, note, height=240 + 34 * deepest)
