"""The report of perturbation_study.py, from stored runs: numbers, page and pictures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import _divergence as divergence
import _fingerprint_spectra as spectra
import _perturbation_figures as figures
import _study_page as page
import numpy as np
from _divergence import Distance
from _moments import moments, summary
from tqdm import tqdm

from mechgrok.figures import save_sweep_picture
from mechgrok.maths import dmd
from mechgrok.runs.run import Run
from mechgrok.runs.runs import Runs
from mechgrok.runs.storage import RunError

KINDS: Final = ("weights", "fingerprints", "predictions", "answers")
MOMENTS: Final = ("memorised", "onset", "generalised")
EVERY: Final = 250
"""Steps between the checkpoints whose answers are compared."""
PRESETS: Final = Path(__file__).with_name("presets.expected.json")


@dataclass(frozen=True, eq=False)
class Group:
    """A control, its perturbed runs, and runs of other seeds."""

    name: str
    control: Run
    perturbed: Sequence[Run]
    seeds: Sequence[Run]
    recorded: Sequence[Mapping[str, Any]] = field(repr=False)
    """Times of recorded runs of other seeds, where there are no runs of them."""
    settings: spectra.Settings
    distances: Mapping[str, Mapping[str, Distance]] = field(repr=False)
    """Kind -> run -> distance from the control."""
    apart: Mapping[str, Sequence[Distance]] = field(repr=False)
    """Kind -> distance of every pair of seeds."""
    matrix: np.ndarray = field(repr=False)
    """W1 of the spectra of `runs`; NaN where a run has no trusted eigenvalue."""
    last: int
    """Last step of these spectra."""

    @property
    def runs(self) -> list[Run]:
        """Control, perturbed, seeds."""
        return [self.control, *self.perturbed, *self.seeds]

    @property
    def mine(self) -> list[int]:
        """Places of control and perturbed runs."""
        return list(range(1 + len(self.perturbed)))

    @property
    def others(self) -> list[int]:
        """Places of the seeds."""
        return list(range(len(self.mine), len(self.runs)))


def groups(
    runs: Runs, failed: Mapping[str, str], seeds: Sequence[Run], settings: spectra.Settings
) -> list[Group]:
    """One group per preset and weight decay, in order."""
    cells: dict[tuple[str, float], list[Run]] = {}
    for run in runs:
        if run.name not in failed:
            cells.setdefault(_cell(run), []).append(run)
    found = []
    for cell, members in cells.items():
        controls = [run for run in members if run.config.perturbation.seed is None]
        if len(controls) != 1:
            raise RunError(f"{cell} has {len(controls)} controls that ended, expected one")
        perturbed = sorted((r for r in members if r is not controls[0]), key=_order)
        if not perturbed:
            raise RunError(f"{cell} has no perturbed run that ended")
        same = [run for run in seeds if _cell(run) == cell]
        found.append(
            _group(f"{cell[0]}, decay {cell[1]:g}", controls[0], perturbed, same, settings)
        )
    return found


def _group(
    name: str, control: Run, perturbed: Sequence[Run], seeds: Sequence[Run],
    settings: spectra.Settings,
) -> Group:  # fmt: skip
    runs = [control, *perturbed, *seeds]
    prints = {run.name: run.fingerprints for run in runs}
    given = {
        run.name: divergence.answers(run, _every(run))
        for run in tqdm(runs, desc=f"answers, {name}", unit="run")
    }

    def pair(run: Run, other: Run) -> dict[str, Distance]:
        one, two = prints[run.name], prints[other.name]
        return {
            "weights": divergence.of_weights(run, other),
            "fingerprints": divergence.of_fingerprints(one, two),
            "predictions": divergence.of_predictions(one, two),
            "answers": divergence.of_answers(given[run.name], given[other.name]),
        }

    mine = {run.name: pair(run, control) for run in perturbed}
    theirs = [pair(a, b) for i, a in enumerate(seeds) for b in seeds[:i] if _alike(a, b)]
    last = int(min(prints[run.name].steps[-1] for run in runs))
    return Group(
        name, control, perturbed, seeds, () if seeds else _recorded(control), settings,
        {kind: {run: found[kind] for run, found in mine.items()} for kind in KINDS},
        {kind: [found[kind] for found in theirs] for kind in KINDS},
        _matrix([prints[run.name] for run in runs], last, settings), last,
    )  # fmt: skip


def numbers(group: Group) -> dict[str, Any]:
    """What is recorded of a group."""
    return {
        "group": group.name,
        "runs": [_row(run, group) for run in group.runs],
        "recorded_seeds": list(group.recorded),
        "times": times(group),
        "growth": growth(group),
        "reached": reached(group),
        "spectra": distances(group),
    }


def times(group: Group) -> list[dict[str, Any]]:
    """Every moment over control and perturbed runs, over seeds, and how their spreads compare."""
    mine = [moments(run) for run in [group.control, *group.perturbed]]
    theirs = [moments(run) for run in group.seeds]
    rows = []
    for name in MOMENTS:
        one = [getattr(m, name) for m in mine]
        two = [getattr(m, name) for m in theirs] or [r[name] for r in group.recorded if name in r]
        ends = [m.last for m in theirs] or [r["steps"] for r in group.recorded if name in r]
        row: dict[str, Any] = {"moment": name}
        row["perturbed"] = summary(one, [m.last for m in mine])
        row["seeds"] = summary(two, ends) if two else None
        row["spread"] = divergence.spread(one, two) if two else {"note": "not recorded"}
        rows.append(row)
    return rows


def growth(group: Group) -> list[dict[str, Any]]:
    """Growth rates of every perturbed run, by what is compared."""
    rows = []
    for run in group.perturbed:
        for kind in ("weights", "fingerprints", "predictions"):
            found = divergence.growth(group.distances[kind][run.name])
            rows.append({"run": run.name, **_perturbation(run), "of": kind, **found})
    return rows


def reached(group: Group) -> list[dict[str, Any]]:
    """Distances from the control when it memorised, generalised and ended; and those of seeds."""
    when = moments(group.control)
    steps = {"start": 0, "memorised": when.memorised, "generalised": when.generalised}
    steps["end"] = when.last
    rows = []
    for kind in KINDS:
        for moment, step in steps.items():
            if step is None:
                continue
            mine = [divergence.at(d, step) for d in group.distances[kind].values()]
            theirs = [divergence.at(d, step) for d in group.apart[kind]]
            row = {"of": kind, "moment": moment, "step": step, "perturbed": mine}
            rows.append(row | {"between seeds": theirs})
    return rows


def distances(group: Group) -> dict[str, Any]:
    """Mean W1 of all pairs, intervals over runs; with the control; by scale."""
    full = [i for i in range(len(group.matrix)) if np.isfinite(group.matrix[i, i])]
    mine, others = ([i for i in side if i in full] for side in (group.mine, group.others))
    found: dict[str, Any] = {
        "last_step": group.last,
        "without_spectrum": [r.name for i, r in enumerate(group.runs) if i not in full],
        "perturbed": divergence.mean_of_pairs(group.matrix, mine),
        "from_control": [
            {**_perturbation(run), "W1": _number(group.matrix[0, i + 1])}
            for i, run in enumerate(group.perturbed)
        ],
    }
    if others:
        found["seeds"] = divergence.mean_of_pairs(group.matrix, others)
        found["perturbed minus seeds"] = divergence.difference_of_pairs(group.matrix, mine, others)
    return found


def write(
    found: Sequence[Group],
    stored: Sequence[Mapping[str, Any]],
    failed: Mapping[str, str],
    sentences: Sequence[str],
    path: Path,
) -> Path:
    """The page."""
    shown = drawn(found, stored)
    every = [moments(run) for group in found for run in group.runs]
    parts = [("Failed and censored runs", [page.unfinished(every, failed)])]
    for name in figures.TITLES:
        parts.append((figures.TITLES[name], [page.figure(shown[name], name)]))
    for one in stored:
        parts += [
            (f"{one['group']}: every run", [page.table(one["runs"])]),
            (f"{one['group']}: times", [page.table([_flat(row) for row in one["times"]])]),
            (f"{one['group']}: growth", [page.table(one["growth"])]),
            (f"{one['group']}: distances reached", [page.table(one["reached"])]),
            (f"{one['group']}: spectra", [page.text(json.dumps(one["spectra"]))]),
        ]
    return page.write(path, "Perturbed initial weights", sentences, parts)


def drawn(found: Sequence[Group], stored: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All figures by name; times as recorded."""
    return {
        "divergence": figures.divergence(found),
        "early": figures.early(found),
        "accuracy": figures.accuracy(found),
        "times": figures.times(stored),
        "spectra": figures.spectra(found),
    }


