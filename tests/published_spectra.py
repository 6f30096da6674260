"""Directories in the published fingerprint format, and the published computation of them.

Both are written from the format's description and the formulas alone, with numpy and nothing of
ours, so that they can be compared with.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np


def write_directory(directory: Path, values: np.ndarray, every: int = 2, **changes: Any) -> Path:
    """A run's log directory: one file per snapshot of 19 quantiles, steps, epochs and settings."""
    folder = directory / "fingerprints"
    folder.mkdir(parents=True)
    steps = every * np.arange(len(values))
    settings = {
        "d_model": 1,
        "n_projections": 0,
        "n_quantiles": values.shape[1],
        "probe_size": 100,
        "record_every": every,
        "layer_name": "decoder.blocks",
        "token_index": -1,
        "center_mode": "per_snapshot_mean",
        "fingerprint_seed": 42,
        "fingerprint_source": "log_prob",
    }
    (folder / "config.json").write_text(json.dumps(settings | changes))
    np.save(folder / "probe_indices.npy", np.arange(100))
    for step, row in zip(steps, values, strict=True):
        np.save(folder / f"snapshot_t{step:06d}.npy", row)
    np.save(folder / "steps.npy", steps)
    np.save(folder / "epochs.npy", steps // 8)
    return directory


def published_eigenvalues(values: np.ndarray, n: int = 32, k_mode: int = 10) -> np.ndarray:
    """Rows [y_t, ..., y_{t+n-1}] of the centred snapshots; projected DMD of their columns."""
    centred = values - values.mean(axis=0)
    rows = [np.concatenate([centred[t + j] for j in range(n)]) for t in range(len(values) - n + 1)]
    H = np.array(rows).T
    Z, Zp = H[:, :-1], H[:, 1:]
    U, s, vh = np.linalg.svd(Z, full_matrices=False)
    tolerance = s[0] * 1e-6 if s[0] < 1e-8 else 1e-10
    k = min(k_mode, int(np.sum(s > tolerance)))
    reduced = U[:, :k].conj().T @ Zp @ vh[:k].conj().T @ np.diag(1 / s[:k])
    return np.linalg.eigvals(reduced)
