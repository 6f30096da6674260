"""Eigenvalues per snapshot as rates per training step, and the poles an optimiser alone makes."""

import math

import numpy as np
from jaxtyping import Complex, Float


def rates(eigenvalues: Complex[np.ndarray, "*n"], record_every: int) -> Complex[np.ndarray, "*n"]:
    """log(eigenvalue) / record_every, per training step: the real part is growth (negative: decay),
    the imaginary part radians per step, below pi / record_every. An eigenvalue 0 has -inf."""
    _check(record_every)
    with np.errstate(divide="ignore"):
        real = np.log(np.abs(eigenvalues)) / record_every
    found = np.empty(eigenvalues.shape, dtype=np.complex128)
    found.real, found.imag = real, np.angle(eigenvalues) / record_every
    return found


def half_lives(
    eigenvalues: Complex[np.ndarray, "*n"], record_every: int
) -> Float[np.ndarray, "*n"]:
    """Training steps until a mode is halved; negative: minus the steps until it has doubled.

    An eigenvalue of modulus 1 has infinity, and 0 has 0.
    """
    growth = np.real(rates(eigenvalues, record_every))
    with np.errstate(divide="ignore"):
        return np.where(growth == 0, np.inf, -math.log(2) / growth)


def reference_poles(
    record_every: int, lr: float, weight_decay: float, betas: tuple[float, float]
) -> dict[str, float]:
    """Eigenvalues per snapshot that decoupled weight decay and Adam's two averages have by
    themselves: (1 - lr weight_decay), beta1 and beta2, each to the power of record_every."""
    _check(record_every)
    return {
        "weight decay": (1 - lr * weight_decay) ** record_every,
        "Adam beta1": betas[0] ** record_every,
        "Adam beta2": betas[1] ** record_every,
    }


def _check(record_every: int) -> None:
    if record_every < 1:
        raise ValueError(f"got record_every={record_every}, expected training steps per snapshot")
