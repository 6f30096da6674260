"""A study as one offline page: what was found, tables, figures, failed and censored runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechgrok import _page
from mechgrok.runs.storage import write_text

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from _moments import Moments


def write(
    path: Path,
    title: str,
    found: Sequence[str],
    parts: Sequence[tuple[str, Sequence[str]]],
) -> Path:
    """Write the page; the first paragraphs are what was found. Returns the path."""
    sections = [f"<h1>{_page.escape(title)}</h1>"]
    sections += [_page.card(*(_page.paragraph(text, "lead") for text in found))]
    sections += [_page.section(name, *inside) for name, inside in parts]
    write_text(path, _page.page(title, sections, [_page.plotly_bundle()]))
    return path


def unfinished(
    moments: Sequence["Moments"], failed: Mapping[str, str], expected: str = "generalised"
) -> str:
    """Runs that failed and why, and those that did not get there."""
    open_ = [m for m in moments if getattr(m, expected) is None and m.run not in failed]
    rows = [(name, f"failed: {reason}") for name, reason in failed.items()]
    rows += [(m.run, f"censored: not {expected} by step {m.last} ({m.state})") for m in open_]
    if not rows:
        return _page.card(_page.paragraph(f"No run failed, and all {len(moments)} {expected}."))
    return _page.card(_page.pairs(rows))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a table; what is missing is empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{_page.escape(name.replace('_', ' '))}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f'<td class="value">{_cell(row.get(n))}</td>' for n in names) + "</tr>"
        for row in rows
    )
    return _page.card(f"<table><tr>{head}</tr>{body}</table>")


def figure(drawn: "go.Figure", name: str) -> str:
    """A figure."""
    return _page.figure(drawn, name)


def text(*sentences: str) -> str:
    """Paragraphs."""
    return _page.card(*(_page.paragraph(one) for one in sentences))


def _cell(value: Any) -> str:
    return "" if value is None else _page.text(value)
