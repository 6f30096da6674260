"""Trajectories, their delay embedding, and pairs (state, next state) without seams.

`n_delays` counts the blocks of a delayed state [y_t, ..., y_{t+n_delays-1}], as in the published
code of arXiv 2605.08237: 32 makes 32 x features rows, and 1 is no delay at all. Redman et al. 2023
(arXiv 2302.09160) count the copies besides y_t: their 32 is `n_delays=33`.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

Trajectory: TypeAlias = Float[np.ndarray, "steps features"]
"""States of one run, one row per snapshot, at a fixed stride."""


def trajectories(values: Any) -> list[np.ndarray]:
    """One or several trajectories as float64 arrays (steps x features).

    A list or tuple of arrays or tensors, and a three-dimensional array (runs x steps x features),
    are several; one dimension is a single feature. Raises ValueError for NaN, infinity, complex or
    constant data, and for runs with different features.
    """
    several = isinstance(values, list | tuple) and any(
        isinstance(one, np.ndarray | Tensor) and one.ndim for one in values
    )
    if not several:
        whole = _array(values)
        if whole.ndim not in (1, 2, 3):
            raise ValueError(
                f"got an array of shape {whole.shape}, expected steps x features, or a list of such"
            )
        values = list(whole) if whole.ndim == 3 else [whole]
    found = [_trajectory(one, i) for i, one in enumerate(values)]
    widths = sorted({one.shape[1] for one in found})
    if len(widths) != 1:
        raise ValueError(f"got runs of {widths} features, expected the same features in each run")
    return found


def check_length(runs: Sequence[np.ndarray], n_delays: int) -> None:
    """Raise ValueError unless each run has two pairs of delayed states."""
    if n_delays < 1:
        raise ValueError(f"got n_delays={n_delays}, expected at least 1 block (1: no delays)")
    for i, run in enumerate(runs):
        if len(run) < n_delays + 2:
            raise ValueError(
                f"run {i} has {len(run)} snapshots, expected at least n_delays + 2 = "
                f"{n_delays + 2}; record longer or pass a smaller n_delays"
            )


def uniform_stride(steps: Sequence[int] | np.ndarray) -> int:
    """Training steps between two snapshots. Raises ValueError unless all gaps are equal."""
    gaps = np.diff(np.asarray(steps))
    if not len(gaps) or gaps[0] <= 0:
        raise ValueError(f"got steps {list(steps)[:5]}, expected two or more that increase")
    off = np.flatnonzero(gaps != gaps[0])
    if off.size:
        at = int(off[0])
        raise ValueError(
            f"got a gap of {gaps[at]} after step {steps[at]} where the others are {gaps[0]}; the "
            "operator needs a fixed stride: pass the stretches between gaps as separate runs, or "
            "record every n-th step"
        )
    if gaps[0] != int(gaps[0]):
        raise ValueError(f"got a stride of {gaps[0]}, expected whole training steps")
    return int(gaps[0])


def hankel(
    values: Float[np.ndarray, "steps features"], n_delays: int
) -> Float[np.ndarray, "delayed columns"]:
    """Delayed states as columns: block j of column t is y_{t+j}, so that delayed =
    n_delays x features and columns = steps - n_delays + 1.

    Raises ValueError for fewer than n_delays snapshots.
    """
    steps, features = values.shape
    if not 1 <= n_delays <= steps:
        raise ValueError(
            f"got n_delays={n_delays} blocks and {steps} snapshots, expected 1 <= n_delays <= steps"
        )
    windows = sliding_window_view(values, n_delays, axis=0)  # column feature block, no copy
    return windows.transpose(2, 1, 0).reshape(n_delays * features, steps - n_delays + 1)


def snapshot_pairs(
    runs: Sequence[np.ndarray], n_delays: int
) -> tuple[Float[np.ndarray, "delayed pairs"], Float[np.ndarray, "delayed pairs"]]:
    """Delayed states Z and, column by column, what follows them, Z'.

    Each run is embedded by itself before the pairs are put side by side, so that none straddles two
    runs. A run of T snapshots gives T - n_delays pairs. Raises ValueError for a run too short.
    """
    check_length(runs, n_delays)
    embedded = [hankel(run, n_delays) for run in runs]
    if len(embedded) == 1:
        return embedded[0][:, :-1], embedded[0][:, 1:]
    now, after = ([e[:, part] for e in embedded] for part in (slice(-1), slice(1, None)))
    return np.concatenate(now, axis=1), np.concatenate(after, axis=1)


def hankel_gram(
    values: Float[np.ndarray, "steps features"], n_delays: int
) -> Float[np.ndarray, "columns columns"]:
    """H^T H of the delayed states, without building H: sums along diagonals of Y Y^T.

    For many features (hidden states), where H would not fit; its eigenvalues are the squared
    singular values of H, those below 1e-8 of the largest being rounding.
    """
    columns = len(values) - n_delays + 1
    if not 1 <= n_delays <= len(values):
        raise ValueError(f"got n_delays={n_delays} and {len(values)} snapshots")
    products = values @ values.T
    found = np.zeros((columns, columns))
    for lag in range(n_delays):
        found += products[lag : lag + columns, lag : lag + columns]
    return found


def _array(values: Any) -> np.ndarray:
    found = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if not (np.issubdtype(found.dtype, np.floating) or np.issubdtype(found.dtype, np.integer)):
        raise ValueError(f"got values of type {found.dtype}, expected real numbers")
    return found.astype(np.float64)


def _trajectory(values: Any, i: int) -> np.ndarray:
    found = _array(values)
    found = found[:, None] if found.ndim == 1 else found
    if found.ndim != 2 or 0 in found.shape:
        raise ValueError(f"run {i} has shape {found.shape}, expected steps x features")
    bad = np.argwhere(~np.isfinite(found))
    if bad.size:
        row, column = bad[0]
        raise ValueError(
            f"run {i} has {len(bad)} values that are not finite, the first in row {row}, feature "
            f"{column}; cut the run before it"
        )
    if np.abs(found - found[0]).max() <= 1e-14 * np.abs(found).max():
        raise ValueError(f"run {i} is constant: it has no dynamics to fit; check what was recorded")
    return found
