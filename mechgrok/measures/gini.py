"""Gini coefficient of Fourier norms: how concentrated embedding and neuron-logit map are.

Hurley & Rickard 2009 (IEEE Trans. Inf. Theory 55), as used by Nanda et al. 2023 (arXiv 2301.05217),
section 5.2, where it rises sharply in cleanup.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from jaxtyping import Float
from torch import Tensor

from mechgrok.maths import statistics
from mechgrok.maths.fourier import component_norms, frequency_norms
from mechgrok.measures._modular import Subject, matrices, report, typed_absence
from mechgrok.runs.result import NotApplicable, Result, Value

SUBJECT: Final = "checkpoint"


@dataclass(frozen=True)
class Concentration:
    """Gini coefficients of one matrix, 0 (flat) to 1 - 1/n (a single entry)."""

    components: float
    """Over the norms of all p components, as published."""
    freqs: float
    """Over the norms of the p//2 frequencies, blind to the split into cos and sin."""


def gini(matrix: Float[Tensor, "p d"]) -> Concentration:
    """Gini coefficients of a matrix with one row per element of Z_p.

    Raises ValueError for a matrix of zeros.
    """
    matrix = matrix.double()
    return Concentration(
        components=statistics.gini(component_norms(matrix)),
        freqs=statistics.gini(frequency_norms(matrix)),
    )


@typed_absence("gini", "W_E", "W_E_freqs", "W_L", "W_L_freqs")
def measure(checkpoint: Subject) -> Result:
    """Gini of W_E and W_L over components and over frequencies. No options."""
    found = matrices(checkpoint)
    values: dict[str, Value] = {}
    for name in ("W_E", "W_L"):
        absent = NotApplicable("the model has attention only, so there is no neuron-logit map W_L")
        one = gini(found[name]) if name in found else None
        values[name] = absent if one is None else one.components
        values[f"{name}_freqs"] = absent if one is None else one.freqs
    return report("gini", checkpoint, values, DEFINITION)


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "Gini coefficient of norms over p components, and over p//2 frequencies (_freqs)",
    "centring": "none; the constant is one of the p components",
    "dtype": "float64",
    "selection": "'=' token and class dropped; W_L = W_out W_U of the last layer",
}
