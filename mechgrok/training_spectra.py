"""Spectra of training: which modes the fingerprints of a run, or any array, decay and turn by.

    found = mg.spectra("results/quick__seed0", rank=10)
    found.table()
    found.plot("windowed_residual").show()

arXiv 2605.08237 with the answer observed instead of the closing token, eigenvalues filtered by
their residual, and intervals; `legacy=True` is that paper's own computation.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from mechgrok.config import ConfigError
from mechgrok.maths.dmd import (
    CENTRINGS,
    METHODS,
    Spectrum,
    Windows,
    compress,
    half_lives,
    optimal_rank,
    optimal_threshold,
    published_spectrum,
    rates,
    reference_poles,
    spectrum,
)
from mechgrok.maths.dmd.spectra import RESIDUAL_LIMIT
from mechgrok.maths.statistics import MIN_RUNS
from mechgrok.runs.run import Run
from mechgrok.runs.snapshots import OBSERVABLES, Snapshots, snapshots
from mechgrok.runs.training_spectrum import Mode, TrainingSpectrum

FIGURES: Final = ("eigenvalues", "singular_values", "windowed_residual")
"""Figures of a spectrum, in `mechgrok/plots`."""
LEGACY: Final[Mapping[str, Any]] = {
    "observable": "end_log_prob",
    "n_delays": 32,
    "rank": 10,
    "center": "temporal_mean",
    "method": "pcr",
    "residual_limit": None,
    "components": None,
}
"""Settings of the published computation."""
WINDOW: Final = 250
"""Snapshots of a window; half of a run that has fewer than twice as many."""
STRIDES: Final = 10
"""A window starts every tenth of its length."""
HIDDEN_COMPONENTS: Final = 10
"""Principal directions that hidden states are cut to: their delayed states would not fit."""


def spectra(
    subject: Any,
    *,
    observable: str = "answer_log_prob",
    split: str | None = None,
    n_delays: int = 32,
    rank: int | None = 10,
    center: str = "affine",
    method: str = "rayleigh",
    residual_limit: float | None = RESIDUAL_LIMIT,
    components: int | None = None,
    min_step: int | None = None,
    max_step: int | None = None,
    record_every: int | None = None,
    window: int | None = None,
    resamples: int = 200,
    seed: int = 0,
    legacy: bool = False,
) -> TrainingSpectrum:
    """Spectrum of the training of a run, or of several that then share one operator.

    `subject` is what `snapshots` reads: a Run, its path, a directory in the published format, a
    .npy file, an array (steps x features), Fingerprints, or a list of such. `n_delays` counts the
    blocks of a delayed state (1: no delays); `rank=None` chooses one. `min_step` is by default
    twice the warm-up of a Run, in which one operator cannot hold, and the first step otherwise.
    `components` cuts the snapshots to so many principal directions (10 for hidden states).
    `window` is in snapshots. `seed` draws the bootstrap replicates.

    Raises RunError or ConfigError for runs and settings that cannot be used, and ValueError for
    data that hold no spectrum: too few snapshots, uneven steps, NaN, a constant.
    """
    asked = {
        "observable": observable, "n_delays": n_delays, "rank": rank, "center": center,
        "method": method, "residual_limit": residual_limit, "components": components,
    }  # fmt: skip
    asked = _legacy(asked) if legacy else asked
    _check(asked, resamples)
    data, notes = _cut(
        snapshots(subject, asked["observable"], split, record_every),
        0 if legacy and min_step is None else min_step,
        max_step,
    )
    found, components = _fit(data, asked, legacy)
    pairs = sum(len(one.steps) - found.n_delays for one in data)
    sizes = found.singular_values, (len(found.operator.modes), pairs)
    replicates, drawn = _replicates(found, resamples, seed, notes)
    windows = _windows(found, data, window, notes)
    settings = {
        **asked,
        "observable": data[0].observable,
        "split": data[0].split,
        "rank": found.operator.rank,
        "optimal_rank": optimal_rank(*sizes),
        "threshold": optimal_threshold(*sizes),
        "components": components,
        "legacy": legacy,
        "record_every": found.record_every,
        "first_step": int(min(one.steps[0] for one in data)),
        "last_step": int(max(one.steps[-1] for one in data)),
        "snapshots": [len(one.steps) for one in data],
        "features": data[0].values.shape[1],
        "probes": None if data[0].probes is None else len(data[0].probes),
        "one_step_residual": found.one_step_residual,
        "cut": found.operator.cut,
        "window": int(windows[0].last[0]) + 1 if windows else None,
        "resamples": resamples if replicates else 0,
        "resampled": drawn,
        "seed": seed,
    }
    return TrainingSpectrum(
        settings,
        tuple(one.name for one in data),
        tuple(one.seed for one in data),
        _modes(found, replicates),
        found.singular_values,
        tuple(_columns(w, one) for w, one in zip(windows, data, strict=False)),
        _poles(data, found.record_every),
        tuple(_evaluations(one.run) for one in data),
        tuple(notes),
    )


def _legacy(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The published settings. Raises ConfigError for one that was asked to be another."""
    known = inspect.signature(spectra).parameters
    other = [f"{k}={v!r}" for k, v in LEGACY.items() if asked[k] not in (known[k].default, v)]
    if other:
        raise ConfigError(f"legacy means {', '.join(other)}; leave these out, or legacy")
    return dict(LEGACY)


