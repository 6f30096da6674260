"""The spectrum of any array of steps x features, from centring to rates, in one call.

    found = spectrum(array, n_delays=32, rank=10, record_every=2)
    found.eigenvalues, found.residuals, found.half_lives()
    found.windowed(window=250, stride=25).residuals

Look at several ranks and delays before believing an eigenvalue: trajectories of training are often
of rank 1 or 2, and the rest of a rank of 10 fits noise, which is what the residuals show.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from einops import rearrange
from jaxtyping import Bool, Complex, Float

from mechgrok.maths.dmd.bootstrap import Bootstrap, bootstrap, moving_blocks, whole_runs
from mechgrok.maths.dmd.centring import centred
from mechgrok.maths.dmd.operator import Operator, fit_operator
from mechgrok.maths.dmd.rates import half_lives, rates
from mechgrok.maths.dmd.snapshots import (
    check_length,
    hankel,
    snapshot_pairs,
    trajectories,
    uniform_stride,
)
from mechgrok.maths.dmd.windows import Windows, one_step, windowed

RESIDUAL_LIMIT: Final = 0.1
"""True eigenvalues at 1 % noise have residuals below 0.01, those of noise above 0.15."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigenvalues of training dynamics that passed the residual filter, and what did not.

    Of a conjugate pair both pass or neither does.
    """

    operator: Operator = field(repr=False)
    """The fitted operator, with every eigenvalue."""
    trusted: Bool[np.ndarray, " rank"] = field(repr=False)
    """Which of the operator's eigenvalues have a residual of at most residual_limit."""
    n_delays: int
    """Blocks per delayed state; 1 is no delay."""
    center: str
    """One of `centring.CENTRINGS`."""
    record_every: int
    """Training steps between two snapshots."""
    residual_limit: float | None
    """Largest residual that is trusted; None trusts all."""
    one_step_residual: float
    """|Z' - prediction| / |Z'| over all pairs."""
    runs: tuple[np.ndarray, ...] = field(repr=False)
    """The trajectories as given, in float64."""

    @property
    def eigenvalues(self) -> Complex[np.ndarray, " n"]:
        """Trusted eigenvalues per snapshot, by falling modulus, conjugates side by side."""
        return self.operator.eigenvalues[self.trusted]

    @property
    def residuals(self) -> Float[np.ndarray, " n"]:
        """Residual of each trusted eigenvalue."""
        return self.operator.residuals[self.trusted]

    @property
    def rejected(self) -> Complex[np.ndarray, " m"]:
        """Eigenvalues above the residual limit."""
        return self.operator.eigenvalues[~self.trusted]

    @property
    def singular_values(self) -> Float[np.ndarray, " all"]:
        """All singular values of the delayed states."""
        return self.operator.singular_values

    @property
    def modes(self) -> Complex[np.ndarray, "n delays features"]:
        """What each trusted eigenvalue moves, delay by delay; without the constant of `affine`."""
        modes = self.operator.modes[:, self.trusted]
        shaped = rearrange(modes, "(delay feature) n -> n delay feature", delay=self.n_delays)
        return shaped[..., : self.runs[0].shape[1]]

    @property
    def amplitudes(self) -> Complex[np.ndarray, "n runs"]:
        """Share of each trusted mode in the first delayed state of each run."""
        first = [self.states(i)[:, 0] for i in range(len(self.runs))]
        return self.operator.amplitudes(np.stack(first, axis=1))[self.trusted]

    @property
    def energies(self) -> Float[np.ndarray, "n runs"]:
        """Share of each trusted mode alone in the energy of each run (`Operator.energies`)."""
        each = [self.operator.energies(self.states(i)) for i in range(len(self.runs))]
        return np.stack(each, axis=1)[self.trusted]

    def states(self, run: int = 0) -> Float[np.ndarray, "delayed columns"]:
        """Delayed states of a run after centring, one per column."""
        return hankel(self._centred[run], self.n_delays)

    def rates(self) -> Complex[np.ndarray, " n"]:
        """log(eigenvalue) per training step."""
        return rates(self.eigenvalues, self.record_every)

    def half_lives(self) -> Float[np.ndarray, " n"]:
        """Training steps until a mode is halved; negative for one that grows."""
        return half_lives(self.eigenvalues, self.record_every)

    def windowed(self, window: int, stride: int, run: int = 0, noise: float = 0.0) -> Windows:
        """Residuals of windows of one run, with the settings of the whole."""
        fit = self.operator
        options = (
            {"ridge": fit.ridge, "coordinates": fit.basis.shape[1]} if fit.method == "rrr" else {}
        )
        return windowed(
            self.runs[run], window, stride, self.n_delays, fit.rank, self.center, fit.method,
            noise, **options,
        )  # fmt: skip

    def bootstrap(
        self, generator: np.random.Generator, resamples: int = 200, over_runs: bool = False
    ) -> Bootstrap:
        """Replicates of all the operator's eigenvalues: over blocks of 2 n_delays pairs within each
        run, or, from 5 runs on, over whole runs.

        Raises ValueError for a run that holds no two such blocks: one block would be drawn again
        and again, and the interval would have no width.
        """
        lengths = [len(run) - self.n_delays for run in self.runs]
        block = 2 * self.n_delays
        if not over_runs and min(lengths) < 2 * block:
            raise ValueError(
                f"got a run of {min(lengths)} pairs, expected two blocks of 2 n_delays = {block} "
                f"to draw from; pass at most n_delays={min(map(len, self.runs)) // 5}"
            )
        draw = whole_runs(lengths) if over_runs else moving_blocks(lengths, block)
        Z, Zp = snapshot_pairs(self._centred, self.n_delays)
        return bootstrap(Z, Zp, self.operator, draw, generator, resamples)

    @property
    def _centred(self) -> list[np.ndarray]:
        return centred(self.runs, self.center)


