"""What is subtracted from the snapshots, or added to them, before an operator is fitted.

- `none`: a constant offset is an eigenvalue 1 of the data.
- `temporal_mean`: minus each feature's mean over all snapshots of all runs (published). What turns
  about a fixed point loses its eigenvalue 1; slow decays become harder to tell from 1 (Hirsh et al.
  2020, arXiv 2105.03607).
- `per_snapshot_mean`: minus the mean over features: location goes, shape stays.
- `relative_to_t0`: minus the run's own first snapshot; adds the eigenvalue 1.
- `affine`: a constant feature is added, so that z' = A z + b is fitted; adds the eigenvalue 1
  where the data do not have it, and changes nothing else.
"""

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias, get_args

import numpy as np

Center: TypeAlias = Literal[
    "none", "temporal_mean", "per_snapshot_mean", "relative_to_t0", "affine"
]
CENTRINGS: Final[tuple[str, ...]] = get_args(Center)


def centred(runs: Sequence[np.ndarray], center: str) -> list[np.ndarray]:
    """The runs (steps x features) after one of `CENTRINGS`.

    `temporal_mean` and the constant of `affine` (the root mean square of all data, so that the
    units do not matter) are shared by all runs, which therefore keep one common operator. Raises
    ValueError for another name, and when nothing is left.
    """
    if center not in CENTRINGS:
        raise ValueError(f"got center={center!r}, expected one of {', '.join(CENTRINGS)}")
    found = _apply(runs, center)
    size, left = (max(float(np.abs(run).max()) for run in each) for each in (runs, found))
    if left <= 1e-14 * size:
        raise ValueError(f"center={center!r} leaves nothing of these data; choose another one")
    return found


def _apply(runs: Sequence[np.ndarray], center: str) -> list[np.ndarray]:
    pooled = np.concatenate(runs)
    if center == "temporal_mean":
        return [run - pooled.mean(axis=0) for run in runs]
    if center == "per_snapshot_mean":
        return [run - run.mean(axis=1, keepdims=True) for run in runs]
    if center == "relative_to_t0":
        return [run - run[0] for run in runs]
    if center == "affine":
        constant = np.sqrt(np.square(pooled).mean())
        return [np.column_stack([run, np.full(len(run), constant)]) for run in runs]
    return list(runs)
