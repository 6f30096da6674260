"""How much of the logits is a sum of cos w_k(a+b-c).

Nanda et al. 2023 (arXiv 2301.05217), section 4.2: logits ~ sum_k alpha_k cos w_k(a+b-c). Softmax
ignores a shift per row, so cosines are taken on row-centred logits; the paper's code does not
centre.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from mechgrok.maths.fourier import (
    check_frequencies,
    check_pairs,
    cosine_coefficients,
    sum_index,
)
from mechgrok.measures._modular import DoesNotApply, Subject, report, sums, typed_absence
from mechgrok.measures.key_frequencies import KeyFrequencies, resolve_keys
from mechgrok.runs.result import Result, Value

SUBJECT: Final = "checkpoint"


@dataclass(frozen=True)
class LogitCosines:
    """The cosine model of a table of logits; entry k-1 of an array is frequency k."""

    coefficients: Float[Tensor, " n_freqs"]
    """v_k, the coefficient on the unit-norm cos w_k(a+b-c); alpha_k = v_k / sqrt(p^3 / 2)."""
    cosines: Float[Tensor, " n_freqs"]
    """v_k over the norm of the row-centred logits, -1..1."""
    fve_raw: float
    """Fraction of the logits' sum of squares in the keys' cosines."""
    fve_rows: float
    """The same of logits centred by row, which softmax cannot tell apart from the logits."""
    fve_both: float
    """The same of logits centred by row and by class."""
    profile: Float[Tensor, " p"]
    """Mean of the row-centred logits where a+b-c = d mod p; d = 0 is the right answer."""
    profile_std: Float[Tensor, " p"]
    """Their population standard deviation over pairs."""


def logit_cosines(logits: Float[Tensor, "pairs p"], p: int, keys: Sequence[int]) -> LogitCosines:
    """Coefficients of all frequencies and explained fractions of the keys.

    Raises ValueError for an incomplete table, keys outside 1..p//2, or logits that are constant in
    every row, which have no cosines.
    """
    check_pairs(logits.shape[0], p)
    check_frequencies(keys, p)
    logits = logits.double()
    rows = logits - logits.mean(dim=1, keepdim=True)
    both = rows - rows.mean(dim=0)
    if both.norm() == 0:
        raise ValueError("got logits that do not depend on the pair; there is nothing to explain")
    coefficients = cosine_coefficients(logits, p)
    chosen = torch.tensor([k - 1 for k in keys], dtype=torch.long, device=logits.device)
    explained = coefficients[chosen].square().sum()
    profile = _by_difference(rows, p)
    # The cosines have zero mean over c and over (a, b), so centring leaves the coefficients alone.
    return LogitCosines(
        coefficients=coefficients,
        cosines=coefficients / rows.norm(),
        fve_raw=float(explained / logits.square().sum()),
        fve_rows=float(explained / rows.square().sum()),
        fve_both=float(explained / both.square().sum()),
        profile=profile.mean(dim=0),
        profile_std=profile.std(dim=0, correction=0),
    )


def _by_difference(logits: Float[Tensor, "pairs p"], p: int) -> Float[Tensor, "pairs p"]:
    """Each row in order of d = a+b-c mod p instead of c."""
    element = torch.arange(p, device=logits.device)
    classes = (element[:, None] - element) % p  # row s, column d: c = s - d
    return logits.gather(1, classes[sum_index(p, logits.device)])


@typed_absence("logit_cosines", "fve_rows", "fve_raw", "fve_both", "keys")
def measure(checkpoint: Subject, keys: str | Sequence[int] | KeyFrequencies = "final") -> Result:
    """Cosine model of the logits, headline the fraction of row-centred power explained by the keys.

    Options: keys ("final", "own" or frequencies).
    """
    table = sums(checkpoint)
    freqs, rule = resolve_keys(checkpoint, keys)
    if not freqs:
        raise DoesNotApply(f"no key frequencies: {rule}")
    found = logit_cosines(table.logits, table.p, freqs)
    values: dict[str, Value] = {
        name: vars(found)[name] for name in ("fve_rows", "fve_raw", "fve_both")
    }
    values["keys"] = freqs
    values |= {f"cosine_{k}": float(found.cosines[k - 1]) for k in freqs}
    names = ("coefficients", "cosines", "profile", "profile_std")
    arrays = {name: vars(found)[name] for name in names}
    return report("logit_cosines", checkpoint, values, {**DEFINITION, "selection": rule}, arrays)


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "inner product with unit-norm cos w_k(a+b-c), by the diagonal-sum kernel; profile: "
    "mean and std over pairs of the row-centred logits by d = a+b-c mod p",
    "centring": "cosines: row-centred; fve: raw, row-centred, row- and class-centred (both)",
    "split": "all pairs, '=' class dropped",
    "dtype": "float64",
}
