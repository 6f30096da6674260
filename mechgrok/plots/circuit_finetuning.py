"""What fine-tuning on new facts reaches: one row per run, one column per kind of query.

Figure 4 of He et al. 2026 (arXiv 2601.09049): bridge found, exact match of the kind, and accuracy
on the new facts themselves, over fine-tuning steps.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechgrok.plots._formation import FINETUNING, frame, panel, several
from mechgrok.plots._style import entitle
from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError

NEEDS: Final = ("bridge_lens", "two_hop_cells")
KINDS: Final[Mapping[str, str]] = {
    "new_old": "new + old",
    "old_new": "old + new",
    "test_inferred_new": "new + new",
}
"""Kinds of query and what their hops are."""


def plot(
    runs: Run | Sequence[Run],
    kinds: Mapping[str, str] = KINDS,
    titles: Sequence[str] | None = None,
) -> go.Figure:
    """N rows of three panels; with kinds `new_old_probed` and `old_new_probed` as published.

    Raises RunError for no runs, and for a run whose measures were not saved.
    """
    chosen = several(runs)
    if not chosen:
        raise RunError("got no runs to draw")
    names = list(titles) if titles else [run.name for run in chosen]
    figure = make_subplots(
        rows=len(chosen),
        cols=len(kinds),
        shared_xaxes=True,
        shared_yaxes=True,
        column_titles=list(kinds.values()),
        row_titles=names,
        horizontal_spacing=0.02,
        vertical_spacing=0.12 / len(chosen),
    )
    for row, run in enumerate(chosen, start=1):
        for col, kind in enumerate(kinds, start=1):
            panel(figure, run, kind, FINETUNING, row, col)
    frame(figure, len(chosen))
    facts = f"n = {len(chosen)} runs, every run drawn; seeds {[run.seed for run in chosen]}"
    return entitle(figure, "Fine-tuning on new facts", facts, height=200 + 220 * len(chosen))