def save_pictures(
    found: Sequence[Group], stored: Sequence[Mapping[str, Any]], directory: Path, command: str
) -> list[Path]:
    """The pictures, with the runs' digests beside each."""
    runs, stem = [run for group in found for run in group.runs], directory / "perturbation_study"
    return [
        save_sweep_picture(one, Path(f"{stem}_{name}"), runs, command, recorded=name == "times")
        for name, one in drawn(found, stored).items()
    ]


def _cell(run: Run) -> tuple[str, float]:
    optim: Any = run.config.optim
    return run.config.preset, optim.weight_decay


def _order(run: Run) -> tuple[float, int]:
    asked = run.config.perturbation
    return asked.scale, asked.seed or 0


def _perturbation(run: Run) -> dict[str, Any]:
    asked = run.config.perturbation
    return {"scale": asked.scale, "perturbation seed": asked.seed}


def _every(run: Run) -> int:
    """Steps between compared answers: the checkpoints of tiny runs are nearer."""
    return EVERY if run.steps[-1] > EVERY else 20


def _alike(one: Run, other: Run) -> bool:
    """Whether the probes are the same, so that their values can be compared."""
    return np.array_equal(one.fingerprints.probes, other.fingerprints.probes)


def _recorded(control: Run) -> list[dict[str, Any]]:
    """Recorded times of the preset's other seeds."""
    kept = ("seed", "memorised", "generalised", "steps")
    runs = json.loads(PRESETS.read_text()).get(control.config.preset, {"runs": []})["runs"]
    return [{k: row[k] for k in kept} for row in runs if row["seed"] != control.seed]


def _matrix(prints: Sequence[Any], last: int, settings: spectra.Settings) -> np.ndarray:
    found = spectra.common_spectra(divergence.OBSERVABLE, prints, last, settings)[0]
    values = [spectrum.eigenvalues for spectrum in found]
    full = [i for i, v in enumerate(values) if len(v)]
    matrix = np.full((len(values), len(values)), np.nan)
    matrix[np.ix_(full, full)] = dmd.distance_matrix([values[i] for i in full], dmd.wasserstein)
    return matrix


def _row(run: Run, group: Group) -> dict[str, Any]:
    kind = "seed" if run in group.seeds else "control" if run is group.control else "perturbed"
    row = {"kind": kind, **_perturbation(run), **moments(run).plain()}
    return row | {"config": run.config.digest()[:16]}


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"moment": row["moment"]}
    for side in ("perturbed", "seeds", "spread"):
        found |= {f"{side}: {name}": value for name, value in (row[side] or {}).items()}
    return found


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
