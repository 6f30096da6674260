"""Figures as files: html always, png and pdf where a browser is found.

The html files of a directory share one plotly.min.js beside them, so they open offline.
"""

import os
import shutil
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from mechgrok.drawn import save_drawn
from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError, tensor_digest, write_bytes, write_json, write_text

CONFIG: Final = {"responsive": True, "displaylogo": False, "showSendToCloud": False}
"""Of every plotly figure: no button or link that leads to another host."""
PICTURES: Final = ("png", "pdf")
SCALE: Final = 2
"""Pixels of a png per unit of the figure."""
WIDTH: Final = 1000
NAMES: Final = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
    "msedge",
    "brave-browser",
)
"""Executables that kaleido can drive."""
HINT: Final = (
    "pictures: `pip install kaleido` and a browser (chromium, or BROWSER_PATH) add png and pdf"
)


def save_figure(figure: go.Figure, stem: str | Path) -> list[Path]:
    """Write `stem`.html and, where possible, `stem`.png and `stem`.pdf; returns what was written.

    Without a browser or kaleido, one line per process says how to get them.
    """
    stem = Path(stem)
    written = [_write_html(figure, stem)]
    path = browser()
    if path is None or not has_kaleido():
        _say(HINT)
        return written
    try:
        for kind in PICTURES:
            picture = stem.with_name(f"{stem.name}.{kind}")
            write_bytes(picture, render(figure, kind, path))
            written.append(picture)
    except Exception as error:  # a browser fails in many ways, and the html is complete without it
        _say(f"pictures: {path} could not draw ({type(error).__name__}: {error}); html is written")
    return written


def save_picture(figure: go.Figure, stem: Path, run: Run, command: str) -> Path:
    """Write `stem`.png, and beside it `stem`.source.json: the command and the run's digests.

    What is drawn is kept too (`drawn.save_drawn`). Raises RunError without a browser or kaleido.
    """
    return save_png(figure, stem, {"command": command, **_digests(run)}, keep=True)


def save_sweep_picture(
    figure: go.Figure, stem: Path, runs: Iterable[Run], command: str, *, recorded: bool = False
) -> Path:
    """The same for a picture of several runs.

    `recorded`: all it shows is in an expected.json, so that nothing else has to be kept.
    """
    source = {"command": command, "runs": [_digests(run) for run in runs]}
    return save_png(figure, stem, source, keep=not recorded)


def save_png(
    figure: go.Figure, stem: Path, source: Mapping[str, Any] | None = None, keep: bool = False
) -> Path:
    """Write `stem`.png, and `stem`.source.json where a source is given; returns the picture.

    `keep`: first write what is drawn, and draw that. Raises RunError without a browser or kaleido.
    """
    path = browser()
    if path is None or not has_kaleido():
        raise RunError(f"cannot draw {stem}.png; {HINT}")
    written = stem.with_name(f"{stem.name}.png")
    shown = save_drawn(figure, stem) if keep else figure
    write_bytes(written, render(shown, "png", path))
    if source is not None:
        write_json(stem.with_name(f"{stem.name}.source.json"), source)
    return written


def _digests(run: Run) -> dict[str, str]:
    weights = tensor_digest(run[-1].weights)
    return {"run": run.name, "config": run.config.digest(), "weights": weights}


def browser() -> str | None:
    """Path of a browser that can draw pictures: BROWSER_PATH, or the first one found."""
    given = os.environ.get("BROWSER_PATH")
    if given:
        return given if os.access(given, os.X_OK) else None
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def has_kaleido() -> bool:
    """Whether kaleido, which drives the browser, is installed."""
    return find_spec("kaleido") is not None


def render(figure: go.Figure, kind: str, path: str) -> bytes:
    """A picture of a figure, drawn without the network."""
    import kaleido  # an extra: `pip install mechgrok[static]`

    layout: Any = figure.layout
    size = {"width": layout.width or WIDTH, "height": layout.height}
    options = {"format": kind, "scale": SCALE, **{k: v for k, v in size.items() if v}}
    # kaleido's page would load MathJax from a CDN
    return kaleido.calc_fig_sync(
        _still(figure), opts=options, kopts={"mathjax": False, "path": path}
    )


def _still(figure: go.Figure) -> go.Figure:
    """Without buttons and sliders, which a picture cannot move, and the frames behind them."""
    copy = go.Figure(figure)
    copy.layout.updatemenus = ()
    copy.layout.sliders = ()
    copy.frames = ()
    return copy


def _write_html(figure: go.Figure, stem: Path) -> Path:
    library = stem.parent / "plotly.min.js"
    script = get_plotlyjs().encode()
    if not library.exists() or library.stat().st_size != len(script):  # absent, or another version
        write_bytes(library, script)
    path = stem.with_name(f"{stem.name}.html")
    write_text(path, figure.to_html(include_plotlyjs="directory", config=CONFIG, auto_play=False))
    return path


@lru_cache
def _say(line: str) -> None:
    print(line)
