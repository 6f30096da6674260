"""Single panels of the fine-tuning figure side by side: figure 3 of He et al. 2026 (2601.09049)."""

from collections.abc import Sequence
from typing import Final

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechgrok.plots._formation import FINETUNING, frame, panel
from mechgrok.plots._style import entitle
from mechgrok.plots.circuit_finetuning import KINDS
from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError

NEEDS: Final = ("bridge_lens", "two_hop_cells")


def plot(panels: Sequence[tuple[Run, str]]) -> go.Figure:
    """One panel per (run, kind); published: natural and second-hop new_old, natural old_new,
    from scratch new_old.

    Raises RunError for no panels, and for a run whose measures were not saved.
    """
    if not panels:
        raise RunError("got no panels to draw; expected pairs of a run and a kind of query")
    names = [f"{run.name}<br>{KINDS.get(kind, kind)}" for run, kind in panels]
    figure = make_subplots(
        rows=1, cols=len(panels), shared_yaxes=True, subplot_titles=names, horizontal_spacing=0.02
    )
    for col, (run, kind) in enumerate(panels, start=1):
        panel(figure, run, kind, FINETUNING, 1, col)
    frame(figure, 1)
    facts = f"n = {len({run.name for run, _ in panels})} runs, every run drawn"
    entitle(figure, "Fine-tuning on new facts, a selection", facts, height=470)
    return figure.update_layout(margin_t=130)  # room for titles of two lines
