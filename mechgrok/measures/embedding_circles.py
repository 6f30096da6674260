"""Whether tokens lie on a circle in the plane of each key frequency, and how much else is there.

Nanda et al. 2023 (arXiv 2301.05217), section 4.1: W_E holds cos w_k a and sin w_k a. The plane of k
is spanned by the two directions of the residual stream that carry them; every token is projected on
it whole, so other frequencies that share the plane blur the circle instead of being filtered out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from mechgrok.maths.fourier import check_frequencies, frequency_rows
from mechgrok.measures._modular import DoesNotApply, Subject, matrices, report, typed_absence
from mechgrok.measures.key_frequencies import KeyFrequencies, resolve_keys
from mechgrok.runs.result import NotApplicable, Result, Value

SUBJECT: Final = "checkpoint"


@dataclass(frozen=True)
class Circle:
    """The tokens in the plane of one frequency."""

    points: Float[Tensor, "p 2"]
    """Centred tokens in the plane, in units of the embedding; the first axis is that of cos."""
    share: float
    """Share 0..1 of the points' variance at the frequency itself; 1 for nothing else there.

    Not 0 for a random embedding, since the plane is chosen to hold the key: .64 at p=59, d=128.
    """
    roundness: float
    """Smaller over larger half axis of the frequency's ellipse: 1 a circle, 0 a line."""


def embedding_circles(W_E: Float[Tensor, "p d_model"], keys: Sequence[int]) -> dict[int, Circle]:
    """The circle of every key; rows of W_E are the elements of Z_p in order.

    Raises ValueError for keys outside 1..p//2, for p/2 of an even p, which has no sine, and for a
    key without any power.
    """
    p = W_E.shape[0]
    check_frequencies(keys, p)
    if 2 * max(keys, default=0) == p:
        raise ValueError(f"got frequency {p // 2} of p={p}: it has no sine, so no plane")
    centred = W_E.double() - W_E.double().mean(dim=0)
    return {k: _circle(centred, k) for k in keys}


def _circle(centred: Float[Tensor, "p d_model"], k: int) -> Circle:
    waves = frequency_rows([k], len(centred), centred.dtype, centred.device)
    directions = waves @ centred  # of cos, of sin
    if directions.norm() == 0:
        raise ValueError(f"got frequency {k}, at which the embedding has no power")
    plane, turn = torch.linalg.qr(directions.T)
    # QR leaves signs free; with these, cos and sin grow along the axes.
    plane = plane * torch.where(turn.diagonal() < 0, -1.0, 1.0)
    points = centred @ plane
    axes = torch.linalg.svdvals(directions)
    share = (waves @ points).square().sum() / points.square().sum()
    return Circle(points, float(share), float(axes[1] / axes[0]))


@typed_absence("embedding_circles", "min_share", "min_roundness", "keys")
def measure(checkpoint: Subject, keys: str | Sequence[int] | KeyFrequencies = "final") -> Result:
    """Circles of the keys in W_E, headline the least share of a plane's variance at its own key.

    Options: keys ("final", "own" or frequencies).
    """
    freqs, rule = resolve_keys(checkpoint, keys)
    W_E = matrices(checkpoint)["W_E"]
    round_keys = [k for k in freqs if 2 * k != len(W_E)]
    if not round_keys:
        raise DoesNotApply(f"no key frequencies: {rule}")
    found = embedding_circles(W_E, round_keys)
    values: dict[str, Value] = {
        "min_share": min(one.share for one in found.values()),
        "min_roundness": min(one.roundness for one in found.values()),
        "keys": round_keys,
    }
    others = [k for k in range(1, (len(W_E) + 1) // 2) if k not in round_keys]
    control = [one.share for one in embedding_circles(W_E, others).values()]
    values["non_keys_mean_share"] = (
        sum(control) / len(control) if control else NotApplicable("every frequency is a key")
    )
    for k, one in found.items():
        values |= {f"share_{k}": one.share, f"roundness_{k}": one.roundness}
    arrays = {f"points_{k}": one.points.float() for k, one in found.items()}
    return report(
        "embedding_circles", checkpoint, values, {**DEFINITION, "selection": rule}, arrays
    )


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "tokens projected on the plane of the directions W_E^T cos w_k, W_E^T sin w_k "
    "(orthonormalised, cos first); share: variance in the plane at k; roundness: smaller over "
    "larger singular value of the two directions",
    "centring": "mean token removed",
    "control": "non_keys_mean_share: mean share of the planes of all other frequencies",
    "split": "'=' token dropped; p/2 of an even p left out, having no sine",
    "dtype": "float64; points kept in float32",
}
