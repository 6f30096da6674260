"""Which component, at which frequency, raises the right answer: parts that sum to the logits."""

from typing import Final

import numpy as np
import plotly.graph_objects as go

from mechgrok.plots._style import SIGNED, absence, dress, keys_of, sentence, spelled
from mechgrok.runs.run import Run

NEEDS: Final = ("attribution", "key_frequencies")
TITLE: Final = "Logit attribution by component and frequency"


def plot(run: Run) -> go.Figure:
    """Mean over pairs of the right answer's logit above the mean of all, in nats; white is 0."""
    saved = run.result("attribution")
    reason = absence(saved)
    if reason is not None:
        return sentence(TITLE, run, reason)
    rows, columns = (saved.definition[name].split(", ") for name in ("rows", "columns"))
    table = saved.arrays["mean"]
    reach = float(np.abs(table).max()) or 1.0
    figure = go.Figure()
    figure.add_heatmap(
        x=columns,
        y=rows,
        z=table,
        customdata=saved.arrays["std"],
        colorscale=SIGNED,
        zmid=0,
        zmin=-reach,
        zmax=reach,
        xgap=2,
        ygap=2,
        texttemplate="%{z:.2f}",
        colorbar={"title": "nats"},
        hovertemplate="%{y}, %{x}: %{z:.4g}, std over pairs %{customdata:.3g}<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed", ticks="", showline=False, title="component")
    figure.update_xaxes(ticks="", showline=False, title="part of the logits", tickangle=0)
    note = f"{spelled(keys_of(run, saved.step))}; the cells sum to {saved['total']:.3f} nats<br>"
    note += saved.definition["operator"]
    return dress(figure, TITLE, run, saved.step, note=note, height=220 + 34 * len(rows))
