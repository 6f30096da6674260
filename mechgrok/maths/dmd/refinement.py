"""Refined Ritz vectors: for each eigenvalue the vector of smallest residual.

Drmac, Mezic & Mohr 2018 (arXiv 1708.02685), algorithm 3 ("DDMD-RRR": refined Rayleigh-Ritz, no
reduced-rank regression). The residuals fall; the refined eigenvalues of slow modes can be worse
than the Ritz values, which therefore stay the ones to report.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float

from mechgrok.maths.dmd.operator import Operator


@dataclass(frozen=True, eq=False)
class Refined:
    """One refined vector per eigenvalue of an operator, in its order."""

    vectors: Complex[np.ndarray, "kept rank"]
    """In the operator's basis, of length 1."""
    eigenvalues: Complex[np.ndarray, " rank"]
    """Rayleigh quotients of the vectors."""
    residuals: Float[np.ndarray, " rank"]
    """|A v - Ritz value v|: smallest singular values, at most the operator's residuals."""


def refine(operator: Operator) -> Refined:
    """Smallest right singular vector of (image - eigenvalue) for each eigenvalue."""
    kept = operator.basis.shape[1]
    identity = np.eye(len(operator.image), kept)
    vectors = np.empty_like(operator.vectors)
    residuals = np.empty_like(operator.residuals)
    for i, eigenvalue in enumerate(operator.eigenvalues):
        if eigenvalue.imag < 0:  # the pair's other one stands before it
            vectors[:, i], residuals[i] = vectors[:, i - 1].conj(), residuals[i - 1]
            continue
        _, s, vh = np.linalg.svd(operator.image - eigenvalue * identity)
        vectors[:, i], residuals[i] = vh[-1].conj(), s[-1]
    inside = operator.image[:kept]
    quotients = np.einsum("ki,kl,li->i", vectors.conj(), inside, vectors)
    return Refined(vectors, quotients, residuals)
