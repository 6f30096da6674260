"""How alike two circuits are, against chance: edges, key frequencies, directions of outputs."""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.linalg import subspace_angles
from scipy.stats import hypergeom
from torch import Tensor

from mechgrok.circuits.graph import Edge, Graph


@dataclass(frozen=True)
class Overlap:
    """What two sets share."""

    shared: int
    sizes: tuple[int, int]
    of: int
    """What both are drawn from."""
    expected: float
    """Shared by two random sets of these sizes, on average."""
    p_value: float
    """Probability that random sets share at least as many (hypergeometric)."""


@dataclass(frozen=True, eq=False)
class Directions:
    """How far two subspaces of the residual stream point the same way."""

    overlap: float
    """Mean squared cosine of the principal angles: 1 for one subspace, 0 for orthogonal ones."""
    angles: Float[Tensor, " rank"]
    """Principal angles in radians, the smallest first."""
    random: Float[Tensor, " draws"]
    """The overlap of the first with random subspaces of the second's dimension."""

    @property
    def p_value(self) -> float:
        """Share of random subspaces that overlap at least as much, itself counted as one draw."""
        at_least = int((self.random >= self.overlap).sum())
        return (at_least + 1) / (len(self.random) + 1)


def edge_overlap(graph: Graph, one: Collection[Edge], other: Collection[Edge]) -> Overlap:
    """Edges that two circuits of one graph share. Raises ValueError for other edges."""
    unknown = (set(one) | set(other)) - set(graph.edges)
    if unknown:
        names = sorted(edge.name for edge in unknown)[:3]
        raise ValueError(f"the graph has no edges {names}; compare circuits of one graph")
    return _overlap(set(one), set(other), len(graph.edges))


def frequency_overlap(one: Collection[int], other: Collection[int], p: int) -> Overlap:
    """Key frequencies that two models share, out of the p//2 of Z_p. Raises ValueError for a
    frequency outside them."""
    outside = [k for k in (*one, *other) if not 1 <= k <= p // 2]
    if outside:
        raise ValueError(f"got frequencies {outside}, expected 1..{p // 2} for p={p}")
    return _overlap(set(one), set(other), p // 2)


def _overlap(one: set, other: set, of: int) -> Overlap:
    shared = len(one & other)
    return Overlap(
        shared=shared,
        sizes=(len(one), len(other)),
        of=of,
        expected=len(one) * len(other) / of,
        p_value=float(hypergeom.sf(shared - 1, of, len(one), len(other))),
    )


def direction_overlap(
    one: Float[Tensor, "rows d_model"],
    other: Float[Tensor, "rows d_model"],
    rank: int,
    generator: torch.Generator,
    n_random: int = 100,
) -> Directions:
    """Principal angles (Bjorck and Golub 1973) between the leading directions of two outputs.

    Rows are a component's outputs, centred here; `rank` directions of each are compared, and the
    first with random subspaces. Two models must share a basis (checkpoints of one run, or after
    alignment). Raises ValueError for a rank that the outputs do not have.
    """
    first, second = _leading(one, rank), _leading(other, rank)
    angles = torch.from_numpy(subspace_angles(first.numpy(), second.numpy())).flip(0)
    draws = []
    for _ in range(n_random):
        noise = torch.randn(first.shape, generator=generator, dtype=torch.float64)
        draws.append(float((first.T @ torch.linalg.qr(noise)[0]).square().sum()) / rank)
    overlap = float(angles.cos().square().mean())
    return Directions(overlap, angles, torch.tensor(draws, dtype=torch.float64))


def _leading(x: Float[Tensor, "rows d_model"], rank: int) -> Float[Tensor, "d_model rank"]:
    x = x.detach().double().cpu()
    values, directions = torch.linalg.svd(x - x.mean(dim=0), full_matrices=False)[1:]
    has = int((values > 1e-10 * values[0]).sum()) if float(values[0]) > 0 else 0
    if not 1 <= rank <= has:
        raise ValueError(f"got rank={rank}, but the outputs vary in {has} directions")
    return directions[:rank].T
