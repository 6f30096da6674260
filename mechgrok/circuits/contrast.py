"""Two runs of one model, clean and corrupted, and the metric that tells them apart."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from mechgrok.circuits.cuts import Cuts
from mechgrok.circuits.graph import Edge, Graph
from mechgrok.circuits.streams import Modules
from mechgrok.interventions.frequencies import check_grid, rows_in
from mechgrok.interventions.metrics import Metric, saturated_share


@dataclass(frozen=True, eq=False)
class Contrast:
    """What effects, scores and circuits of one pair of runs are measured on."""

    model: Any
    graph: Graph
    metric: Metric
    tokens: Int[Tensor, "rows pos"]
    noising: Cuts
    """The clean run; what is cut is corrupted."""
    denoising: Cuts
    """The corrupted run; what is cut is clean."""

    @cached_property
    def clean(self) -> float:
        """Metric of the clean run."""
        return self.value(())

    @cached_property
    def corrupted(self) -> float:
        """Metric of the corrupted run."""
        return self.value((), denoise=True)

    @property
    def saturated(self) -> float:
        """Share 0..1 of clean rows whose right answer has probability above .999."""
        kept = self.noising.logits(())[:, : self.metric.classes]
        return saturated_share(kept, self.metric.labels)

    def value(self, cut: Collection[Edge], denoise: bool = False) -> float:
        """Metric of the clean run with these edges corrupted, or the other way round."""
        run = self.denoising if denoise else self.noising
        return float(self.metric.rows(run.logits(cut)).double().mean())

    def circuit(self, edges: Collection[Edge]) -> float:
        """Metric of a circuit alone: every other edge corrupted."""
        kept = set(edges)
        return self.value([e for e in self.graph.edges if e not in kept])


def contrast(
    model: Any,
    graph: Graph,
    clean: Int[Tensor, "rows pos"],
    corrupted: Int[Tensor, "rows pos"],
    metric: Metric,
) -> Contrast:
    """Both runs, recorded once.

    A graph with frequencies needs all p*p pairs as the clean rows, and corrupted rows that shift an
    operand by the same step everywhere (`shifted_operand`): only then are the parts of the
    corrupted run the parts of a table over pairs. Raises ValueError for other rows, and for a
    metric that reads another position than the last; NotResidual as `graph`.
    """
    if metric.position % clean.shape[1] != clean.shape[1] - 1:
        raise ValueError(f"the metric reads position {metric.position}; circuits end at the last")
    modules = Modules(model, graph)
    base = modules.streams(clean)
    if graph.p:
        rows = _shifted(graph.p, clean, corrupted)
        other = base.take(rows)
    else:
        other = modules.streams(corrupted)
    noising, denoising = (Cuts(modules, graph, *x) for x in ((base, other), (other, base)))
    return Contrast(model, graph, metric, clean, noising, denoising)


def shifted_operand(p: int, operand: int, shift: int) -> Int[Tensor, " pairs"]:
    """For each of the p*p pairs the pair with one operand (0: a, 1: b) moved by `shift` mod p.

    Exactly one operand changes, as in `changed_operand`, and every frequency part of an activation
    moves with its pair. Raises ValueError for another operand and for a shift of 0 mod p.
    """
    if operand not in (0, 1) or shift % p == 0:
        raise ValueError(
            f"got operand {operand}, shift {shift}; expected 0 or 1, and not 0 mod {p}"
        )
    grid = torch.arange(p * p).view(p, p)
    return grid.roll(-shift, dims=operand).flatten()


def some_rows(metric: Metric, rows: slice) -> Metric:
    """The metric of some of its rows."""
    against = None if metric.against is None else metric.against[rows]
    return replace(metric, labels=metric.labels[rows], against=against)


def _shifted(p: int, clean: Tensor, corrupted: Tensor) -> Int[Tensor, " rows"]:
    check_grid(clean)
    if len(clean) != p * p:
        raise ValueError(f"got {len(clean)} rows, expected all {p * p} pairs of p={p}")
    rows = rows_in(clean, corrupted)
    pair = torch.arange(p * p, device=rows.device)
    steps = [((rows // p - pair // p) % p), ((rows % p - pair % p) % p)]
    if any(bool((step != step[0]).any()) for step in steps):
        raise ValueError(
            "the corrupted rows do not shift an operand by one step everywhere, which a graph with "
            "frequencies needs: corrupted = tokens[circuits.shifted_operand(p, operand, shift)]"
        )
    return rows
