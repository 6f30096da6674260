"""One self-contained html page: style, inlined scripts, figures and tables; no other host."""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape as escape
from typing import Any, Final

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from mechgrok.figures import CONFIG
from mechgrok.runs.result import NotApplicable, Result, Value

STYLE: Final = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f5f6f8; color: #1c1e21; line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
main { max-width: 1100px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 1.7rem; margin: 8px 0 0; }
h2 { font-size: 1.25rem; margin: 36px 0 10px; }
.facts { color: #5b6066; margin: 2px 0 18px; }
.card { background: #fff; border: 1px solid #dfe2e6; border-radius: 8px; padding: 14px 18px;
  margin: 14px 0; overflow-x: auto; }
.lead { font-size: 1.05rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: 6px 10px;
  border-bottom: 1px solid #e7e9ec; }
th { font-weight: 600; white-space: nowrap; }
td.value { font-variant-numeric: tabular-nums; }
.measures td table td { border: 0; padding: 1px 12px 1px 0; }
.measures td table td:first-child { color: #5b6066; width: 230px; overflow-wrap: anywhere; }
.measures .definition { color: #5b6066; font-size: .82rem; max-width: 420px; }
.measures .headline { min-width: 170px; }
.absent { color: #7a4b00; }
summary { cursor: pointer; color: #0b5cad; }
pre { overflow-x: auto; font-size: .82rem; line-height: 1.4; }
figure.attention { margin: 0 0 14px; padding-top: 10px; border-top: 1px solid #e7e9ec; }
figure.attention figcaption { font-weight: 600; font-size: .9rem; margin-bottom: 6px; }
.heads { display: flex; flex-wrap: wrap; gap: 10px; }
.head { width: 238px; padding-right: 8px; }
.circuitsvis { padding: 0 15px; }
.head .name { text-align: center; font-size: .85rem; color: #5b6066; }
@media print { body { background: #fff; } .card { break-inside: avoid; } }
"""


def page(title: str, sections: Iterable[str], bundles: Iterable[str]) -> str:
    """The page, with its scripts before what uses them."""
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">',  # or a browser asks the server for one
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        *bundles,
        "</head>\n<body>\n<main>",
        *sections,
        "</main>\n</body>\n</html>\n",
    ]
    return "\n".join(parts)


def plotly_bundle() -> str:
    """The script of plotly as one element."""
    script = get_plotlyjs().replace("</script", "<\\/script")
    return f'<script data-bundle="plotly">{script}</script>'


def section(title: str, *parts: str) -> str:
    """A heading and what stands under it."""
    return f"<h2>{escape(title)}</h2>\n" + "\n".join(parts)


def card(*parts: str) -> str:
    """A framed part of the page."""
    return f'<div class="card">{"".join(parts)}</div>'


def paragraph(text: str, kind: str = "") -> str:
    """Plain text; `kind` is its class."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def folded(title: str, text: str) -> str:
    """Preformatted text under a line that opens it."""
    return f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"


def figure(drawn: go.Figure, name: str) -> str:
    """A plotly figure, or the reason why there is nothing to draw."""
    layout: Any = drawn.layout
    meta = layout.meta
    if isinstance(meta, Mapping) and "does_not_apply" in meta:
        title = layout.title.text
        text = escape(f"{title}: does not apply: {meta['does_not_apply']}")
        return card(f'<p class="absent" id="{escape(name)}">{text}</p>')
    spec = json.loads(drawn.to_json() or "{}")
    drawing = {key: spec[key] for key in ("data", "layout", "frames") if key in spec}
    arguments = ",".join(_script(part) for part in (name, {**drawing, "config": CONFIG}))
    place = f'<div id="{escape(name)}" class="plot" style="height:{layout.height}px"></div>'
    return card(place, f"<script>Plotly.newPlot({arguments})</script>")


def _script(data: object) -> str:
    """Data as JavaScript that cannot close its script element."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """A table of names and texts."""
    cells = (f'<tr><th>{escape(k)}</th><td class="value">{escape(v)}</td></tr>' for k, v in rows)
    return f"<table>{''.join(cells)}</table>"


def measures(
    results: Sequence[Result],
    sentences: Mapping[str, str],
    figures: Mapping[str, Sequence[str]],
) -> str:
    """Headline and sentence of every result; its values and definition in a part that opens."""
    head = "<tr><th>measure</th><th>headline</th><th>what it is</th></tr>"
    rows = (_measure(r, sentences[r.measure], figures[r.measure]) for r in results)
    return f'<table class="measures">{head}{"".join(rows)}</table>'


def _measure(result: Result, sentence: str, figures: Sequence[str]) -> str:
    name = escape(result.measure)
    at = "" if result.step is None else f"<br><small>step {result.step:,}</small>"
    first = next(iter(result.values))
    links = ", ".join(f'<a href="#{escape(f)}">{escape(f)}</a>' for f in figures)
    shown = f"<br><small>figures: {links}</small>" if links else ""
    return (
        f'<tr><th id="measure-{name}"><a href="#measure-{name}">{name}</a>{at}</th>'
        f'<td class="value headline">{escape(first)}<br><b>{text(result.headline)}</b></td>'
        f"<td>{escape(sentence)}{shown}{_details(result)}</td></tr>"
    )


def _details(result: Result) -> str:
    """All values and the whole definition, folded away."""
    rows = (f"<tr><td>{escape(k)}</td><td>{text(v)}</td></tr>" for k, v in result.values.items())
    defined = "<br>".join(f"<b>{escape(k)}</b> {escape(v)}" for k, v in result.definition.items())
    n = len(result.values)
    summary = f"<summary>{n} value{'s' if n > 1 else ''} and definition</summary>"
    table = f'<table class="value">{"".join(rows)}</table>'
    return f'<details>{summary}<p class="definition">{defined}</p>{table}</details>'


def text(value: Value) -> str:
    """A value as html."""
    if isinstance(value, NotApplicable):
        return f'<span class="absent">does not apply: {escape(value.reason)}</span>'
    return escape(plain(value))


def plain(value: Value) -> str:
    """A value as text: yes/no, four digits, or a list."""
    if isinstance(value, NotApplicable):
        return f"does not apply: {value.reason}"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else ", ".join(plain(x) for x in value) or "none"
