"""Where a linear probe reads the bridge: stage by position, held-out facts and OOD queries."""

from typing import Final

import plotly.graph_objects as go

from mechgrok.plots._stage_map import height, stage_maps
from mechgrok.plots._style import absence, dress, sentence
from mechgrok.runs.run import Run

NEEDS: Final = ("bridge_probe",)
TITLE: Final = "Bridge by a linear probe"


def plot(run: Run, step: int | None = None) -> go.Figure:
    """Accuracy on held-out facts and on OOD queries, and selectivity over the control task."""
    saved = run.result("bridge_probe", step)
    reason = absence(saved)
    if reason is not None:
        return sentence(TITLE, run, reason)
    tables = {
        "accuracy, held-out facts": saved.arrays["accuracy held_out"],
        "accuracy, OOD": saved.arrays["accuracy ood"],
        "selectivity, OOD": saved.arrays["selectivity ood"],
    }
    figure = stage_maps(saved, tables, signed=["selectivity, OOD"])
    note = (
        f"fitted on {saved['fit_n']}, tested on {saved['held_out_n']} and {saved['ood_n']} queries"
        f"<br>best on held-out facts: {saved['stage']} at {saved['position']}; there OOD accuracy "
        f"{saved['ood_accuracy']:.3f}, control {saved['ood_control_accuracy']:.3f}"
    )
    return dress(figure, TITLE, run, saved.step, note=note, height=height(saved))
