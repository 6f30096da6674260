"""Accuracy without the key frequencies, beside the controls that could fail the check.

Bars are single edits of the embedding, points the size-matched random sets; the check's lines and
the dose response stand beside them.
"""

from typing import Final

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechgrok.plots._style import BLACK, BLUE, GREY, KEY, absence, dress, listed, sentence, spelled
from mechgrok.runs.result import Result
from mechgrok.runs.run import Run

NEEDS: Final = ("frequency_ablation",)
TITLE: Final = "Frequency ablation of the embedding"
CONTROLS: Final = "size-matched<br>controls"
BARS: Final = {
    "intact": ("original_accuracy", BLACK),
    "keys<br>removed": ("keys_accuracy", KEY),
    CONTROLS: ("controls_mean_accuracy", GREY),
    "all non-keys<br>removed": ("non_keys_accuracy", BLUE),
}
LINES: Final = {
    "keys removed": "keys_points_lost",
    "size-matched controls": "controls_points_lost",
    "all non-keys removed": "non_keys_points_lost",
}
"""How the lines of the check begin, and the value each judges (points of accuracy lost)."""
SCALE, _LOSS, ACCURACY, _POWER = range(4)
"""Columns of the saved arrays `dose` and `controls`."""


def plot(run: Run) -> go.Figure:
    """Accuracy (fraction) after each edit, and against the scale of keys and of non-keys."""
    saved = run.result("frequency_ablation")
    reason = absence(saved)
    if reason is not None:
        return sentence(TITLE, run, reason)
    figure = make_subplots(
        rows=1,
        cols=2,
        subplot_titles=["frequencies removed", "dose response"],
        horizontal_spacing=0.1,
    )
    _bars(figure, saved)
    _doses(figure, saved)
    figure.update_yaxes(title="accuracy (fraction)", range=[-0.03, 1.08], row=1, col=1)
    figure.update_yaxes(range=[-0.03, 1.08], row=1, col=2)
    figure.update_xaxes(title="scale of the frequencies (0 removes, 1 intact)", row=1, col=2)
    figure.update_layout(legend={"orientation": "h", "y": -0.27})
    keys = [int(k) for k in listed(saved, "keys")]
    split = saved.definition.get("split", "")
    note = f"{spelled(keys)}; judged on {split}<br>" + "<br>".join(check_lines(saved))
    return dress(figure, TITLE, run, saved.step, note=note, height=580)


def check_lines(saved: Result) -> list[str]:
    """The check's lines with their numbers, each marked passed or failed."""
    failed = [str(line) for line in listed(saved, "failed_lines")]
    lines = []
    for start, value in LINES.items():
        broken = next((line for line in failed if line.startswith(start)), None)
        lost = saved[value]
        lines.append(
            f"✗ failed: {broken}" if broken else f"✓ passed: {start}: lost {lost:.1f} points"
        )
    return lines


def _bars(figure: go.Figure, saved: Result) -> None:
    heights = [saved[value] for value, _ in BARS.values()]
    figure.add_bar(
        x=list(range(len(BARS))),
        y=heights,
        marker={"color": [colour for _, colour in BARS.values()], "opacity": 0.85},
        width=0.65,
        name="accuracy",
        showlegend=False,
        row=1,
        col=1,
    )
    labels = [f"{name}<br><b>{height:.3f}</b>" for name, height in zip(BARS, heights, strict=True)]
    figure.update_xaxes(tickvals=list(range(len(BARS))), ticktext=labels, row=1, col=1)
    drawn = saved.arrays["controls"][:, ACCURACY]
    place = list(BARS).index(CONTROLS)
    figure.add_scatter(
        x=np.linspace(place - 0.28, place + 0.28, len(drawn)),
        y=drawn,
        mode="markers",
        marker={"color": BLACK, "size": 6, "symbol": "circle-open"},
        name=f"each of {len(drawn)} control draws (bar: mean)",
        row=1,
        col=1,
    )


def _doses(figure: go.Figure, saved: Result) -> None:
    dose = saved.arrays["dose"]
    ends = {0.0: saved["keys_accuracy"], 1.0: saved["original_accuracy"]}
    keys = {**dict(zip(dose[:, SCALE].tolist(), dose[:, ACCURACY].tolist(), strict=True)), **ends}
    others = {0.0: saved["non_keys_accuracy"], 1.0: saved["original_accuracy"]} | _non_key_doses(
        saved
    )
    for name, points, colour in (("keys", keys, KEY), ("all non-keys", others, BLUE)):
        scales = np.array(sorted(points))
        figure.add_scatter(
            x=scales,
            y=[points[float(scale)] for scale in scales],
            mode="lines+markers",
            line={"color": colour},
            name=f"{name} scaled",
            row=1,
            col=2,
        )


def _non_key_doses(saved: Result) -> dict[float, float]:
    """Scale -> accuracy of the values named non_keys_x<scale>_accuracy."""
    prefix, suffix = "non_keys_x", "_accuracy"
    return {
        float(name.removeprefix(prefix).removesuffix(suffix)): float(value)
        for name, value in saved.values.items()
        if name.startswith(prefix) and name.endswith(suffix) and isinstance(value, int | float)
    }
