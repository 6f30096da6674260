"""How many answers are right, for every kind of test item of a two-hop task.

Kinds are the test types of Wang et al. 2024 (arXiv 2405.15071), the four cells of which hops were
seen composed in training, and after fine-tuning those of He et al. 2026 (arXiv 2601.09049). Items
share facts, so the interval within a run draws whole hop-2 facts: at 240 items on 105 facts a
binomial one is up to 1.7 times too short.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from mechgrok.maths.statistics import MIN_RUNS, bootstrap_by_group
from mechgrok.measures import _two_hop
from mechgrok.measures._modular import Subject, report, typed_absence
from mechgrok.runs.result import NotApplicable, Result, Value

SUBJECT: Final = "checkpoint"
LEVEL: Final = 0.95
TRAINED: Final = ("id_atomic", "ood_atomic", "train_inferred")
"""Kinds of query that training_accuracy is the mean of."""


@dataclass(frozen=True)
class Cell:
    """A rate over items of one run."""

    rate: float
    """Mean over items."""
    n: int
    """Items."""
    n_facts: int
    """Different facts they rest on."""
    interval: tuple[float, float] | NotApplicable
    """Bootstrap over these facts, within the run."""


def cell(
    values: Float[Tensor, " items"] | Bool[Tensor, " items"],
    fact: Int[Tensor, " items"],
    generator: np.random.Generator,
) -> Cell:
    """Mean and interval of one value per item. Raises ValueError for no items."""
    if not len(values):
        raise ValueError("got no items; leave the cell out")
    data, facts = values.double().cpu().tolist(), fact.cpu().tolist()
    n_facts = len(set(facts))
    interval: tuple[float, float] | NotApplicable = NotApplicable(
        f"rests on {n_facts} facts; an interval needs {MIN_RUNS}"
    )
    if n_facts >= MIN_RUNS:
        interval = bootstrap_by_group(data, facts, generator, LEVEL)
    return Cell(sum(data) / len(data), len(data), n_facts, interval)


def two_hop_cells(
    right: Bool[Tensor, " items"],
    fact: Int[Tensor, " items"],
    cells: Mapping[str, Shaped[Tensor, " _"]],
    *,
    seed: int = 0,
) -> dict[str, Cell]:
    """The share that is right in every cell, given as rows (indices or a mask) by name.

    Cells may overlap; empty ones are left out. `fact` numbers each item's hop-2 fact.
    """
    found = {}
    for name, rows in cells.items():
        chosen = right[rows]
        if len(chosen):
            found[name] = cell(chosen, fact[rows], np.random.default_rng(seed))
    return found


@typed_absence("two_hop_cells", "test_inferred_ood_exact_match")
def measure(checkpoint: Subject, items: int = _two_hop.ITEMS, seed: int = 0) -> Result:
    """Exact match and target accuracy of every kind of query, with intervals within the run.

    Options: items (most queries of a kind), seed (of the draw, and of the bootstrap).
    """
    task = _two_hop.two_hop_task(checkpoint)
    rows, cells = _two_hop.places_of(_two_hop.kinds(task, items, seed))
    answers = _two_hop.answers(checkpoint, rows)
    fact = torch.where(task.tags["kind"] == 1, task.tags["second_fact"], task.tags["first_fact"])
    found = two_hop_cells(answers.exact, fact[rows], cells, seed=seed)
    first = "test_inferred_ood"
    values: dict[str, Value] = {}
    for name in (first, *(set_ for set_ in found if set_ != first)):
        one = found[name]
        values |= {
            f"{name}_exact_match": one.rate,
            f"{name}_interval_within_run": one.interval,
            f"{name}_target_accuracy": float(answers.target[cells[name]].double().mean()),
            f"{name}_n": one.n,
            f"{name}_facts": one.n_facts,
        }
    if "old_answer" in task.tags:
        old = task.tags["old_answer"][rows]
        for name in found:
            at = cells[name][old[cells[name]] >= 0]
            if len(at):
                stays = (answers.tail[at] == old[at]).double()
                values[f"{name}_old_answer"] = float(stays.mean())
    values["training_accuracy"] = _training(found)
    values["kinds"] = tuple(found)
    settings = f"at most {items} a kind, seed {seed}"
    return report("two_hop_cells", checkpoint, values, {**DEFINITION, "selection": settings})


def _training(found: Mapping[str, Cell]) -> Value:
    """The plain mean of the three kinds that are trained on, as published."""
    missing = [name for name in TRAINED if name not in found]
    if missing:
        return NotApplicable(f"the task has no {', '.join(missing)}")
    return sum(found[name].rate for name in TRAINED) / len(TRAINED)


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "exact_match: every answer of the row is the argmax; target_accuracy: its tail is; "
    "old_answer: share of edited queries still answered as before the edit",
    "centring": "none",
    "split": "as named; training_accuracy: mean of id_atomic, ood_atomic and train_inferred",
    "dtype": "forward in the model's, shares in float64",
    "interval": "within a run: 95 % bootstrap over hop-2 facts (an atomic query's own fact)",
}