def spectrum(
    values: Any,
    n_delays: int = 32,
    rank: int | None = 10,
    center: str = "affine",
    method: str = "rayleigh",
    record_every: int | None = None,
    steps: Sequence[Any] | np.ndarray | None = None,
    residual_limit: float | None = RESIDUAL_LIMIT,
    **options: Any,
) -> Spectrum:
    """Spectrum of one array (steps x features), or of a list of them that share one operator.

    `steps` are the training steps of the rows (a list of such for several runs), from which the
    stride is taken and checked; otherwise give `record_every` (1 if neither is known). `rank=None`
    chooses one. Options are those of `fit_operator`. Raises ValueError for NaN, a constant signal,
    fewer snapshots than n_delays + 2, uneven steps, and a rank above what the data hold.
    """
    runs = trajectories(values)
    check_length(runs, n_delays)
    stride = _stride(runs, steps, record_every)
    Z, Zp = snapshot_pairs(centred(runs, center), n_delays)
    operator = fit_operator(Z, Zp, rank, method, **options)
    return summary(operator, Z, Zp, runs, n_delays, center, stride, residual_limit)


def summary(
    operator: Operator,
    Z: np.ndarray,
    Zp: np.ndarray,
    runs: Sequence[np.ndarray],
    n_delays: int,
    center: str,
    record_every: int,
    residual_limit: float | None,
) -> Spectrum:
    """The spectrum of an operator that is already fitted."""
    limit = np.inf if residual_limit is None else residual_limit
    error, size = one_step(operator, Z, Zp)
    return Spectrum(
        operator, operator.residuals <= limit, n_delays, center, record_every, residual_limit,
        error / size, tuple(runs),
    )  # fmt: skip


def compress(values: Any, components: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Runs in the leading principal directions of all their snapshots, and those directions.

    For many features (hidden states), before `spectrum`; one basis for all runs keeps their spectra
    comparable. Directions are rows (components x features); nothing is subtracted, so that
    `run @ directions` goes back. Raises ValueError for more components than features or snapshots.
    """
    runs = trajectories(values)
    pooled = np.concatenate(runs)
    if not 1 <= components <= min(pooled.shape):
        raise ValueError(f"got components={components}, expected 1..{min(pooled.shape)}")
    directions = np.linalg.svd(pooled, full_matrices=False)[2][:components]
    return [run @ directions.T for run in runs], directions


def _stride(
    runs: Sequence[np.ndarray], steps: Sequence[Any] | np.ndarray | None, record_every: int | None
) -> int:
    if steps is None:
        return 1 if record_every is None else record_every
    each = [steps] if len(runs) == 1 and not np.ndim(steps[0]) else list(steps)
    if [len(one) for one in each] != [len(run) for run in runs]:
        raise ValueError(
            f"got steps for {[len(one) for one in each]} rows and runs of "
            f"{[len(run) for run in runs]} rows, expected one step per row"
        )
    found = {uniform_stride(one) for one in each}
    if record_every is not None:
        found.add(record_every)
    if len(found) != 1:
        raise ValueError(f"got strides of {sorted(found)} training steps, expected a single one")
    return found.pop()
