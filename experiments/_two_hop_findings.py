"""Numbers of the two-hop experiment: every pretrained and every fine-tuned run, by its measures."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _two_hop_arms import Arm, arms
from _two_hop_design import REGIMES
from tqdm import tqdm

from mechgrok.runs.result import Result
from mechgrok.runs.run import Run

CURVE = 8
"""Checkpoints of a pretraining run that lens and cells are computed at."""
CELLS = ("ood_neither", "ood_first", "ood_second", "ood_both")
SOLVED, LEARNT = 0.95, 0.99
"""Accuracy at which a split counts as answered; of the taught facts, when cells are first read."""
COLUMNS = {
    "new": {
        "taught": "atomic_new_acc",
        "new_old": "test_acc",
        "old_new": "old_new_acc",
        "new_new": "test_inferred_new_acc",
    },
    "edited": {
        "taught": "edited_acc",
        "edit_first": "edit_first_acc",
        "edit_second": "edit_second_acc",
    },
}
"""Cells of fine-tuning and their columns of metrics.jsonl: exact match."""
KINDS = {"new_new": "test_inferred_new"}
"""Cells that a measure has under another name."""


def pretrained(folder: Path) -> dict[tuple[str, str, int], Run]:
    """Every run with a checkpoint after its first, by model, regime and seed."""
    found = {}
    for path in sorted(folder.glob("*__seed*")):
        if not (path / "config.yaml").exists() or len(Run(path).steps) < 2:
            continue
        run = Run(path)
        task: Any = run.config.task
        found[model_of(run), task.regime, run.seed] = run
    return found


def model_of(run: Run) -> str:
    """trm, gpt2 or gpt2_twice."""
    model: Any = run.config.model
    return "trm" if model.name == "trm" else "gpt2" if model.passes == 1 else "gpt2_twice"


def finetuned(folder: Path, name: str) -> Iterator[tuple[Arm, Run]]:
    """Every run of fine-tuning that has a checkpoint after its first, with its arm."""
    for arm in arms(name, REGIMES):
        for path in sorted(folder.glob(f"{arm.name}__seed*")):
            if (path / "config.yaml").exists() and len(Run(path).steps) > 1:
                yield arm, Run(path)


def curve_steps(steps: Sequence[int], most: int = CURVE) -> list[int]:
    """At most so many of the checkpoints, evenly spread, the first and the last among them."""
    places = np.linspace(0, len(steps) - 1, min(most, len(steps))).round().astype(int)
    return [steps[i] for i in sorted(set(places.tolist()))]


def measured(runs: Mapping[tuple[str, str, int], Run]) -> list[dict[str, Any]]:
    """One row per pretrained run: cells, lens, probe and swap at the last step and untrained."""
    jobs = [(run, step) for run in runs.values() for step in curve_steps(run.steps)]
    for run, step in tqdm(jobs, desc="lens and cells", unit="checkpoint", disable=None):
        run.measure_steps(["two_hop_cells", "bridge_lens"], [step])
    return [
        _pretrained_row(key, run)
        for key, run in tqdm(runs.items(), desc="probe and swap", unit="run", disable=None)
    ]


def _pretrained_row(key: tuple[str, str, int], run: Run) -> dict[str, Any]:
    model, regime, seed = key
    first, last = run.steps[0], run.steps[-1]
    ood = run.measure("bridge_swap", last, split="test_inferred_ood")
    row: dict[str, Any] = {"run": run.name, "model": model, "regime": regime, "seed": seed}
    row |= {"state": run.status["state"], "step": last, **_measures(run, last)}
    row |= {"swap_ood": value(ood, "interchange"), "swap_ood_stays": value(ood, "stays")}
    row["untrained"] = _measures(run, first)
    lens = {step: run.measure("bridge_lens", step) for step in curve_steps(run.steps)}
    row["curve"] = {
        "steps": list(lens),
        **{
            name: [value(one, f"test_inferred_ood_{name}") for one in lens.values()]
            for name in ("exact_match", "excess", "bridge_found", "control", "target_found")
        },
    }
    return row


def _measures(run: Run, step: int) -> dict[str, Any]:
    """Cells, lens, probe and swap of one checkpoint; None where one does not apply."""
    cells, lens = (run.measure(name, step) for name in ("two_hop_cells", "bridge_lens"))
    probe, swap = (run.measure(name, step) for name in ("bridge_probe", "bridge_swap"))
    names = {"train": "train_inferred", "iid": "test_inferred_iid", "ood": "test_inferred_ood"}
    found = {name: value(cells, f"{kind}_exact_match") for name, kind in names.items()}
    found["cells"] = {
        kind: {"exact_match": value(cells, f"{kind}_exact_match"), "n": value(cells, f"{kind}_n")}
        for kind in CELLS
        if f"{kind}_n" in cells.values
    }
    found |= {"lens": value(lens, "test_inferred_ood_excess")}
    found |= {"bridge_found": value(lens, "test_inferred_ood_bridge_found")}
    found |= {"lens_control": value(lens, "test_inferred_ood_control")}
    found |= {"right_given_absent": value(lens, "test_inferred_ood_right_given_absent")}
    found |= {
        "probe": value(probe, "ood_selectivity"),
        "probe_held_out": value(probe, "held_out_selectivity"),
        "probe_accuracy": value(probe, "ood_accuracy"),
    }
    found |= {"swap": value(swap, "excess"), "interchange": value(swap, "interchange")}
    return found | {"stays": value(swap, "stays")}


def value(result: Result, name: str) -> Any:
    """A number of a result; None where it does not apply."""
    found = result.values.get(name)
    return found if isinstance(found, int | float) else None


def same_step(runs: Mapping[tuple[str, str, int], Run]) -> list[dict[str, Any]]:
    """Of every seed: when both_full reaches .95 OOD, and natural and its sham at that step.

    Where it never does, at its last evaluation. None for a run that was not evaluated there.
    """
    rows = []
    for (model, regime, seed), run in sorted(runs.items(), key=lambda item: item[0][2]):
        if (model, regime) != ("trm", "both_full"):
            continue
        own = run.evaluations()
        reached = [row for row in own if row["test_acc"] >= SOLVED]
        trained = [row["step"] for row in own if row["train_acc"] >= SOLVED]
        at = reached[0] if reached else own[-1]
        row: dict[str, Any] = {"seed": seed, "reached": bool(reached), "step": at["step"]}
        row |= {"train_step": trained[0] if trained else None, "both_full": at["test_acc"]}
        for name in ("natural", "both_full_sham"):
            other = runs.get(("trm", name, seed))
            there = {r["step"]: r["test_acc"] for r in other.evaluations()} if other else {}
            row[name] = there.get(at["step"])
        rows.append(row)
    return rows


def taught(found: Sequence[tuple[Arm, Run]]) -> list[dict[str, Any]]:
    """One row per fine-tuned run: cells when the taught facts were first learnt, and at the end."""
    return [
        _taught_row(arm, run)
        for arm, run in tqdm(found, desc="fine-tuned", unit="run", disable=None)
    ]


def _taught_row(arm: Arm, run: Run) -> dict[str, Any]:
    columns, rows = COLUMNS[arm.facts], run.evaluations()
    learnt = [row for row in rows if row[columns["taught"]] >= LEARNT]
    cells, lens = run.measure("two_hop_cells"), run.measure("bridge_lens")
    found: dict[str, Any] = {"run": run.name, "arm": arm.name, "start": arm.start}
    found |= {"regime": arm.regime, "facts": arm.facts, "trained": "+".join(arm.trained)}
    found |= {"seed": run.seed, "state": run.status["state"], "step": rows[-1]["step"]}
    found |= {"learnt_step": learnt[0]["step"] if learnt else None}
    found["when_learnt"] = _cells(learnt[0], columns) if learnt else None
    found["at_end"] = _cells(rows[-1], columns)
    found["kept"] = rows[-1]["train_acc"]
    kinds = [KINDS.get(name, name) for name in columns if name != "taught"]
    found["bridge"] = {
        kind: {name: value(lens, f"{kind}_{name}") for name in ("excess", "bridge_found", "n")}
        for kind in (*kinds, *(f"{k}_probed" for k in kinds))
        if f"{kind}_n" in lens.values
    }
    found["probed"] = {
        kind: {"exact_match": value(cells, f"{kind}_exact_match"), "n": value(cells, f"{kind}_n")}
        for kind in ("new_old_probed", "old_new_probed")
        if f"{kind}_n" in cells.values
    }
    if arm.facts == "edited":
        names = ("edited", "edit_first", "edit_second")
        found["old_answer"] = {name: value(cells, f"{name}_old_answer") for name in names}
    return found


def _cells(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, float | None]:
    return {name: row.get(column) for name, column in columns.items()}
