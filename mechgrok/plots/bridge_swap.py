"""What answers become when the state of a query with another bridge is copied in."""

from typing import Final

import plotly.graph_objects as go

from mechgrok.plots._stage_map import height, stage_maps
from mechgrok.plots._style import absence, dress, sentence
from mechgrok.runs.run import Run

NEEDS: Final = ("bridge_swap",)
TITLE: Final = "Answers after a swap of the bridge"


def plot(run: Run, step: int | None = None) -> go.Figure:
    """Interchange accuracy and its excess, the donor's own answer, and the same-bridge control."""
    saved = run.result("bridge_swap", step)
    reason = absence(saved)
    if reason is not None:
        return sentence(TITLE, run, reason)
    tables = {
        "interchange": saved.arrays["interchange"],
        "donor's": saved.arrays["donor"],
        "stays, same bridge": saved.arrays["same_bridge_stays"],
        "excess": saved.arrays["excess"],
    }
    figure = stage_maps(saved, tables, signed=["excess"])
    note = (
        f"most excess on {saved['n_choosing']} queries: {saved['stage']} at {saved['position']}; "
        f"{saved['target_accuracy']:.3f} of all are right before the swap<br>there, on "
        f"{saved['n']} others: interchange {saved['interchange']:.3f}, random bridges "
        f"{saved['random_bridge']:.3f}"
    )
    return dress(figure, TITLE, run, saved.step, note=note, height=height(saved))