def _check(asked: Mapping[str, Any], resamples: int) -> None:
    for name, known in (("observable", OBSERVABLES), ("center", CENTRINGS), ("method", METHODS)):
        if asked[name] not in known:
            raise ConfigError(f"got {name}={asked[name]!r}, expected one of {', '.join(known)}")
    if resamples < 0:
        raise ConfigError(f"got resamples={resamples}, expected 0 (none) or more, such as 200")


def _cut(
    data: Sequence[Snapshots], min_step: int | None, max_step: int | None
) -> tuple[list[Snapshots], list[str]]:
    found, notes = [], []
    for one in data:
        first = min_step
        if first is None and one.run is not None:
            first = 2 * one.run.config.optim.warmup_steps
            if first > one.steps[0]:
                notes.append(f"{one.name}: steps below {first:,} left out, twice the warm-up")
        found.append(one.between(first, max_step))
        found[-1].stride  # noqa: B018 (raises for uneven steps before anything is computed)
    return found, notes


def _fit(
    data: Sequence[Snapshots], asked: Mapping[str, Any], legacy: bool
) -> tuple[Spectrum, int | None]:
    """The spectrum, and how many principal directions of the snapshots it is of."""
    components = asked["components"]
    if components is None and asked["observable"] == "hidden" and not legacy:
        components = min(HIDDEN_COMPONENTS, *data[0].values.shape)
    values = [one.values for one in data]
    if components is not None:
        values = compress(values, components)[0]
    if legacy:
        found = published_spectrum(values, asked["n_delays"], asked["rank"], data[0].stride)
    else:
        kept = ("n_delays", "rank", "center", "method", "residual_limit")
        found = spectrum(values, steps=_steps(data), **{k: asked[k] for k in kept})
    return found, components


def _steps(data: Sequence[Snapshots]) -> Any:
    return data[0].steps if len(data) == 1 else [one.steps for one in data]


def _replicates(
    found: Spectrum, resamples: int, seed: int, notes: list[str]
) -> tuple[Any, str | None]:
    """Bootstrap, or None with a note, and what was drawn: runs from 5 on, otherwise blocks."""
    if not resamples:
        return None, None
    over_runs = len(found.runs) >= MIN_RUNS
    try:
        drawn = found.bootstrap(np.random.default_rng(seed), resamples, over_runs)
    except ValueError as error:
        notes.append(f"no intervals: {error}")
        return None, None
    return drawn, "whole runs" if over_runs else f"blocks of {2 * found.n_delays} pairs within runs"


def _windows(
    found: Spectrum, data: Sequence[Snapshots], window: int | None, notes: list[str]
) -> list[Windows]:
    """Windows of every run, or none with a note where one of them cannot be fitted."""
    shortest = min(len(one.steps) for one in data)
    if window is None:
        window = WINDOW if shortest >= 2 * WINDOW else max(shortest // 2, found.n_delays + 2)
    try:
        return [found.windowed(window, max(1, window // STRIDES), run) for run in range(len(data))]
    except ValueError as error:
        notes.append(f"no windowed residual: {error}")
        return []


def _columns(windows: Windows, one: Snapshots) -> dict[str, list[Any]]:
    return {
        "first_step": one.steps[windows.first].tolist(),
        "last_step": one.steps[windows.last].tolist(),
        "residual": windows.residuals.tolist(),
        "absolute": windows.absolute.tolist(),
        "norm": windows.norms.tolist(),
        "rank": windows.ranks.tolist(),
        "effective_rank": windows.effective_ranks.tolist(),
        "leading": windows.leading.tolist(),
    }


def _modes(found: Spectrum, replicates: Any) -> tuple[Mode, ...]:
    fit = found.operator
    states = [found.states(i) for i in range(len(found.runs))]
    amplitudes = np.stack([np.abs(fit.amplitudes(s[:, :1])[:, 0]) for s in states], axis=1)
    energies = np.stack([fit.energies(s) for s in states], axis=1)
    speed = rates(fit.eigenvalues, found.record_every)
    halves = half_lives(fit.eigenvalues, found.record_every)
    intervals = [
        None if replicates is None else replicates.interval(of) for of in ("modulus", "angle")
    ]
    return tuple(
        Mode(
            complex(fit.eigenvalues[i]),
            float(fit.residuals[i]),
            bool(found.trusted[i]),
            _finite(speed[i].real),
            float(speed[i].imag),
            _finite(halves[i]),
            tuple(amplitudes[i].tolist()),
            tuple(energies[i].tolist()),
            *(None if each is None else tuple(each[i].tolist()) for each in intervals),
        )
        for i in range(fit.rank)
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _poles(data: Sequence[Snapshots], record_every: int) -> dict[str, float]:
    """Those of the runs' optimiser, where all have one; weight decay only where it multiplies."""
    configs = {one.run.config.optim if one.run is not None else None for one in data}
    optim = configs.pop()
    if optim is None or configs:
        return {}
    found = reference_poles(record_every, optim.lr, optim.weight_decay, optim.betas)
    if optim.weight_decay_form != "to_zero" or not optim.weight_decay:
        del found["weight decay"]
    return found


def _evaluations(run: Run | None) -> dict[str, list[Any]]:
    """Steps and accuracies of a run; empty where it has none."""
    rows = [] if run is None else run.evaluations()
    names = ("step", "train_acc", "test_acc")
    if not rows or any(name not in rows[0] for name in names):
        return {}
    return {name: [row[name] for row in rows] for name in names}
