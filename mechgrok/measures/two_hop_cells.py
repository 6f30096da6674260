"""How many answers are right, for every kind of test item of a two-hop task.

Kinds are the test types of Wang et al. 2024 (arXiv 2405.15071), the four cells of which of an item's
hops were seen composed in training, and after fine-tuning the cells of arXiv 2601.09049 (He et al.
2026). Items share facts, so the interval within a run draws whole hop-2 facts: at 240 items on 105
facts a binomial one is up to 1.7 times too short.
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
