"""Resampled spectra: blocks of pairs within runs, or whole runs.

Each replicate is refitted in the basis of the operator it is for, with the rank fixed, so that it
takes about a millisecond and the basis counts as known. Replicates are matched to the eigenvalues
pair by pair: one of a pair is never matched to a stranger's conjugate.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Complex, Float, Int
from scipy.optimize import linear_sum_assignment

from mechgrok.maths.dmd.operator import Operator, conjugate_closed, predictive, scaled
from mechgrok.maths.statistics import MIN_RUNS

Resampling = Callable[[np.random.Generator], np.ndarray]
"""Draws the columns of one replicate."""


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Eigenvalues of resampled data, in the operator's order."""

    eigenvalues: Complex[np.ndarray, " rank"]
    """The operator's own."""
    draws: Complex[np.ndarray, "resamples rank"]
    """Matched replicates; both of a conjugate pair are conjugate in every row."""

    def interval(
        self, of: Literal["modulus", "angle"] = "modulus", level: float = 0.95
    ) -> Float[np.ndarray, "rank 2"]:
        """Percentile interval of each eigenvalue's modulus, or angle in radians per snapshot."""
        if not 0 < level < 1:
            raise ValueError(f"got level={level}, expected a number between 0 and 1, such as 0.95")
        values = np.abs(self.draws) if of == "modulus" else np.angle(self.draws)
        return np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0).T


def bootstrap(
    Z: Float[np.ndarray, "delayed pairs"],
    Zp: Float[np.ndarray, "delayed pairs"],
    operator: Operator,
    resampling: Resampling,
    generator: np.random.Generator,
    resamples: int = 200,
) -> Bootstrap:
    """Replicates of an operator's eigenvalues; Z and Zp are what it was fitted to."""
    Z, Zp = scaled(Z, Zp) if operator.method == "rayleigh" else (Z, Zp)
    s = operator.singular_values[: operator.basis.shape[1]]
    white, after = operator.coordinates(Z) / s[:, None], operator.coordinates(Zp)
    draws = np.empty((resamples, operator.rank), dtype=np.complex128)
    for i in range(resamples):
        columns = resampling(generator)
        found = _eigenvalues(white[:, columns], after[:, columns], s, operator)
        draws[i] = matched(operator.eigenvalues, found)
    return Bootstrap(operator.eigenvalues, draws)


def moving_blocks(lengths: Sequence[int], block: int) -> Resampling:
    """Blocks of successive pairs, drawn within each run; `lengths` are the runs' numbers of pairs.

    A block should be at least 2 n_delays pairs long. Raises ValueError for a run shorter than that.
    """
    if not 1 <= block <= min(lengths):
        raise ValueError(f"got blocks of {block} pairs, expected 1..{min(lengths)}, a run's pairs")
    starts = np.concatenate([[0], np.cumsum(lengths)])

    def draw(generator: np.random.Generator) -> Int[np.ndarray, " pairs"]:
        found = []
        for start, length in zip(starts, lengths, strict=False):
            firsts = generator.integers(length - block + 1, size=-(-length // block))
            found.append((start + firsts[:, None] + np.arange(block)).ravel()[:length])
        return np.concatenate(found)

    return draw


def whole_runs(lengths: Sequence[int]) -> Resampling:
    """Whole runs, drawn with replacement: what an interval over seeds needs.

    Raises ValueError below 5 runs, where such an interval says nothing.
    """
    if len(lengths) < MIN_RUNS:
        raise ValueError(
            f"got {len(lengths)} runs, expected at least {MIN_RUNS} to draw runs from; show each"
        )
    columns = np.split(np.arange(sum(lengths)), np.cumsum(lengths)[:-1])

    def draw(generator: np.random.Generator) -> Int[np.ndarray, " pairs"]:
        return np.concatenate(
            [columns[i] for i in generator.integers(len(lengths), size=len(lengths))]
        )

    return draw


def matched(
    eigenvalues: Complex[np.ndarray, " rank"], replicate: Complex[np.ndarray, " rank"]
) -> Complex[np.ndarray, " rank"]:
    """The replicate in the order of the eigenvalues, at the smallest total distance.

    Both sides are folded to the upper half plane first. A pair gets the mean of its two matches and
    the conjugate of it; a real eigenvalue may get a complex match, whose imaginary part is kept.
    """
    folded = [np.real(e) + 1j * np.abs(np.imag(e)) for e in (eigenvalues, replicate)]
    columns = linear_sum_assignment(np.abs(folded[0][:, None] - folded[1]))[1]
    found = folded[1][columns]
    lower = np.flatnonzero(np.imag(eigenvalues) < 0)
    mean = (found[lower - 1] + found[lower]) / 2
    found[lower - 1], found[lower] = mean, mean.conj()
    return found


def _eigenvalues(
    white: np.ndarray, after: np.ndarray, s: np.ndarray, operator: Operator
) -> np.ndarray:
    product = after @ white.T
    chosen = predictive(white @ white.T, product, s, operator.rank, operator.ridge)
    found = np.linalg.eigvals((chosen.T / s) @ product @ chosen)
    return conjugate_closed(found, np.eye(len(found)))[0]
