"""A drawn figure as a small file, from which its picture is rendered again without its runs.

Lines are thinned to what a picture can show and numbers are rounded, so that the file can be kept
beside the picture; a picture is rendered from the file at once, and so is the same later.
"""

import gzip
import json
import math
from base64 import b64decode
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go

from mechgrok.runs.storage import RunError, write_bytes

SUFFIX: Final = ".drawn.json.gz"
MOST: Final = 400
"""Points of a line that are kept."""
DIGITS: Final = 5
"""Significant digits of every number."""


def save_drawn(figure: go.Figure, stem: Path) -> go.Figure:
    """Write `stem`.drawn.json.gz; returns the figure as it is read back."""
    found = _plain(figure.to_plotly_json())
    for trace in found["data"]:
        _thin(trace)
    text = json.dumps({"data": found["data"], "layout": found["layout"]}, allow_nan=False)
    write_bytes(_file(stem), gzip.compress(text.encode(), mtime=0))
    return read_drawn(stem)


def read_drawn(stem: Path) -> go.Figure:
    """The figure of `stem`.drawn.json.gz. Raises RunError when there is none."""
    if not _file(stem).exists():
        raise RunError(f"there is no {_file(stem)}; the command that draws the picture writes it")
    return go.Figure(json.loads(gzip.decompress(_file(stem).read_bytes())))


def kept_points(x: Sequence[Any], y: Sequence[Any], most: int = MOST) -> list[int]:
    """Places of the points that a line needs: of each stretch its ends, lowest and highest.

    All of them where a line is short, has gaps, or turns back along x.
    """
    every = list(range(len(x)))
    known = all(isinstance(v, int | float) for v in (*x, *y))
    if len(x) <= most or not known or any(b < a for a, b in pairwise(x)):
        return every
    found: set[int] = set()
    for part in np.array_split(every, most // 4):
        heights = [y[i] for i in part]
        at = (0, len(part) - 1, int(np.argmin(heights)), int(np.argmax(heights)))
        found |= {int(part[i]) for i in at}
    return sorted(found)


def _thin(trace: dict[str, Any]) -> None:
    if trace["type"] != "scatter" or trace.get("mode") != "lines":
        return
    x, y = trace.get("x") or [], trace.get("y") or []
    kept = kept_points(x, y)
    for name in ("x", "y", "text", "customdata"):
        if isinstance(trace.get(name), list) and len(trace[name]) == len(x):
            trace[name] = [trace[name][i] for i in kept]


def _plain(value: Any) -> Any:
    """Lists and rounded numbers, of arrays too; what is not a number is null."""
    if isinstance(value, dict):
        if "bdata" in value:
            return _plain(_array(value))
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value


def _array(value: dict[str, Any]) -> np.ndarray:
    """Plotly's arrays: a dtype, bytes in base64, and a shape where there are two axes."""
    flat = np.frombuffer(b64decode(value["bdata"]), dtype=np.dtype(value["dtype"]))
    shape = value.get("shape")
    return flat if shape is None else flat.reshape([int(n) for n in str(shape).split(",")])


def _file(stem: Path) -> Path:
    return stem.with_name(stem.name + SUFFIX)
