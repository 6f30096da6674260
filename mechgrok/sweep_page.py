"""All runs of a sweep on one offline page: curves, times, comparison, table, failures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mechgrok import _page, discovery
from mechgrok.runs.runs import Runs
from mechgrok.runs.storage import RunError, write_text
from mechgrok.runs.table import FAILED

if TYPE_CHECKING:
    import pandas as pd

NOTE: Final = (
    "Restricted mean: area under the Kaplan-Meier curve up to the horizon, in steps; a run that "
    "had not generalised counts as censored, not as missing. Interval: 95 % bootstrap over runs, "
    "from 5 runs on. p: exact, two-sided, by flips of sign over pairs of runs that share all other "
    "settings, against the first row; not corrected for the number of rows."
)


def write_sweep_page(
    runs: Runs, path: Path, failed: Mapping[str, str] | None = None, by: Sequence[str] = ()
) -> Path:
    """Write the page of a set of runs; `failed` are reasons by run name, `by` the settings varied.

    A run whose accuracies are not recorded is in the table only. Returns the path.
    """
    ended = {r.name: str(r.status.get("reason")) for r in runs if r.status.get("state") in FAILED}
    reasons = {**ended, **(failed or {})}
    presets = ", ".join(sorted({run.config.preset for run in runs}))
    sections = [
        f"<h1>{_page.escape(f'Sweep of {presets}')}</h1>",
        _page.paragraph(f"{len(runs)} runs; {_varied(by)}; {len(reasons)} failed", "facts"),
        _failures(reasons),
        *(part for name in by or ("seed",) for part in _by(runs, name)),
        _page.section("Every run", _page.card(_html(runs.table()))),
    ]
    write_text(path, _page.page(f"Sweep of {presets}", sections, [_page.plotly_bundle()]))
    return path


def _varied(by: Sequence[str]) -> str:
    return "varied: " + ", ".join(by) if by else "only seeds differ"


def _failures(reasons: Mapping[str, str]) -> str:
    if not reasons:
        return ""
    return _page.section("Failed runs", _page.card(_page.pairs(list(reasons.items()))))


def _by(runs: Runs, name: str) -> list[str]:
    """Figures and comparison of one setting."""
    known = Runs(r for r in runs if {"train_acc", "test_acc"} <= set(r.evaluations()[0]))
    times = known.times()
    drawn = {"small_multiples": discovery.load("plots", "small_multiples")(list(known), name)}
    try:
        groups = times.groups(name)
        compared = _page.card(_page.paragraph(NOTE), _html(times.compare(name)))
        for figure in ("times_by", "survival"):
            drawn[figure] = discovery.load("plots", figure)(groups, name)
    except RunError as error:  # all failed, or two runs differ in nothing
        compared = _page.card(_page.paragraph(f"No comparison: {error}", "absent"))
    key = name.replace(".", "-")
    parts = [_page.figure(figure, f"{kind}-{key}") for kind, figure in drawn.items()]
    return [_page.section(f"By {name}", *parts, compared)]


def _html(frame: "pd.DataFrame") -> str:
    """A frame as a table; what is missing stays empty."""
    head = "".join(f"<th>{_page.escape(str(name))}</th>" for name in frame.columns)
    rows = frame.astype(object).where(frame.notna(), None).itertuples(index=False)
    body = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: Any) -> str:
    text = "" if value is None else _page.plain(value) if not isinstance(value, str) else value
    return f'<td class="value">{_page.escape(text)}</td>'
