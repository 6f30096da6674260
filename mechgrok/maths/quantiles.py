"""Quantile fingerprints of a population of probes, and the distance between two of them.

A grid of quantiles samples the quantile function, so that the root mean square difference of two
fingerprints is the Wasserstein-2 distance of the populations, as far as the grid reaches. Hidden
states are projected on random directions first (sliced Wasserstein; Bonneel et al. 2015).
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from einops import rearrange
from jaxtyping import Float

LEVELS: Final = tuple(float(level) for level in np.linspace(0.05, 0.95, 19))
"""Levels of the published fingerprints (arXiv 2605.08237)."""


def quantiles(
    values: Float[np.ndarray, "*time probes"], levels: Sequence[float] = LEVELS
) -> Float[np.ndarray, "*time levels"]:
    """Quantiles over the probes, in float64, interpolated linearly, in the units of the values.

    Raises ValueError without probes, for values that are not finite, and for levels that do not
    increase within 0..1.
    """
    _check_levels(levels)
    if values.shape[-1] == 0:
        raise ValueError("got no probes; pass at least one value per snapshot")
    if not np.isfinite(values).all():
        raise ValueError(
            f"got {(~np.isfinite(values)).sum()} values that are not finite; drop them"
        )
    found = np.quantile(values.astype(np.float64), levels, axis=-1, method="linear")
    return np.moveaxis(found, 0, -1)


def directions(n: int, d: int, generator: np.random.Generator) -> Float[np.ndarray, "directions d"]:
    """Random directions in R^d, uniform on the unit sphere (normalised Gaussians)."""
    if n < 1 or d < 1:
        raise ValueError(f"got {n} directions in {d} dimensions, expected at least 1 of each")
    drawn = generator.standard_normal((n, d))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def sliced_quantiles(
    states: Float[np.ndarray, "*time probes d"],
    directions: Float[np.ndarray, "directions d"],
    levels: Sequence[float] = LEVELS,
) -> Float[np.ndarray, "*time fingerprint"]:
    """Quantiles of the states' projection on each direction; all levels of the first one first."""
    along = np.einsum("...pd,jd->...jp", states.astype(np.float64), directions)
    return rearrange(quantiles(along, levels), "... direction level -> ... (direction level)")


def fingerprint_distance(
    one: Float[np.ndarray, "*time fingerprint"], other: Float[np.ndarray, "*time fingerprint"]
) -> Float[np.ndarray, "*time"]:
    """Root mean square difference of two fingerprints: Wasserstein-2 within the levels."""
    return np.asarray(np.sqrt(np.square(one.astype(np.float64) - other).mean(axis=-1)))


def _check_levels(levels: Sequence[float]) -> None:
    grid = np.asarray(levels, dtype=np.float64)
    if not grid.size or not (np.diff(grid) > 0).all() or grid[0] < 0 or grid[-1] > 1:
        raise ValueError(f"got levels {list(levels)}, expected increasing numbers within 0..1")
