"""The logits against their model sum_k alpha_k cos w_k(a+b-c): a curve, and each frequency.

Nanda et al. 2023 (arXiv 2301.05217), section 4.2. The curve is the mean over pairs; its band says
how far single pairs are from any function of a+b-c.
"""

from typing import Final

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechgrok.plots._style import (
    BLACK,
    BLUE,
    KEY,
    NOT_KEY,
    SKY,
    VERMILION,
    absence,
    dress,
    listed,
    sentence,
    spelled,
)
from mechgrok.runs.result import Result
from mechgrok.runs.run import Run

NEEDS: Final = ("logit_cosines", "rank_2k")
TITLE: Final = "Cosine model of the logits"


def plot(run: Run) -> go.Figure:
    """Centred logits (nats) over d = a+b-c with the model; cosines; read-offs of the neurons."""
    saved, read = run.result("logit_cosines"), run.result("rank_2k")
    reason = absence(saved)
    if reason is not None:
        return sentence(TITLE, run, reason)
    keys = [int(k) for k in listed(saved, "keys")]
    figure = make_subplots(
        rows=2,
        cols=2,
        specs=[[{"colspan": 2}, None], [{}, {}]],
        subplot_titles=[
            "mean logit by distance from the right answer",
            "cosine of the logits with cos w<sub>k</sub>(a+b-c)",
            "read-off: neurons along W<sub>L</sub>'s direction of k",
        ],
        vertical_spacing=0.19,
        horizontal_spacing=0.1,
    )
    _profile(figure, saved, keys)
    _cosines(figure, saved.arrays["cosines"], keys)
    _read_offs(figure, read)
    figure.update_layout(barmode="group", legend={"orientation": "h", "y": -0.12})
    raw, rows, both = (100 * float(str(saved[f"fve_{name}"])) for name in ("raw", "rows", "both"))
    note = f"{spelled(keys)}; explained by them: {rows:.2f} % of the row-centred logits "
    note += f"({raw:.2f} % raw, {both:.2f} % centred by row and class)"
    return dress(figure, TITLE, run, saved.step, note=note, height=760)


def cosine_model(coefficients: np.ndarray, keys: list[int], p: int) -> np.ndarray:
    """sum_k alpha_k cos w_k d over the keys, for d = 0..p-1."""
    d = np.arange(p)
    wave = sum(coefficients[k - 1] * np.cos(2 * np.pi * k * d / p) / _norm(k, p) for k in keys)
    return np.asarray(wave, dtype=float) + np.zeros(p)


def _norm(k: int, p: int) -> float:
    """Norm of cos w_k(a+b-c) over all a, b, c: v_k / alpha_k. p/2 alternates: mean square 1."""
    return (p**3 if 2 * k == p else p**3 / 2) ** 0.5


def _profile(figure: go.Figure, saved: Result, keys: list[int]) -> None:
    mean, std = saved.arrays["profile"], saved.arrays["profile_std"]
    p = len(mean)
    order = np.roll(np.arange(p), p // 2)
    distance = (order + p // 2) % p - p // 2
    model = cosine_model(saved.arrays["coefficients"], keys, p)
    band = {"x": np.concatenate([distance, distance[::-1]]), "fill": "toself"}
    edge = np.concatenate([(mean + std)[order], (mean - std)[order][::-1]])
    plain = {"mode": "lines", "row": 1, "col": 1}
    figure.add_scatter(
        **band,
        y=edge,
        line={"width": 0},
        fillcolor=SKY,
        opacity=0.5,
        name="± 1 standard deviation over pairs",
        hoverinfo="skip",
        **plain,
    )
    line = {"color": BLUE, "width": 2}
    figure.add_scatter(x=distance, y=mean[order], name="logits, mean", line=line, **plain)
    dash = {"color": VERMILION, "width": 1.5, "dash": "dash"}
    figure.add_scatter(x=distance, y=model[order], name="model of the keys", line=dash, **plain)
    figure.update_xaxes(title=f"a+b-c mod {p} (0: the right answer)", row=1, col=1)
    figure.update_yaxes(title="logit, row-centred (nats)", row=1, col=1)


def _cosines(figure: go.Figure, cosines: np.ndarray, keys: list[int]) -> None:
    freqs = np.arange(1, len(cosines) + 1)
    is_key = np.isin(freqs, keys)
    for chosen, colour, name in ((is_key, KEY, "key"), (~is_key, NOT_KEY, "not key")):
        figure.add_bar(
            x=freqs[chosen],
            y=cosines[chosen],
            width=0.85,
            marker={"color": colour},
            name=f"{name} frequency",
            hovertemplate="frequency %{x}: %{y:.4f}<extra></extra>",
            row=2,
            col=1,
        )
    figure.update_xaxes(title="frequency", row=2, col=1)
    figure.update_yaxes(title="cosine (-1..1)", row=2, col=1)


def _read_offs(figure: go.Figure, read: Result) -> None:
    figure.update_yaxes(
        title="variance explained by<br>cos or sin w<sub>k</sub>(a+b)", row=2, col=2
    )
    reason = absence(read)
    found = {n.removeprefix("fve "): v for n, v in read.values.items() if n.startswith("fve ")}
    shown = {n: float(v) for n, v in found.items() if isinstance(v, int | float)}
    if reason is not None or not shown:
        figure.add_scatter(x=[0], y=[0], mode="text", text=[reason or "none"], row=2, col=2)
        figure.update_xaxes(visible=False, row=2, col=2)
        return
    figure.add_bar(
        x=list(shown),
        y=list(shown.values()),
        width=0.6,
        marker={"color": BLACK, "opacity": 0.75},
        name="read-off",
        showlegend=False,
        hovertemplate="%{x}: %{y:.4f}<extra></extra>",
        row=2,
        col=2,
    )
    figure.update_yaxes(range=[min(0.0, *shown.values()), 1.03], row=2, col=2)
    figure.update_xaxes(title="direction", row=2, col=2)
