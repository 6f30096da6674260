"""What is known of a run at each step: the published residual, and what it has to beat.

Every signal is a value per step that uses nothing after that step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import scipy.linalg
from jaxtyping import Float, Int

from mechgrok.maths import dmd
from mechgrok.maths.quantiles import LEVELS

if TYPE_CHECKING:
    from mechgrok.runs.fingerprints import Fingerprints
    from mechgrok.runs.run import Run

OBSERVABLES: Final = {"answer_log_prob": "answer", "end_log_prob": "end token"}
ROUNDING: Final = 1e-6
"""Noise floor of a residual: rounding of logits of size 10 in float32."""


@dataclass(frozen=True)
class Settings:
    """What was fixed beforehand, but for what calibration runs choose."""

    landmarks: Sequence[int]
    """Steps at which runs are ranked."""
    windows: Sequence[int] = (125, 250)
    """Snapshots per window, to choose from; the published one first."""
    ranks: Sequence[int] = (10, 4, 2)
    """Ranks of the operator, to choose from; the published one first."""
    n_delays: int = 32
    stride: int = 25
    """Snapshots between two windows."""
    memory: int = 250
    """Steps over which a baseline's median is taken, as long as the published window."""

    @property
    def choices(self) -> list[tuple[int, int]]:
        """(rank, window) in order, the published one first."""
        return [(rank, window) for window in self.windows for rank in self.ranks]


@dataclass(frozen=True, eq=False)
class Signal:
    """Values of one run by step."""

    steps: Int[np.ndarray, " n"] = field(repr=False)
    values: Float[np.ndarray, " n"] = field(repr=False)

    def at(self, step: int) -> float:
        """The last value known at a step; NaN where there is none yet."""
        found = int(np.searchsorted(self.steps, step, side="right")) - 1
        return float(self.values[found]) if found >= 0 else np.nan


def signals(run: "Run", of: Settings) -> dict[str, Signal]:
    """All signals of a run by name; residuals as `residual of answer, rank 10, window 125`."""
    return {**residuals(run.fingerprints, of), **baselines(run, of)}


def residual_name(observable: str, rank: int, window: int) -> str:
    """Name of the residual of an observable (a value of OBSERVABLES) at a setting."""
    return f"residual of {observable}, rank {rank}, window {window}"


def residuals(fingerprints: "Fingerprints", of: Settings) -> dict[str, Signal]:
    """The published residual of both observables at every choice of rank and window.

    Windows that the run is too short for are left out.
    """
    found = {}
    for observable, name in OBSERVABLES.items():
        values = fingerprints.quantiles(observable)
        for window in of.windows:
            if window > len(values):
                continue
            first = np.arange(0, len(values) - window + 1, of.stride)
            rows = [window_residuals(values[at : at + window], of) for at in first]
            steps = fingerprints.steps[first + window - 1]
            for rank, column in zip(of.ranks, np.transpose(rows), strict=True):
                found[residual_name(name, rank, window)] = Signal(steps, column)
    return found


def window_residuals(
    values: Float[np.ndarray, "snapshots levels"], of: Settings
) -> Float[np.ndarray, " ranks"]:
    """|Z' - U U^T Z' V V^T| / |Z'| by rank, with Z = U S V^T of the centred window.

    As the published code fits it (temporal mean, projection on the leading `rank` directions):
    U U^T Z' V V^T is what U K U^T predicts from Z, and a projection, so that squares subtract. S
    and V come from Z^T Z, so that directions below 1e-7 of the largest are left out.
    """
    if not np.ptp(values, axis=0).any():
        return np.zeros(len(of.ranks))  # nothing moves: predicted exactly
    [centred] = dmd.centred([values], "temporal_mean")
    gram = dmd.hankel_gram(centred, of.n_delays)
    squares, v = scipy.linalg.eigh(
        gram[:-1, :-1], subset_by_index=(max(0, len(gram) - 1 - max(of.ranks)), len(gram) - 2)
    )
    squares, v = squares[::-1], v[:, ::-1]
    held = int((squares > squares[0] * 1e-14).sum())
    v, s = v[:, :held], np.sqrt(squares[:held])
    explained = np.square(v.T @ gram[:-1, 1:] @ v / s[:, None])
    norm = float(np.trace(gram[1:, 1:]))
    size = of.n_delays * values.shape[1] * (len(gram) - 1)
    left = [norm - explained[:rank, :rank].sum() for rank in of.ranks]
    return np.sqrt(np.maximum(left, 0) / max(norm, size * ROUNDING**2))


def baselines(run: "Run", of: Settings) -> dict[str, Signal]:
    """Medians over the last `memory` steps of what any run records, and the norm's slope."""
    rows = run.evaluations()
    steps = np.array([row["step"] for row in rows])
    norm = np.sqrt([row["sum_of_squares"] for row in rows if "sum_of_squares" in row])
    found = {
        "train loss": trailing(steps, _column(rows, "train_loss"), of.memory),
        "validation loss": trailing(steps, _column(rows, "test_loss"), of.memory),
        "validation accuracy": trailing(steps, _column(rows, "test_acc"), of.memory),
    }
    if len(norm):  # where it was recorded
        known = steps[: len(norm)]  # the last line, off the grid, lacks it
        found["weight norm"] = trailing(known, norm, of.memory)
        found["slope of weight norm"] = slope(known, norm, of.memory)
    return {**found, **_of_probes(run.fingerprints, of)}


def _column(rows: Sequence[Mapping[str, float]], name: str) -> Float[np.ndarray, " n"]:
    return np.array([row[name] for row in rows], dtype=np.float64)


def _of_probes(fingerprints: "Fingerprints", of: Settings) -> dict[str, Signal]:
    margins = fingerprints.values["margin"]
    found = {"mean margin": margins.mean(axis=1), "spread of margins": margins.std(axis=1)}
    for observable, name in OBSERVABLES.items():
        spread = np.ptp(fingerprints.quantiles(observable, (LEVELS[0], LEVELS[-1])), axis=1)
        found[f"quantile spread of {name}"] = spread
    every = max(1, of.memory // fingerprints.every // 10)
    kept = slice(None, None, every)
    return {
        name: trailing(fingerprints.steps[kept], values[kept], of.memory)
        for name, values in found.items()
    }


def trailing(steps: Int[np.ndarray, " n"], values: Float[np.ndarray, " n"], memory: int) -> Signal:
    """Median over (step - memory, step]."""
    first = np.searchsorted(steps, steps - memory, side="right")
    medians = [np.median(values[at : i + 1]) for i, at in enumerate(first)]
    return Signal(steps, np.array(medians))


def slope(steps: Int[np.ndarray, " n"], values: Float[np.ndarray, " n"], memory: int) -> Signal:
    """Change per step since the last look at least `memory` steps earlier, where there is one."""
    before = np.searchsorted(steps, steps - memory, side="right") - 1
    known = before >= 0
    changes = (values[known] - values[before[known]]) / (steps[known] - steps[before[known]])
    return Signal(steps[known], changes)
