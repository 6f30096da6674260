"""Where the bridge is decoded: stage by position, beside other queries' bridges; and by answer."""

from typing import Final

import plotly.graph_objects as go

from mechgrok.plots._stage_map import height, stage_maps
from mechgrok.plots._style import absence, dress, listed, sentence
from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError

NEEDS: Final = ("bridge_lens",)
TITLE: Final = "Bridge by the logit lens"


def plot(run: Run, kind: str = "test_inferred_ood", step: int | None = None) -> go.Figure:
    """Rate, control and excess of one kind of query; the table of bridge by answer in words.

    Raises RunError for a kind that was not measured.
    """
    saved = run.result("bridge_lens", step)
    if not listed(saved, "kinds"):
        return sentence(TITLE, run, absence(saved) or "nothing was saved")
    if f"rate {kind}" not in saved.arrays:
        kinds = [name for name in listed(saved, "kinds") if f"rate {name}" in saved.arrays]
        raise RunError(f"{run.path} has no lens of {kind!r}; it has {kinds}")
    rate, control = saved.arrays[f"rate {kind}"], saved.arrays[f"control {kind}"]
    tables = {"bridge decoded": rate, "other queries' bridges": control, "excess": rate - control}
    figure = stage_maps(saved, tables, signed=["excess"])
    (absent_wrong, absent_right), (found_wrong, found_right) = saved.arrays[f"counts {kind}"]
    note = (
        f"{kind}: n = {saved[f'{kind}_n']} queries, {saved[f'{kind}_trivial']} trivial left out; "
        f"excess over all places {saved[f'{kind}_excess']:.3f}<br>"
        f"bridge found: {found_right} answers right, {found_wrong} wrong; "
        f"not found: {absent_right} right, {absent_wrong} wrong"
    )
    return dress(figure, TITLE, run, saved.step, note=note, height=height(saved) + 40)
