"""The circuit as a graph: layers from left to right, frequencies from top to bottom.

Width is the size of an edge's exact effect, colour its sign: what happens to the metric when that
edge alone is corrupted, for the operand for which that is larger.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import plotly.graph_objects as go

from mechgrok.plots._circuit import circuit_of, facts
from mechgrok.plots._style import BLACK, BLUE, GREY, VERMILION, entitle
from mechgrok.runs.run import Run
from mechgrok.runs.saved_circuit import SavedCircuit

NEEDS: Final = ()
"""A circuit is saved by `mg.circuit`, not by a measure."""
TITLE: Final = "Circuit"
OUTPUTS: Final = ("input", "embed", "pos_embed")
STAGES: Final = {"q": 0, "k": 0, "v": 0, "head": 1, "mlp_in": 2, "mlp": 3}
"""Column of a component within its block."""
HEADINGS: Final = {0: "head inputs", 1: "head outputs", 2: "MLP input", 3: "MLP output"}
OTHER: Final = "other key terms"
WIDEST: Final = 11.0
"""Width in pixels of the strongest edge."""
THINNEST: Final = 0.8
SIGNS: Final = ((-1, BLUE, "corrupting it lowers the metric"), (1, VERMILION, "it raises it"))
CLEAR: Final = 0.75
"""Opacity of edges."""

Where = Mapping[str, tuple[float, float]]


def plot(subject: Run | SavedCircuit) -> go.Figure:
    """The edges of the circuit, the nodes they touch, and faint the nodes they do not."""
    found = circuit_of(subject)
    where = _places(found)
    figure = go.Figure()
    effects = found.larger_score("exact")
    _heads(figure, found, where)
    _edges(figure, found, effects, where)
    _nodes(figure, found, where)
    height = _annotate(figure, found, where)
    figure.update_xaxes(visible=False, range=[-0.45, max(x for x, _ in where.values()) + 0.45])
    figure.update_yaxes(visible=False, range=[-height - 0.2, 1.3])
    figure.update_layout(legend={"orientation": "h", "y": -0.02, "x": 0})
    size = round(150 + 62 * (height + 2) + 30)
    return entitle(figure, TITLE, facts(found), _note(found), height=max(480, size))


def _note(found: SavedCircuit) -> str:
    if not found.judged:
        return f"{len(found.circuit)} of {len(found.edges)} edges"
    shares = ", ".join(f"{n} {row['faithfulness']:.3f}" for n, row in found.judged.items())
    controls = []
    for name in next(iter(found.judged.values()))["random"]:
        draws = [x for row in found.judged.values() for x in row["random"][name]]
        if draws:
            controls.append(f"{name} {min(draws) + 0.0:.3f} to {max(draws):.3f} (n = {len(draws)})")
    return (
        f"{len(found.circuit)} edges drawn; faithfulness {shares}<br>random circuits of as many "
        f"edges: {', '.join(controls)}"
    )


def _column(node: Mapping[str, Any], last: int) -> int:
    if node["kind"] in OUTPUTS:
        return 0
    return last if node["kind"] == "logits" else 1 + 4 * node["layer"] + STAGES[node["kind"]]


def _places(found: SavedCircuit) -> dict[str, tuple[float, float]]:
    """Column and height of every node; each frequency part has a band of its own."""
    layers = 1 + max(node["layer"] for node in found.nodes)
    last = 1 + 4 * layers
    by_column: dict[int, list[Mapping[str, Any]]] = {}
    for node in found.nodes:
        by_column.setdefault(_column(node, last), []).append(node)
    parts = _bands(found)
    deep = max(len(nodes) for nodes in by_column.values())
    bands = {part: _thickness(found, part) for part in parts}
    total = sum(bands.values()) if parts != [""] else max(4.0, 0.5 * deep)
    tops, top = {}, 0.0
    for part in parts:
        tops[part] = top
        top += bands[part]
    where = {}
    for column, nodes in by_column.items():
        groups: dict[str, list[Mapping[str, Any]]] = {}
        for node in nodes:
            groups.setdefault(node["part"], []).append(node)
        for part, group in groups.items():
            start, room = (tops[part], bands[part]) if part else (0.0, total)
            for i, node in enumerate(sorted(group, key=_order)):
                where[node["name"]] = (float(column), -(start + room * (i + 0.5) / len(group)))
    return where


def _order(node: Mapping[str, Any]) -> tuple[Any, ...]:
    return (node["position"], node["head"], node["kind"])


def _bands(found: SavedCircuit) -> list[str]:
    """Frequencies first, then what is left of the keys, then the rest."""
    parts = {node["part"] for node in found.nodes if node["part"]}
    sums = {f"sum {k}": i for i, k in enumerate(found.keys)}
    return sorted(parts, key=lambda part: (sums.get(part, len(sums)), part != OTHER)) or [""]


def _thickness(found: SavedCircuit, part: str) -> float:
    """Room for the most nodes that a part has in one column."""
    counts: dict[Any, int] = {}
    for node in found.nodes:
        if node["part"] == part:
            place = (node["kind"] in OUTPUTS, node["layer"], STAGES.get(node["kind"]))
            counts[place] = counts.get(place, 0) + 1
    return max(1.0, 0.42 * max(counts.values(), default=1))


def _edges(figure: go.Figure, found: SavedCircuit, effects: Sequence[float], where: Where) -> None:
    strongest = max((abs(effects[i]) for i in found.circuit), default=0.0) or 1.0
    for sign, colour, name in SIGNS:
        drawn = [i for i in found.circuit if effects[i] * sign > 0]
        for place, i in enumerate(sorted(drawn, key=lambda i: -abs(effects[i]))):
            edge = found.edges[i]
            (x0, y0), (x1, y1) = where[edge["source"]], where[edge["target"]]
            width = max(THINNEST, WIDEST * abs(effects[i]) / strongest)
            figure.add_scatter(
                x=[x0, (x0 + x1) / 2, x1],
                y=[y0, (y0 + y1) / 2, y1],
                mode="lines",
                line={"color": colour, "width": width},
                opacity=CLEAR,
                name=name,
                legendgroup=name,
                showlegend=place == 0,
                hovertemplate=f"{edge['source']} → {edge['target']}: {effects[i]:+.3g}"
                "<extra></extra>",
            )


def _heads(figure: go.Figure, found: SavedCircuit, where: Where) -> None:
    """Faint lines from the inputs of a head to its outputs, which are no edges of the graph."""
    touched = _touched(found)
    inputs = [n for n in found.nodes if n["kind"] in ("q", "k", "v") and n["name"] in touched]
    outputs = [n for n in found.nodes if n["kind"] == "head" and n["name"] in touched]
    x: list[float | None] = []
    y: list[float | None] = []
    for one in inputs:
        for other in outputs:
            if (one["layer"], one["head"]) == (other["layer"], other["head"]):
                ends = (where[one["name"]], where[other["name"]])
                x += [ends[0][0], ends[1][0], None]
                y += [ends[0][1], ends[1][1], None]
    if x:
        line = {"color": GREY, "width": 0.6, "dash": "dot"}
        figure.add_scatter(
            x=x, y=y, mode="lines", line=line, opacity=0.6, name="inside a head", hoverinfo="skip"
        )


def _touched(found: SavedCircuit) -> set[str]:
    edges = [found.edges[i] for i in found.circuit]
    return {edge[end] for edge in edges for end in ("source", "target")}


def _nodes(figure: go.Figure, found: SavedCircuit, where: Where) -> None:
    touched = _touched(found)
    for inside in (False, True):
        nodes = [n for n in found.nodes if (n["name"] in touched) is inside]
        figure.add_scatter(
            x=[where[n["name"]][0] for n in nodes],
            y=[where[n["name"]][1] for n in nodes],
            mode="markers+text",
            text=[_label(n) if inside else "" for n in nodes],
            textposition="top center",
            textfont={"size": 11, "color": BLACK},
            marker={"size": 9 if inside else 5, "color": BLACK if inside else "#d5d5d5"},
            customdata=[n["name"] for n in nodes],
            hovertemplate="%{customdata}<extra></extra>",
            showlegend=False,
        )


def _label(node: Mapping[str, Any]) -> str:
    """What the column and the band do not say."""
    kind, head = node["kind"], node["head"]
    at = "" if node["position"] < 0 else f"@{node['position']}"
    if kind in OUTPUTS:
        return f"{kind} {at}".strip()
    if kind in ("q", "k", "v"):
        return f"H{head}.{kind} {at}".strip()
    return f"H{head}" if kind == "head" else ""


def _annotate(figure: go.Figure, found: SavedCircuit, where: Where) -> float:
    """Headings of columns, and of bands where there are any; the depth of the picture."""
    layers = 1 + max(node["layer"] for node in found.nodes)
    columns = sorted({x for x, _ in where.values()})
    for x in columns:
        if x == 0:
            text = "embedding"
        elif x == max(columns):
            text = "logits"
        else:
            layer, stage = divmod(int(x) - 1, 4)
            text = HEADINGS[stage] if layers == 1 else f"L{layer} {HEADINGS[stage]}"
        figure.add_annotation(x=x, y=0.9, text=f"<b>{text}</b>", showarrow=False)
    parts, depth = _bands(found), max(-y for _, y in where.values()) + 0.5
    if parts == [""]:
        return depth
    top = 0.0
    for i, part in enumerate(parts):
        room = _thickness(found, part)
        figure.add_annotation(
            x=0, xref="paper", xanchor="right", y=-(top + room / 2), text=part, showarrow=False
        )
        if i % 2 == 0:
            shade = {"fillcolor": "#f3f5f7", "line": {"width": 0}, "layer": "below"}
            figure.add_hrect(y0=-top, y1=-(top + room), **shade)
        top += room
    figure.update_layout(margin_l=110)
    return top
