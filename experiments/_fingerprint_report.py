"""The report of fingerprint_study.py, from stored runs: numbers, sentences, page and pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import _fingerprint_figures as figures
import _fingerprint_spectra as spectra
import _study_page as page
import numpy as np
from _moments import Moments, moments, summary
from tqdm import tqdm

from mechgrok.figures import save_sweep_picture
from mechgrok.maths import dmd
from mechgrok.runs.fingerprints import Fingerprints
from mechgrok.runs.run import Run
from mechgrok.runs.runs import Runs
from mechgrok.runs.storage import RunError

DECAY: Final = "optim.weight_decay"


@dataclass(frozen=True, eq=False)
class Study:
    """Everything the report is made of."""

    runs: Sequence[Run]
    failed: Mapping[str, str]
    moments: Sequence[Moments]
    fingerprints: Sequence[Fingerprints] = field(repr=False)
    decays: Sequence[float]
    lr: float
    last: int
    """Last step that all runs have."""
    observed: Sequence[spectra.Observed] = field(repr=False)
    settings: spectra.Settings


def study(runs: Runs, failed: Mapping[str, str], settings: spectra.Settings) -> Study:
    """Read the runs that ended, in order of decay and seed, and fit their spectra."""
    kept = [run for run in runs if run.name not in failed]
    if not kept:
        raise RunError(f"all {len(runs)} runs failed: {dict(failed)}")
    optims: dict[str, Any] = {run.name: run.config.optim for run in kept}
    kept.sort(key=lambda run: (optims[run.name].weight_decay, run.seed))
    decays = [optims[run.name].weight_decay for run in kept]
    fingerprints = [run.fingerprints for run in kept]
    when = [moments(run) for run in kept]
    last = int(min(one.steps[-1] for one in fingerprints))
    lr = optims[kept[0].name].lr
    observed = [
        spectra.observe(
            name, fingerprints, decays, lr, last, settings, [m.generalised for m in when]
        )
        for name in tqdm(spectra.OBSERVABLES, desc="spectra", unit="observable")
    ]
    return Study(
        kept, failed, when, fingerprints, decays, lr, last, observed,
        settings,
    )  # fmt: skip


def numbers(of: Study) -> dict[str, Any]:
    """What is recorded."""
    pairs = list(combinations(sorted(set(of.decays)), 2))
    rows = [row for one in of.observed for pair in pairs for row in spectra.compared(one, *pair)]
    return {
        "runs": runs(of),
        "failed": dict(of.failed),
        "last_common_step": of.last,
        "times": times(of),
        "kept_energy": {one.name: one.kept for one in of.observed},
        "compared": rows,
        "sensitivity": [row for one in of.observed for row in sensitivity(one, pairs)],
        "pooled": [
            spectra.pooled(one, decay, of.settings)
            for one in of.observed
            for decay in sorted(set(of.decays))
        ],
        "means": means(of),
        "observables": observables(of),
    }


def runs(of: Study) -> list[dict[str, Any]]:
    """One row per run: moments, and per observable what its spectrum is like."""
    each = {one.name: spectra.per_run(one) for one in of.observed}
    rows = []
    for i, (run, when) in enumerate(zip(of.runs, of.moments, strict=True)):
        row: dict[str, Any] = {DECAY: of.decays[i], **when.plain(), "config": run.config.digest()}
        for one in of.observed:
            top = spectra.peak(
                one.windows[i], of.fingerprints[i], of.settings.first, when.memorised
            )
            row[one.name] = each[one.name][i] | {"residual_peak": top}
        rows.append(row)
    return rows


def times(of: Study) -> list[dict[str, Any]]:
    """Moments by decay."""
    rows = []
    for decay in sorted(set(of.decays)):
        group = [m for m, d in zip(of.moments, of.decays, strict=True) if d == decay]
        last = [m.last for m in group]
        for name in ("memorised", "onset", "generalised"):
            found = summary([getattr(m, name) for m in group], last)
            rows.append({DECAY: decay, "moment": name, **found})
    return rows


def means(of: Study) -> list[dict[str, Any]]:
    """Means over the runs of a decay, with intervals from 5 runs on."""
    rows = []
    for one in of.observed:
        found = spectra.per_run(one)
        for decay in sorted(set(of.decays)):
            group = [row for row, d in zip(found, of.decays, strict=True) if d == decay]
            for name in ("trusted", "effective_rank", "one_step_residual"):
                mean = spectra.over_runs([row[name] for row in group])
                rows.append({"observable": one.name, DECAY: decay, "number": name, **mean})
    return rows


def sensitivity(
    one: spectra.Observed, pairs: Sequence[tuple[float, float]]
) -> list[dict[str, Any]]:
    """Trusted eigenvalues, and the test between decays (W1), at every rank and number of delays."""
    rows = []
    for (rank, delays), operators in one.grid.items():
        values = [spectra.trusted(operator) for operator in operators]
        row: dict[str, Any] = {"observable": one.name, "rank": rank, "delays": delays}
        row["trusted"] = float(np.mean([len(v) for v in values]))
        for first, second in pairs:
            chosen = [i for i, d in enumerate(one.decays) if d in (first, second)]
            group = [j for j, i in enumerate(chosen) if one.decays[i] == first]
            test = spectra.separation([values[i] for i in chosen], group, dmd.wasserstein)
            row[f"p {first:g} {second:g}"] = test.get("p")
        rows.append(row)
    return rows


def observables(of: Study) -> list[dict[str, Any]]:
    """How far the two observables of the same run are apart: spectra, and windowed residuals."""
    answer, end = of.observed
    rows = []
    for i, run in enumerate(of.runs):
        both = answer.spectra[i].eigenvalues, end.spectra[i].eigenvalues
        residuals = answer.windows[i].residuals, end.windows[i].residuals
        rows.append(
            {
                "run": run.name,
                "W1": dmd.wasserstein(*both) if len(both[0]) and len(both[1]) else None,
                "residual_correlation": float(np.corrcoef(np.log10(residuals))[0, 1]),
            }
        )
    return rows


def write(of: Study, found: Mapping[str, Any], sentences: Sequence[str], path: Path) -> Path:
    """The page."""
    shown = drawn(of, found)
    parts = [
        ("Failed and censored runs", [page.unfinished(of.moments, of.failed)]),
        ("Every run", [page.table([_flat(row) for row in found["runs"]])]),
        ("Times", [page.table(found["times"])]),
        ("Curves", [page.figure(shown["curves"], "curves")]),
        ("Rank", [page.figure(shown["singular_values"], "singular-values"),
                  page.table(found["means"])]),
        ("Spectra", [page.figure(shown["spectra"], "spectra"),
                     page.figure(shown["pooled"], "pooled")]),
        ("Distances between runs", [page.figure(shown["distances"], "distances"),
                                    page.text(CAVEAT), page.table(found["compared"])]),
        ("Rank and delays", [page.figure(shown["sensitivity"], "sensitivity")]),
        ("Answer and end token", [page.table(found["observables"])]),
    ]  # fmt: skip
    return page.write(path, "Fingerprints and spectra of grokking", sentences, parts)


CAVEAT: Final = (
    "p: exact, by moving whole runs between the decays, one-sided (between minus within), the "
    "least possible being 2 over the number of splits; not corrected for the number of rows. The "
    "first row (answer, eigenvalues, W1) was the test fixed beforehand. The pole of weight decay "
    "itself, (1 - lr decay)^2, differs between the groups by construction, hence the rows without "
    "it and those with time counted in decays. Runs of different decay are in different phases at "
    "the same step, hence the rows up to each run's own generalising, where all did."
)


def drawn(of: Study, found: Mapping[str, Any]) -> dict[str, Any]:
    """All figures by name."""
    names = [f"{d:g} / {run.seed}" for run, d in zip(of.runs, of.decays, strict=True)]
    matrices = [
        (f"{figures.NAMES[one.name]}, {label}", _matrix(one, distance))
        for one in of.observed
        for label, distance in spectra.DISTANCES.items()
    ]
    return {
        "curves": figures.curves(
            of.runs, of.moments, of.fingerprints, of.observed, of.settings.first
        ),
        "singular_values": figures.singular_values(of.observed),
        "spectra": figures.spectra(of.observed, of.lr),
        "distances": figures.distances(matrices, names),
        "sensitivity": rank_and_delays(found),
        "pooled": figures.pooled(found["pooled"]),
    }


def rank_and_delays(found: Mapping[str, Any]) -> Any:
    """What rank and delays do to the number of trusted eigenvalues and to p, as recorded."""
    rows = found["sensitivity"]
    panels = [
        (f"{figures.NAMES[name]}: {title}", _grid(rows, name, column))
        for name in spectra.OBSERVABLES
        for title, column in _columns(rows)
    ]
    n = len(found["runs"])
    facts = f"n = {n} runs; trusted: mean number over runs; p: between decays, W1"
    return figures.grids(panels, "Rank and delays", facts)


PICTURES: Final = ("curves", "singular_values", "spectra", "distances", "sensitivity")


def save_pictures(of: Study, found: Mapping[str, Any], directory: Path, command: str) -> list[Path]:
    """The pictures, with the runs' digests beside each."""
    shown = drawn(of, found)
    return [
        save_sweep_picture(
            shown[name], directory / f"fingerprint_study_{name}", of.runs, command,
            recorded=name == "sensitivity",
        )
        for name in PICTURES
    ]  # fmt: skip


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Nested numbers under one name each."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            short = figures.NAMES[name]
            found |= {f"{short}: {inner}": v for inner, v in value.items()}
        elif name != "config":
            found[name] = value
    return found


def _matrix(one: spectra.Observed, distance: Any) -> np.ndarray:
    """Distances; missing where a run has no trusted eigenvalue."""
    values = [spectrum.eigenvalues for spectrum in one.spectra]
    full = [i for i, v in enumerate(values) if len(v)]
    matrix = np.full((len(values), len(values)), np.nan)
    matrix[np.ix_(full, full)] = dmd.distance_matrix([values[i] for i in full], distance)
    return matrix


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    ps = [name for name in rows[0] if name.startswith("p ")]
    return [("trusted", "trusted"), *((_against(name), name) for name in ps)]


def _against(column: str) -> str:
    """`p 1 2` as a title says it."""
    _, one, other = column.split()
    return f"p, {one} against {other}"


def _grid(rows: Sequence[Mapping[str, Any]], observable: str, column: str) -> dict[Any, float]:
    return {
        (row["rank"], row["delays"]): np.nan if row[column] is None else row[column]
        for row in rows
        if row["observable"] == observable
    }
