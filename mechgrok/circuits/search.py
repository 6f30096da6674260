"""Which edges are enough: circuits by threshold and by greedy removal, and how good one is.

Faithfulness (Wang et al. 2022, arXiv 2211.00593, section 4): the share of clean minus corrupted
metric that is left with every edge outside the circuit corrupted; 1 is the whole model, 0 none of
it, and values are never clipped. Completeness is read off the complement: the share left when the
circuit itself is corrupted, 0 for a complete one. Minimality: what each edge of the circuit adds.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from mechgrok.circuits.contrast import Contrast
from mechgrok.circuits.graph import Edge, Graph

CONTROLS: Final = ("uniform", "matched")
"""Random circuits: any edges, or as many of each kind as the circuit has."""


class SameRuns(ValueError):
    """Clean and corrupted run have one metric, so that no share of their difference exists."""


@dataclass(frozen=True)
class Judged:
    """A circuit against random ones of its size, on one pair of runs."""

    faithfulness: float
    """Share left with everything else corrupted."""
    complement: float
    """Share left with the circuit corrupted: 0 is complete."""
    minimality: tuple[float, ...]
    """For each edge of the circuit the share lost without it; below 0 where it does harm."""
    random: dict[str, tuple[float, ...]]
    """Faithfulness of random circuits of equal size, by control."""
    size: int
    """Edges."""
    of_edges: int
    """Edges of the graph."""


def strongest(
    edges: Sequence[Edge], scores: Float[Tensor, " edges"], size: int
) -> tuple[Edge, ...]:
    """The edges with the largest absolute scores, in the graph's order. Raises ValueError for a
    size the graph does not have."""
    if not 0 <= size <= len(edges):
        raise ValueError(f"got size={size}, expected 0..{len(edges)} edges")
    order = scores.abs().argsort(descending=True, stable=True)[:size].sort().values
    return tuple(edges[i] for i in order.tolist())


def by_threshold(
    edges: Sequence[Edge], scores: Float[Tensor, " edges"], threshold: float
) -> tuple[Edge, ...]:
    """The edges whose absolute score is at least a threshold, in units of the metric. Raises
    ValueError for a threshold that is not positive: it would take every edge."""
    if threshold <= 0:
        raise ValueError(f"got threshold={threshold}, expected more than 0")
    return strongest(edges, scores, int((scores.abs() >= threshold).sum()))


def greedy(
    runs: Sequence[Contrast],
    start: Sequence[Edge],
    scores: Float[Tensor, " edges"],
    target: float,
) -> tuple[Edge, ...]:
    """A circuit from which edges were taken one by one, the weakest first, for good where the
    faithfulness on every pair of runs stays at least `target`.

    As ACDC (Conmy et al. 2023, arXiv 2304.14997) with faithfulness as its divergence, by score
    instead of by depth. Raises ValueError when the start itself is below the target.
    """
    own = min(faithfulness(x, start) for x in runs)
    if own < target:
        raise ValueError(f"the circuit to start from has faithfulness {own:.3f}, below {target}")
    place = {edge: i for i, edge in enumerate(runs[0].graph.edges)}
    kept = list(start)
    weakest = sorted(start, key=lambda edge: float(scores[place[edge]].abs()))
    for edge in tqdm(weakest, desc="greedy", unit="edge", disable=None, leave=False):
        without = [e for e in kept if e != edge]
        if all(faithfulness(x, without) >= target for x in runs):
            kept = without
    return tuple(kept)


def faithfulness(runs: Contrast, circuit: Collection[Edge]) -> float:
    """Share of the metric's difference that a circuit alone keeps; never clipped. Raises SameRuns
    where there is no difference."""
    return _share(runs, runs.circuit(circuit))


def _share(runs: Contrast, value: float) -> float:
    clean, corrupted = runs.clean, runs.corrupted
    if clean == corrupted:
        raise SameRuns(f"clean and corrupted run both have {runs.metric.name} {clean}")
    return (value - corrupted) / (clean - corrupted)


def random_circuit(
    graph: Graph, circuit: Sequence[Edge], control: str, generator: torch.Generator
) -> tuple[Edge, ...]:
    """A random circuit of a circuit's size: of any edges, or with as many of each kind. Raises
    ValueError for an unknown control."""
    if control not in CONTROLS:
        raise ValueError(f"got control={control!r}, expected one of {CONTROLS}")
    if control == "uniform":
        return _drawn(graph.edges, len(circuit), generator)
    counts = Counter(edge.kind for edge in circuit)
    found: list[Edge] = []
    for kind, size in counts.items():
        found += _drawn([e for e in graph.edges if e.kind == kind], size, generator)
    return tuple(found)


def _drawn(edges: Sequence[Edge], size: int, generator: torch.Generator) -> tuple[Edge, ...]:
    return tuple(edges[i] for i in torch.randperm(len(edges), generator=generator)[:size].tolist())


def judge(
    runs: Contrast,
    circuit: Sequence[Edge],
    n_random: int,
    generator: torch.Generator,
    controls: Sequence[str] = CONTROLS,
) -> Judged:
    """Faithfulness, completeness and minimality of a circuit, and `n_random` random circuits of
    each control. Raises ValueError for an empty circuit and for edges the graph does not have."""
    unknown = set(circuit) - set(runs.graph.edges)
    if unknown or not circuit:
        names = sorted(edge.name for edge in unknown)[:3]
        raise ValueError(f"got a circuit of {len(circuit)} edges, not in the graph: {names}")
    own = faithfulness(runs, circuit)
    alone = tqdm(circuit, desc="minimality", unit="edge", disable=None, leave=False)
    lost = [own - faithfulness(runs, [e for e in circuit if e != edge]) for edge in alone]
    drawn: dict[str, tuple[float, ...]] = {}
    for name in controls:
        draws = tqdm(range(n_random), desc=f"random, {name}", disable=None, leave=False)
        others = (random_circuit(runs.graph, circuit, name, generator) for _ in draws)
        drawn[name] = tuple(faithfulness(runs, other) for other in others)
    complement = _share(runs, runs.value(circuit))
    return Judged(own, complement, tuple(lost), drawn, len(circuit), len(runs.graph.edges))
