"""Systems whose eigenvalues are known."""

import numpy as np
from scipy.optimize import linear_sum_assignment

SLOW = np.array([1, 0.9995, 0.998, 0.99, 0.97, *(0.985 * np.exp([0.15j, -0.15j]))])
"""A constant, slow decays as of training, and a damped rotation."""


def signal(
    eigenvalues: np.ndarray,
    steps: int = 300,
    features: int = 6,
    noise: float = 0.0,
    seed: int = 0,
) -> np.ndarray:
    """Features that mix eigenvalue^t of each eigenvalue (a conjugate-closed list), and white noise
    relative to their root mean square."""
    generator = np.random.default_rng(seed)
    powers = np.asarray(eigenvalues, dtype=complex)[None, :] ** np.arange(steps)[:, None]
    one_of_each = np.imag(eigenvalues) >= 0
    mixing = generator.normal(size=(2, one_of_each.sum(), features))
    values = (powers[:, one_of_each] @ (mixing[0] + 1j * mixing[1])).real
    return values + noise * values.std() * generator.normal(size=values.shape)


def worst(found: np.ndarray, true: np.ndarray) -> float:
    """Largest distance of a true eigenvalue to the one matched to it."""
    assert len(found) >= len(true)
    cost = np.abs(np.asarray(true)[:, None] - np.asarray(found))
    return float(cost[linear_sum_assignment(cost)].max())


def oscillation(steps: int, angle: float = 0.2) -> np.ndarray:
    """cos and sin of an angle per step."""
    return np.column_stack([np.cos(angle * np.arange(steps)), np.sin(angle * np.arange(steps))])
