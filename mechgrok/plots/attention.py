"""Attention patterns of single rows with token labels, as circuitsvis views that work offline.

circuitsvis chooses between a local and a CDN source by asking google.com, and `str()` of its views
is always the CDN. Here its script is written once per page, and each view is one call into it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any, Final

import circuitsvis
import numpy as np
from circuitsvis.utils.convert_props import convert_props
from jaxtyping import Float

NEEDS: Final = ()
"""Patterns are given by the caller; no measure keeps them."""
COLOUR: Final = "#0072B2"
"""Of weight 1."""


@dataclass(frozen=True)
class AttentionView:
    """Attention of a few rows; `body` needs `bundle()` once, earlier on the same page."""

    body: str
    """One titled element per row, and the calls that fill them."""

    def page(self) -> str:
        """A complete page that needs no network."""
        head = f'<!doctype html><html lang="en"><head><meta charset="utf-8">{bundle()}</head>'
        return f"{head}<body>{self.body}</body></html>"

    def _repr_html_(self) -> str:
        return bundle() + self.body


def plot(
    tokens: Sequence[Sequence[str]],
    patterns: Float[np.ndarray, "rows layers heads queries sources"],
    titles: Sequence[str] | None = None,
    name: str = "attention",
) -> AttentionView:
    """Patterns (weights 0..1) of every row, with its tokens as labels.

    `name` starts the ids of the elements and must be used once per page. Raises ValueError unless
    there is one list of tokens per row and one token per position.
    """
    rows, _, _, queries, sources = patterns.shape
    lengths = {len(row) for row in tokens}
    if len(tokens) != rows or lengths != {queries} or queries != sources:
        raise ValueError(
            f"got {len(tokens)} rows of tokens with lengths {sorted(lengths)} for patterns of "
            f"shape {list(patterns.shape)}; expected a label per row and position"
        )
    given = titles or [" ".join(row) for row in tokens]
    views = [
        _view(f"{name}-{i}", *row)
        for i, row in enumerate(zip(given, tokens, patterns, strict=True))
    ]
    return AttentionView("".join(views))


def _view(
    place: str,
    title: str,
    tokens: Sequence[str],
    pattern: Float[np.ndarray, "layers heads queries sources"],
) -> str:
    """One row: a map per head. The view of all heads at once is unreadable at three positions."""
    layers, heads = pattern.shape[:2]
    maps = [
        _head(f"{place}-L{layer}H{head}", f"L{layer}H{head}", tokens, pattern[layer, head])
        for layer in range(layers)
        for head in range(heads)
    ]
    caption = f"<figcaption>{escape(title)}</figcaption>"
    return f'<figure class="attention">{caption}<div class="heads">{"".join(maps)}</div></figure>'


def _head(
    place: str, name: str, tokens: Sequence[str], pattern: Float[np.ndarray, "queries sources"]
) -> str:
    props = {
        "tokens": list(tokens),
        "attention": pattern.astype(float).round(4),
        "maxValue": 1.0,
        "minValue": 0.0,
        "positiveColor": COLOUR,
        "maskUpperTri": True,
    }
    call = f"CircuitsVis.render({json.dumps(place)},CircuitsVis.AttentionPattern,{_safe(props)})"
    return (
        f'<div class="head"><div class="name">{escape(name)}</div>'
        f'<div id="{escape(place)}" class="circuitsvis"></div></div><script>{call}</script>'
    )


def _safe(props: dict[str, Any]) -> str:
    """Properties as JavaScript that cannot close its script element."""
    return convert_props(props).replace("<", "\\u003c")


@lru_cache
def bundle() -> str:
    """The script of circuitsvis as one element, without the address of its source map."""
    path = Path(circuitsvis.__file__ or "").parent / "dist" / "cdn" / "iife.js"
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = "\n".join(line for line in lines if not line.startswith("//# sourceMappingURL"))
    safe = kept.replace("</script", "<\\/script")
    return f'<script data-bundle="circuitsvis">{safe}</script>'
