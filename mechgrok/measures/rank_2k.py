"""The neuron-logit map as a map of rank 2K, and what its 2K neuron directions read.

Nanda et al. 2023 (arXiv 2301.05217), section 4.3: W_L = W_out W_U is nearly
sum_k cos(w_k c) u_k^T + sin(w_k c) v_k^T over the keys, and u_k, v_k of the neurons read off
cos w_k(a+b), sin w_k(a+b) (table 1). The paper's "residual under 0.55 % of the norm" does not say
whether norms are squared, so both are given. The losses are of the MLP alone: logits N W_L without
the skip path and without biases.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from jaxtyping import Float, Int
from torch import Tensor

from mechgrok.maths.fourier import (
    component_names,
    fourier_basis,
    frequency_rows,
    sum_index,
)
from mechgrok.measures._modular import (
    DoesNotApply,
    Subject,
    matrices,
    neurons,
    report,
    sums,
    typed_absence,
)
from mechgrok.measures.key_frequencies import KeyFrequencies, resolve_keys
from mechgrok.measures.losses import judge
from mechgrok.measures.restricted_loss import check_table
from mechgrok.runs.result import NotApplicable, Result, Value

SUBJECT: Final = "checkpoint"


@dataclass(frozen=True)
class Rank2k:
    """W_L against its projection on the keys' cosines and sines over classes."""

    residual: float
    """Frobenius norm of W_L - its rank-2K form, over that of W_L; 0..1."""
    residual_squared: float
    """The same with squared norms: the share of power left out."""
    directions: Float[Tensor, "directions d_mlp"]
    """u_k, v_k: rows of B W_L at cos k, sin k of the keys."""
    names: tuple[str, ...]
    """'cos 3', 'sin 3', ... of every direction."""
    fve: Mapping[str, float | NotApplicable]
    """Fraction of variance of N u_k (N v_k) explained by cos (sin) w_k(a+b); 0..1."""
    amplitude: Mapping[str, float]
    """Least-squares alpha in N u_k ~ alpha cos w_k(a+b), in neuron x logit units."""
    loss: Mapping[str, float]
    """Cross-entropy over all pairs of N W_L: whole ('mlp'), 'rank_2k', and 'complement'; nats."""
    accuracy: Mapping[str, float]
    """Fraction answered right, by the same names."""


def rank_2k(
    W_L: Float[Tensor, "p d_mlp"],
    acts: Float[Tensor, "pairs d_mlp"],
    p: int,
    keys: Sequence[int],
    labels: Int[Tensor, " pairs"] | None = None,
) -> Rank2k:
    """Rank-2K form of W_L (rows: elements of Z_p) and read-offs of the neurons of all pairs.

    Labels default to (a+b) mod p. Raises ValueError for an incomplete table, keys outside 1..p//2,
    no keys, or a W_L of zeros.
    """
    W_L, acts = W_L.double(), acts.double()
    rows = frequency_rows(keys, p, W_L.dtype, W_L.device)
    if len(rows) == 0 or W_L.norm() == 0:
        raise ValueError(f"got keys {list(keys)} and |W_L| = {float(W_L.norm()):g}; expected > 0")
    directions = rows @ W_L
    rest = W_L - rows.T @ directions
    residual = float(rest.norm() / W_L.norm())
    mlp = acts @ W_L.T
    check_table(mlp, p)
    right = sum_index(p, mlp.device) if labels is None else labels
    kept = acts @ directions.T @ rows
    judged = {
        name: judge(x, right)
        for name, x in {"mlp": mlp, "rank_2k": kept, "complement": mlp - kept}.items()
    }
    names = _names(p, keys)
    read = [
        _read_off(x, _target(p, name, W_L))
        for name, x in zip(names, (acts @ directions.T).T, strict=True)
    ]
    return Rank2k(
        residual=residual,
        residual_squared=residual**2,
        directions=directions,
        names=names,
        fve={name: fve for name, (fve, _) in zip(names, read, strict=True)},
        amplitude={name: alpha for name, (_, alpha) in zip(names, read, strict=True)},
        loss={name: loss for name, (loss, _) in judged.items()},
        accuracy={name: accuracy for name, (_, accuracy) in judged.items()},
    )


def _names(p: int, keys: Sequence[int]) -> tuple[str, ...]:
    """Names of `frequency_rows`, in its order (ascending)."""
    return tuple(name for name in component_names(p)[1:] if int(name.split()[1]) in keys)


def _target(p: int, name: str, like: Tensor) -> Float[Tensor, " pairs"]:
    """cos or sin w_k(a+b) of all pairs, amplitude 1."""
    row = fourier_basis(p, like.dtype, like.device)[component_names(p).index(name)]
    # The basis has norm 1; a wave of amplitude 1 has mean square 1/2, at p/2 of an even p 1.
    alternates = name == f"cos {p / 2:g}"
    return (row * (p if alternates else p / 2) ** 0.5)[sum_index(p, like.device)]


def _read_off(
    y: Float[Tensor, " pairs"], target: Float[Tensor, " pairs"]
) -> tuple[float | NotApplicable, float]:
    """(fraction of y's variance explained, least-squares amplitude); the target has mean 0."""
    centred = y - y.mean()
    alpha = (centred @ target) / (target @ target)
    variance = centred.square().sum()
    if variance == 0:
        return NotApplicable("the direction reads one value for all inputs"), float(alpha)
    return float(1 - (centred - alpha * target).square().sum() / variance), float(alpha)


@typed_absence("rank_2k", "residual", "residual_squared", "rank_2k_loss", "complement_loss")
def measure(checkpoint: Subject, keys: str | Sequence[int] | KeyFrequencies = "final") -> Result:
    """Rank-2K form of W_L, headline the Frobenius residual, with read-offs and losses.

    Options: keys ("final", "own" or frequencies).
    """
    table = sums(checkpoint)
    acts = neurons(checkpoint)
    freqs, rule = resolve_keys(checkpoint, keys)
    if not freqs:
        raise DoesNotApply(f"no key frequencies: {rule}")
    found = rank_2k(matrices(checkpoint)["W_L"], acts, table.p, freqs, table.labels)
    values: dict[str, Value] = {
        "residual": found.residual,
        "residual_squared": found.residual_squared,
    }
    values |= {f"{name}_loss": loss for name, loss in found.loss.items()}
    values |= {f"{name}_accuracy": accuracy for name, accuracy in found.accuracy.items()}
    values |= {f"fve {name}": fve for name, fve in found.fve.items()}
    values |= {f"amplitude {name}": alpha for name, alpha in found.amplitude.items()}
    values["keys"] = freqs
    definition = {**DEFINITION, "rows": ", ".join(found.names), "selection": rule}
    return report("rank_2k", checkpoint, values, definition, {"directions": found.directions})


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "W_L projected on cos, sin w_k c of the keys; residual by Frobenius norm and by "
    "its square; losses of N W_L (MLP alone: no skip path, no biases) with W_L whole, projected, "
    "and what is left",
    "centring": "W_L none; read-offs by their mean over pairs",
    "split": "all pairs, '=' class dropped",
    "dtype": "float64, neurons in the model's",
}
