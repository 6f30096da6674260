"""Circuit formation of two-hop runs: bridge, target and training accuracy over steps.

Figure 2 of He et al. 2026 (arXiv 2601.09049), whose "final answer accuracy" is the target found at
any stage and position; exact match and the control of the bridge are drawn beside it.
"""

from collections.abc import Sequence
from typing import Final

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechgrok.plots._formation import FORMATION, frame, panel, several
from mechgrok.plots._style import entitle
from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError

NEEDS: Final = ("bridge_lens", "two_hop_cells")
PUBLISHED: Final = 3
"""Curves of the published figure: the first ones."""


def plot(
    runs: Run | Sequence[Run],
    kind: str = "test_inferred_ood",
    titles: Sequence[str] | None = None,
    published: bool = False,
) -> go.Figure:
    """One panel per run, in order; `published` leaves out what the published figure lacks.

    Raises RunError for no runs, and for a run whose measures were not saved.
    """
    chosen = several(runs)
    if not chosen:
        raise RunError("got no runs to draw")
    names = list(titles) if titles else [run.name for run in chosen]
    figure = make_subplots(
        rows=1, cols=len(chosen), shared_yaxes=True, subplot_titles=names, horizontal_spacing=0.02
    )
    for col, run in enumerate(chosen, start=1):
        panel(figure, run, kind, FORMATION[: PUBLISHED if published else None], 1, col)
    frame(figure, 1)
    facts = f"{kind}; n = {len(chosen)} runs, every run drawn; seeds {[r.seed for r in chosen]}"
    return entitle(figure, "Circuit formation", facts, height=460)
