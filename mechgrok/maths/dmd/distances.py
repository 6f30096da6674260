"""Distances between spectra, and whether two groups of runs differ in them.

Any finite complex numbers will do: eigenvalues, or their rates per step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
import scipy.optimize
import scipy.spatial.distance
import scipy.stats
from jaxtyping import Complex, Float


def wasserstein(
    one: Complex[np.ndarray, " n"],
    other: Complex[np.ndarray, " m"],
    weights: tuple[Sequence[float] | np.ndarray, Sequence[float] | np.ndarray] | None = None,
) -> float:
    """Wasserstein-1 distance in the complex plane, each eigenvalue weighing 1/n (1/m) or as given.

    For equal numbers the mean cost of the best matching (Redman et al. 2023, arXiv 2302.09160),
    otherwise the cost of the best transport. Raises ValueError for an empty or infinite spectrum.
    """
    _check(one, other)
    if weights is None and len(one) == len(other):
        cost = np.abs(one[:, None] - other)
        return float(cost[scipy.optimize.linear_sum_assignment(cost)].mean())
    both = (None, None) if weights is None else weights
    return float(scipy.stats.wasserstein_distance_nd(_plane(one), _plane(other), *both))


def hausdorff(one: Complex[np.ndarray, " n"], other: Complex[np.ndarray, " m"]) -> float:
    """Largest distance from an eigenvalue of either spectrum to the nearest one of the other."""
    _check(one, other)
    a, b = _plane(one), _plane(other)
    directed = scipy.spatial.distance.directed_hausdorff
    return float(max(directed(a, b)[0], directed(b, a)[0]))


def distance_matrix(
    spectra: Sequence[np.ndarray],
    distance: Callable[[np.ndarray, np.ndarray], float] = wasserstein,
) -> Float[np.ndarray, "n n"]:
    """Distance of each spectrum to each other one."""
    found = np.zeros((len(spectra), len(spectra)))
    for i, one in enumerate(spectra):
        for j in range(i):
            found[i, j] = found[j, i] = distance(one, spectra[j])
    return found


@dataclass(frozen=True)
class PermutationTest:
    """Whether runs of two groups are farther from each other than runs of one."""

    statistic: float
    """Mean distance between the groups minus mean distance within them."""
    p: float
    """Share of splits of the runs whose statistic is at least as large, this one included."""
    splits: int
    """Splits looked at."""
    exact: bool
    """All splits; otherwise random ones."""


def permutation_test(
    distances: Float[np.ndarray, "n n"],
    first: Sequence[int],
    generator: np.random.Generator | None = None,
    most: int = 20_000,
) -> PermutationTest:
    """Test that the runs `first` differ from the others, by moving whole runs between the groups.

    5 against 5 runs have 252 splits, all of which are looked at; above `most` splits, that many are
    drawn. Two groups of equal size can be swapped, so that the smallest p of 5 against 5 is 2/252.
    Raises ValueError below 2 runs in a group, and when splits must be drawn without a generator.
    """
    n = len(distances)
    groups = sorted(set(first)), sorted(set(range(n)) - set(first))
    if min(map(len, groups)) < 2 or not set(first) <= set(range(n)):
        raise ValueError(f"got groups {groups} of {n} runs, expected at least 2 runs in each")
    splits = comb(n, len(groups[0]))
    if splits > most and generator is None:
        raise ValueError(f"got {splits} splits, more than most={most}; pass a generator to draw")

    def separation(one: np.ndarray, other: np.ndarray) -> float:
        within = [distances[np.ix_(g, g)].sum() for g in (one, other)]
        pairs = sum(len(g) * (len(g) - 1) for g in (one, other))
        return float(distances[np.ix_(one, other)].mean() - sum(within) / pairs)

    found = scipy.stats.permutation_test(
        groups, separation, vectorized=False, alternative="greater", n_resamples=most, rng=generator
    )
    exact = splits <= most
    return PermutationTest(
        float(found.statistic), float(found.pvalue), splits if exact else most, exact
    )


def _plane(values: np.ndarray) -> np.ndarray:
    return np.column_stack([np.real(values), np.imag(values)])


def _check(*spectra: np.ndarray) -> None:
    for values in spectra:
        if not len(values):
            raise ValueError("got an empty spectrum, to which nothing has a distance")
        if not np.isfinite(values).all():
            raise ValueError("got eigenvalues that are not finite (the rate of an eigenvalue 0?)")
