"""Which states the answer runs through: flips when h, r1 or r2 is replaced, by place."""

from typing import Final

import plotly.graph_objects as go

from mechgrok.plots._stage_map import height, stage_maps
from mechgrok.plots._style import absence, dress, sentence
from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError

NEEDS: Final = ("bridge_tracing",)
TITLE: Final = "Causal tracing of two-hop answers"
PARTS: Final = ("h", "r1", "r2")


def plot(run: Run, step: int | None = None, since: int | None = None) -> go.Figure:
    """Flips by what was replaced; with `since`, the change from that step on, centred at 0.

    Raises RunError where the two results have other stages.
    """
    saved = run.result("bridge_tracing", step)
    reason = absence(saved)
    if reason is not None:
        return sentence(TITLE, run, reason)
    tables = {f"{part} replaced": saved.arrays[f"flips {part}"] for part in PARTS}
    note = f"share of {saved['n']} queries answered right whose answer a copied state changes"
    if since is None:
        figure = stage_maps(saved, tables)
        return dress(figure, TITLE, run, saved.step, note=note, height=height(saved))
    before = run.result("bridge_tracing", since)
    if absence(before) is not None or before["stages"] != saved["stages"]:
        raise RunError(f"tracing at step {since} does not compare: {absence(before)}")
    tables = {n: t - before.arrays[f"flips {n.split()[0]}"] for n, t in tables.items()}
    figure = stage_maps(saved, tables, signed=list(tables))
    note = f"change since step {since:,} ({before['n']} queries right) of the {note}"
    return dress(figure, TITLE, run, saved.step, note=note, height=height(saved))
