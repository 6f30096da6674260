"""Singular values of the embedding against random matrices of its size and norm.

Nanda et al. 2023 (arXiv 2301.05217), section 4.1: a few frequencies make W_E low rank. A Gaussian
matrix of the same shape, scaled to the same Frobenius norm, says what rank means nothing.
Participation ratio (sum s^2)^2 / sum s^4; effective rank exp(entropy of s / sum s) of Roy &
Vetterli 2007 (EUSIPCO).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from mechgrok.measures._modular import Subject, matrices, report, typed_absence
from mechgrok.runs.result import Result, Value

SUBJECT: Final = "checkpoint"
N_CONTROLS: Final = 20


@dataclass(frozen=True)
class Rank:
    """Singular values and two ranks that need no threshold, both from 1 to the matrix's rank."""

    singular: Float[Tensor, " rank"]
    """Singular values, largest first."""
    participation_ratio: float
    """(sum s^2)^2 / sum s^4: how many directions share the power."""
    effective_rank: float
    """exp of the entropy of s / sum s, in nats (Roy & Vetterli 2007)."""


@dataclass(frozen=True)
class EmbeddingRank:
    """A matrix and its Gaussian controls."""

    found: Rank
    """Of the matrix."""
    controls: tuple[Rank, ...]
    """Of each random matrix."""

    def control_mean(self, name: str) -> float:
        """Mean of a rank over the controls."""
        return sum(vars(control)[name] for control in self.controls) / len(self.controls)


def embedding_rank(
    matrix: Float[Tensor, "rows columns"],
    *,
    generator: torch.Generator,
    n_controls: int = N_CONTROLS,
) -> EmbeddingRank:
    """Ranks of a matrix and of Gaussian matrices with its shape and Frobenius norm.

    Raises ValueError for a matrix of zeros and for fewer than one control.
    """
    if n_controls < 1:
        raise ValueError(f"got n_controls={n_controls}, expected at least 1")
    matrix = matrix.double()
    controls = (_gaussian_like(matrix, generator) for _ in range(n_controls))
    return EmbeddingRank(rank(matrix), tuple(rank(x) for x in controls))


def rank(matrix: Float[Tensor, "rows columns"]) -> Rank:
    """Singular values and ranks of one matrix; ValueError for a matrix of zeros."""
    singular = torch.linalg.svdvals(matrix)
    if singular[0] == 0:
        raise ValueError("got a matrix of zeros, which has no rank to speak of")
    power = singular.square()
    share = singular / singular.sum()
    return Rank(
        singular=singular,
        participation_ratio=float(power.sum().square() / power.square().sum()),
        effective_rank=float(torch.special.entr(share).sum().exp()),
    )


def _gaussian_like(
    matrix: Float[Tensor, "rows columns"], generator: torch.Generator
) -> Float[Tensor, "rows columns"]:
    draw = torch.randn(matrix.shape, generator=generator, dtype=torch.float64).to(matrix.device)
    return draw * (matrix.norm() / draw.norm())


@typed_absence("embedding_rank", "participation_ratio", "effective_rank")
def measure(checkpoint: Subject, n_controls: int = N_CONTROLS, seed: int = 0) -> Result:
    """Ranks of W_E, headline the participation ratio, each beside its Gaussian control's.

    Options: n_controls (>= 1), seed (of the controls).
    """
    generator = torch.Generator().manual_seed(seed)
    W_E = matrices(checkpoint)["W_E"]
    found = embedding_rank(W_E, generator=generator, n_controls=n_controls)
    values: dict[str, Value] = {}
    for name in ("participation_ratio", "effective_rank"):
        values[name] = vars(found.found)[name]
        values[f"control_{name}"] = found.control_mean(name)
    arrays = {
        "singular": found.found.singular,
        "control_singular": torch.stack([control.singular for control in found.controls]),
    }
    control = f"{n_controls} Gaussian matrices of W_E's shape and norm, mean; control seed {seed}"
    return report("embedding_rank", checkpoint, values, {**DEFINITION, "control": control}, arrays)


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "singular values s; participation ratio (sum s^2)^2 / sum s^4; effective rank "
    "exp entropy(s / sum s)",
    "centring": "none",
    "selection": "'=' token dropped",
    "dtype": "float64",
}
