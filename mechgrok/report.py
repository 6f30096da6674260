"""The whole run on one page that works offline, and the short table for the terminal."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import yaml
from jaxtyping import Float
from tqdm import tqdm

from mechgrok import _page, _summary, discovery
from mechgrok.options import to_dict
from mechgrok.plots import attention
from mechgrok.runs.result import Result
from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError, write_text

EVERY: Final = (
    "losses",
    "weight_norm",
    "spectra",
    "gini",
    "key_frequencies",
    "restricted_loss",
    "excluded_loss",
)
"""Measures of every checkpoint."""
FIGURES: Final = (
    "grokking_curve",
    "progress_measures",
    "checkpoint_slider",
    "spectra",
    "embedding_circles",
    "embedding_rank",
    "attention_by_frequency",
    "mean_attention",
    "spectra_2d",
    "neuron_clusters",
    "neuron_grid",
    "logit_model",
    "attribution",
    "component_ablation",
    "frequency_ablation",
    "dose_response",
)
"""Figures of the report, in order."""
CHUNK: Final = 8
"""Checkpoints measured before their results are written."""
EXAMPLES: Final = 6
"""Rows whose attention is shown."""
LINE_EVERY: Final = 15.0
"""Seconds between plain lines when there is no terminal."""


def all_measures(*subjects: str) -> list[str]:
    """Every measure of these subjects; without any, of a checkpoint or of a run."""
    wanted = subjects or ("checkpoint", "run")
    names = discovery.names("measures")
    return [name for name in names if discovery.module("measures", name).SUBJECT in wanted]


LAST: Final = tuple(name for name in all_measures("checkpoint") if name not in EVERY)
"""Measures of the last checkpoint: all the others of a checkpoint, so that none is left out."""
OF_RUN: Final = tuple(all_measures("run"))
"""Measures of the run."""


def write_report(run: Run, progress: bool = True) -> Path:
    """Measure what is missing and write `report.html` into the run directory; returns its path.

    Raises RunError for a run without a checkpoint or an evaluation.
    """
    analyse(run, progress=progress)
    views, bundles = attention_of(run[-1], "at the last checkpoint")
    drawn = [_page.figure(discovery.load("plots", name)(run), name) for name in FIGURES]
    title = f"{run.name}: {run.config.preset}, seed {run.seed}"
    sections = [
        f"<h1>{_page.escape(title)}</h1>",
        _page.paragraph(f"mechgrok report, {run.steps[-1]:,} steps, n = 1 run", "facts"),
        _page.card(
            _page.paragraph(_summary.paragraph(run), "lead"), _page.pairs(_summary.rows(run))
        ),
        _page.section("Settings", _page.card(*_settings(run))),
        _page.section("Figures", *drawn),
        _page.section("Attention patterns", _page.card(views)),
        _page.section("All measures", _page.card(*_measures(run))),
    ]
    path = run.work / "report.html"
    write_text(path, _page.page(title, sections, [_page.plotly_bundle(), *bundles]))
    return path


def analyse(run: Run, steps: Sequence[int] | None = None, progress: bool = True) -> list[Result]:
    """Save and return every measure the report and its figures read; what is saved is kept.

    With `steps` only these checkpoints are measured, each with the measures of the last one too.
    Raises RunError for a run without a checkpoint or an evaluation.
    """
    found = follow(run, steps, progress)
    found += _flat(run.measure_steps(LAST, run.steps[-1:] if steps is None else steps))
    found += _flat(run.measure_steps(["times"]))
    if steps is None:
        found += _flat(run.measure_steps([name for name in OF_RUN if name != "times"]))
    return found


def follow(run: Run, steps: Sequence[int] | None = None, progress: bool = True) -> list[Result]:
    """Save and return the measures of every checkpoint, or of those given; errors as `analyse`."""
    if not run.steps or not run.evaluations():
        command = f"mechgrok train --preset {run.config.preset} --run {run.path}"
        raise RunError(f"{run.path} has no checkpoint or evaluation to report; run: {command}")
    found: list[Result] = []
    for chunk in _chunks(run.steps if steps is None else steps, progress):
        found += _flat(run.measure_steps(EVERY, chunk))
    return found


def measured(run: Run, names: Sequence[str], steps: Sequence[int]) -> list[Result]:
    """The named measures at these steps; without names all there are, of which those that the
    report does not follow are taken at the last of the steps only."""
    if names:
        return _flat(run.measure_steps(names, steps))
    rest = [*LAST, *OF_RUN]
    return follow(run, steps) + _flat(run.measure_steps(rest, steps[-1:]))


def _flat(measured: Mapping[str, list[Result]]) -> list[Result]:
    return [result for results in measured.values() for result in results]


def summary_table(run: Run) -> str:
    """The run in a few lines for a terminal; what is not measured yet is said, not computed."""
    run.measure("times")
    report = run.work / "report.html"
    lines = [*_summary.rows(run), ("report", str(report) if report.exists() else "not written")]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines)


def _chunks(steps: Sequence[int], progress: bool) -> Iterator[Sequence[int]]:
    """Steps in chunks, with a bar on a terminal and plain lines elsewhere."""
    terminal = progress and sys.stderr.isatty()
    last = time.monotonic()
    with tqdm(total=len(steps), unit="checkpoint", desc="measure", disable=not terminal) as bar:
        for start in range(0, len(steps), CHUNK):
            chunk = steps[start : start + CHUNK]
            yield chunk
            bar.update(len(chunk))
            if progress and not terminal and time.monotonic() - last >= LINE_EVERY:
                last = time.monotonic()
                print(f"measured {start + len(chunk)} of {len(steps)} checkpoints", flush=True)


def _measures(run: Run) -> list[str]:
    """The table of all measures, with the sentence and the figures of each."""
    names = sorted((*OF_RUN, *EVERY, *LAST))
    sentences = {n: (discovery.module("measures", n).__doc__ or "").splitlines()[0] for n in names}
    needs = {figure: discovery.module("plots", figure).NEEDS for figure in FIGURES}
    figures = {n: [figure for figure in FIGURES if n in needs[figure]] for n in names}
    note = "Of the last checkpoint or of the whole run; each line opens to all values and the "
    note += "exact definition. Measures of pairs and of sets of runs are not of one run."
    results = [run.result(name) for name in names]
    return [_page.paragraph(note), _page.measures(results, sentences, figures)]


def _settings(run: Run) -> list[str]:
    provenance = yaml.safe_dump({**run.provenance, "status": run.status}, sort_keys=False)
    return [
        _page.folded("config", yaml.safe_dump(to_dict(run.config), sort_keys=False)),
        _page.folded("provenance: versions, commit, machine, threads, device", provenance),
    ]


@dataclass(frozen=True)
class _Examples:
    """Attention of a few rows."""

    titles: list[str]
    tokens: list[list[str]]
    patterns: Float[np.ndarray, "rows layers heads queries sources"]


def attention_of(checkpoint: Any, moment: str, name: str = "attention") -> tuple[str, list[str]]:
    """Views of a few test rows, and the script they need; `name` is used once per page."""
    found = _examples(checkpoint)
    if found is None:
        return _page.paragraph("Does not apply: the model has no attention patterns.", "absent"), []
    view = attention.plot(found.tokens, found.patterns, found.titles, name)
    note = (
        f"A few rows of the test split {moment}, one map per head: the token of a "
        "line attends to the token of a column; darker is more, grey lies in the future."
    )
    return _page.paragraph(note) + view.body, [attention.bundle()]


def _examples(checkpoint: Any) -> _Examples | None:
    """Evenly spaced rows of the test split; None for a model without attention patterns."""
    model, task = checkpoint.model, checkpoint.task
    names = [name for name in model.hook_dict if name.endswith("attn.hook_pattern")]
    if not names:
        return None
    test = task.splits["test"].sort().values
    rows = test[torch.linspace(0, len(test) - 1, min(EXAMPLES, len(test))).long()]
    with torch.no_grad():
        _, cache = model.run_with_cache(
            task.tokens[rows].to(checkpoint.config.device), names_filter=names
        )
    patterns = torch.stack([cache[name] for name in names], dim=1)
    answers = checkpoint.answer_logits[rows, 0].argmax(dim=-1).tolist()
    words = [[task.vocabulary[token] for token in row] for row in task.tokens[rows].tolist()]
    rights = task.labels[rows, 0].tolist()
    titles = [
        f"{' '.join(row)}   answer {task.vocabulary[given]}, right {task.vocabulary[right]}"
        for row, given, right in zip(words, answers, rights, strict=True)
    ]
    return _Examples(titles, words, patterns.double().cpu().numpy())
