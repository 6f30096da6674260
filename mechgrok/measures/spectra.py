"""1-D Fourier spectra of embedding, unembedding and neuron-logit map.

Nanda et al. 2023 (arXiv 2301.05217), section 4.1: W_E and W_L = W_out W_U are sparse in the Fourier
basis of Z_p. Power share of k: (cos^2 + sin^2) over the power of all p components.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from jaxtyping import Float
from torch import Tensor

from mechgrok.maths.fourier import component_names, component_norms, power_shares
from mechgrok.measures._modular import Subject, matrices, report, typed_absence
from mechgrok.runs.result import NotApplicable, Result, Value

SUBJECT: Final = "checkpoint"
TOP: Final = 5


@dataclass(frozen=True)
class Spectrum:
    """Fourier spectrum of a matrix with one row per element of Z_p."""

    component_norms: Float[Tensor, " p"]
    """Norm of every component, in basis order (const, cos 1, sin 1, ...)."""
    power_shares: Float[Tensor, " n_freqs"]
    """Share 0..1 of total power at frequency 1..p//2."""
    top5_share: float
    """Sum of the 5 largest shares; about 10/p for a random matrix."""
    top5_freqs: tuple[int, ...]
    """The frequencies with the 5 largest shares, largest first."""


def spectra(tables: Mapping[str, Float[Tensor, "p _"]]) -> dict[str, Spectrum]:
    """Spectrum of every named matrix; rows are the elements of Z_p in order."""
    return {name: spectrum(matrix.double()) for name, matrix in tables.items()}


def spectrum(matrix: Float[Tensor, "p d"]) -> Spectrum:
    """Spectrum of one matrix."""
    shares = power_shares(matrix)
    top = shares.topk(min(TOP, len(shares)))
    return Spectrum(
        component_norms=component_norms(matrix),
        power_shares=shares,
        top5_share=float(top.values.sum()),
        top5_freqs=tuple((top.indices + 1).tolist()),
    )


@typed_absence("spectra", "top5_share_W_E", "top5_share_W_U", "top5_share_W_L")
def measure(checkpoint: Subject) -> Result:
    """Spectra of W_E, W_U and W_L, headline the top-5 power share of W_E. No options."""
    found = spectra(matrices(checkpoint))
    absent = NotApplicable("the model has attention only, so there is no neuron-logit map W_L")
    values: dict[str, Value] = {}
    for name in ("W_E", "W_U", "W_L"):
        values[f"top5_share_{name}"] = found[name].top5_share if name in found else absent
    values |= {f"top5_freqs_{name}": s.top5_freqs for name, s in found.items()}
    arrays = {f"component_norms_{name}": s.component_norms for name, s in found.items()}
    arrays |= {f"power_shares_{name}": s.power_shares for name, s in found.items()}
    names = ", ".join(component_names(len(found["W_E"].component_norms))[:3])
    return report("spectra", checkpoint, values, {**DEFINITION, "order": f"{names}, ..."}, arrays)


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "orthonormal real DFT over tokens 0..p-1; share of k = (cos^2 + sin^2) / all p",
    "centring": "none; the constant counts in the total",
    "dtype": "float64",
    "selection": "'=' token and class dropped; W_L = W_out W_U of the last layer",
}
