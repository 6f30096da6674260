"""Spectra, windows and distances of the runs of fingerprint_study.py; arrays in, numbers out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mechgrok.maths import dmd
from mechgrok.maths.dmd.operator import from_svd, scaled
from mechgrok.maths.dmd.spectra import RESIDUAL_LIMIT
from mechgrok.maths.statistics import MIN_RUNS, bootstrap_mean

if TYPE_CHECKING:
    from mechgrok.maths.dmd import Operator, Spectrum, Windows
    from mechgrok.runs.fingerprints import Fingerprints

OBSERVABLES: Final = ("answer_log_prob", "end_log_prob")
COORDINATES: Final = ("eigenvalues", "without decay's pole", "per unit of decay")
DISTANCES: Final = {"W1": dmd.wasserstein, "Hausdorff": dmd.hausdorff}
NEAR: Final = 5e-4
"""An eigenvalue this near to decay's pole is that pole; those of decay 1 and 2 are .002 apart."""
ROUNDING: Final = 1e-6
"""Noise floor of windows: rounding of logits of size 10 in float32."""


@dataclass(frozen=True)
class Settings:
    """What was fixed beforehand."""

    n_delays: int = 32
    rank: int = 10
    window: int = 250
    """Snapshots per window."""
    stride: int = 25
    first: int = 20
    """First step used: before it the warm-up rules."""
    components: int = 10
    """Principal directions of the pooled quantiles of all runs."""
    ranks: Sequence[int] = (4, 6, 8, 10, 15)
    delays: Sequence[int] = (8, 16, 32, 64)


SMALL: Final = Settings(8, 3, 40, 20, 20, 4, (2, 3), (4, 8))
"""For runs of a few hundred steps."""


@dataclass(frozen=True, eq=False)
class Observed:
    """One observable of all runs of a study."""

    name: str
    decays: Sequence[float]
    """Weight decay of every run."""
    pole: Sequence[float]
    """Eigenvalue per snapshot of every run's weight decay."""
    spectra: Sequence["Spectrum"] = field(repr=False)
    windows: Sequence["Windows"] = field(repr=False)
    """Over the whole of every run."""
    published: Sequence["Spectrum"] = field(repr=False)
    """As the published code would compute it, over the whole of every run."""
    kept: float
    """Share of the energy in the common principal directions."""
    grid: Mapping[tuple[int, int], Sequence["Operator"]] = field(repr=False)
    """(rank, delays) -> operator of every run; those too large for the data are left out."""


def common_spectra(
    name: str, fingerprints: Sequence["Fingerprints"], last: int, of: Settings
) -> tuple[list["Spectrum"], list[np.ndarray], np.ndarray, float]:
    """Spectra of all runs up to a step, in the principal directions of all of them together.

    Also the runs in these directions, the directions, and the share of the energy in them.
    """
    every = fingerprints[0].every
    common = [one.between(of.first, last).quantiles(name) for one in fingerprints]
    inside, directions = dmd.compress(common, of.components)
    kept = sum(np.square(x).sum() for x in inside) / sum(np.square(x).sum() for x in common)
    spectra = [dmd.spectrum(x, of.n_delays, of.rank, record_every=every) for x in inside]
    return spectra, inside, directions, float(kept)


def observe(
    name: str,
    fingerprints: Sequence["Fingerprints"],
    decays: Sequence[float],
    lr: float,
    last: int,
    of: Settings,
) -> Observed:
    """Spectra of every run over the steps that all have, and windows over each run's own."""
    every = fingerprints[0].every
    whole = [one.between(of.first).quantiles(name) for one in fingerprints]
    spectra, inside, directions, kept = common_spectra(name, fingerprints, last, of)
    windows = [
        dmd.windowed(x @ directions.T, of.window, of.stride, of.n_delays, of.rank, noise=ROUNDING)
        for x in whole
    ]
    published = [dmd.published_spectrum(x, of.n_delays, of.rank, every) for x in whole]
    poles = [(1 - lr * decay) ** every for decay in decays]
    return Observed(name, decays, poles, spectra, windows, published, kept, sensitivity(inside, of))


def sensitivity(
    runs: Sequence[np.ndarray], of: Settings
) -> dict[tuple[int, int], "list[Operator]"]:
    """Operators at every rank and number of delays; one SVD per run and number of delays."""
    found: dict[tuple[int, int], list[Operator]] = {}
    for delays in of.delays:
        for run in runs:
            Z, Zp = scaled(*dmd.snapshot_pairs(dmd.centred([run], "affine"), delays))
            svd = np.linalg.svd(Z, full_matrices=False)
            for rank in of.ranks:
                found.setdefault((rank, delays), []).append(from_svd(svd, Zp, rank, "rayleigh"))
    return found


def trusted(operator: "Operator") -> np.ndarray:
    """Eigenvalues below the residual limit."""
    return operator.eigenvalues[operator.residuals <= RESIDUAL_LIMIT]


def in_coordinates(
    eigenvalues: Sequence[np.ndarray], decays: Sequence[float], poles: Sequence[float], name: str
) -> list[np.ndarray]:
    """Spectra of all runs as they are; without decay's own pole; or with time counted in decays.

    `per unit of decay` is eigenvalue^(1 / decay): the multiplier over as many steps as shrink a
    weight by what two steps at decay 1 do, so that decay's own pole is the same for all.
    """
    each = list(zip(eigenvalues, decays, poles, strict=True))
    if name == "without decay's pole":
        return [values[np.abs(values - pole) > NEAR] for values, _, pole in each]
    if name == "per unit of decay":
        return [np.exp(np.log(values) / decay) for values, decay, _ in each]
    return list(eigenvalues)


def compared(observed: Observed, first: float, second: float) -> list[dict[str, Any]]:
    """Every distance in all coordinates between the runs of two decays, by permutation of runs."""
    chosen = [i for i, decay in enumerate(observed.decays) if decay in (first, second)]
    decays = [observed.decays[i] for i in chosen]
    group = [j for j, decay in enumerate(decays) if decay == first]
    rows = []
    whole = [observed.published[i].eigenvalues for i in chosen]
    for name in (*COORDINATES, "as published, whole runs"):
        if name == "per unit of decay" and 0 in decays:
            continue
        found = [observed.spectra[i].eigenvalues for i in chosen] if name in COORDINATES else whole
        spectra = in_coordinates(found, decays, [observed.pole[i] for i in chosen], name)
        for label, distance in DISTANCES.items():
            row = {"observable": observed.name, "decays": [first, second], "coordinates": name}
            rows.append(row | {"distance": label, **separation(spectra, group, distance)})
    return rows


def separation(
    spectra: Sequence[np.ndarray], group: Sequence[int], distance: Any
) -> dict[str, Any]:
    """Mean distances within and between two groups of runs, and the permutation test."""
    empty = sum(not len(one) for one in spectra)
    if empty:
        return {"note": f"{empty} of {len(spectra)} spectra have no trusted eigenvalue"}
    matrix = dmd.distance_matrix(spectra, distance)
    inside = np.isin(np.arange(len(matrix)), group)
    pairs = np.triu(np.ones_like(matrix, dtype=bool), 1)
    same = inside[:, None] == inside
    found = {
        "within": float(matrix[pairs & same].mean()),
        "between": float(matrix[pairs & ~same].mean()),
    }
    if min(inside.sum(), (~inside).sum()) < 2:
        return found | {"note": "fewer than 2 runs in a group: no test"}
    test = dmd.permutation_test(matrix, group, np.random.default_rng(0))
    return found | {"statistic": test.statistic, "p": test.p, "splits": test.splits}


def per_run(observed: Observed) -> list[dict[str, Any]]:
    """One row per run: what was trusted, how much one direction holds, where the residual peaks."""
    return [
        {
            "trusted": int(spectrum.trusted.sum()),
            "rank": spectrum.operator.rank,
            "effective_rank": dmd.effective_rank(spectrum.singular_values),
            "one_step_residual": spectrum.one_step_residual,
            "decay_pole": bool((np.abs(spectrum.eigenvalues - pole) <= NEAR).any()),
            "largest_modulus": float(np.abs(spectrum.operator.eigenvalues).max()),
            "trusted_as_published": int((one.residuals <= RESIDUAL_LIMIT).sum()),
            "effective_rank_as_published": dmd.effective_rank(one.singular_values),
        }
        for spectrum, pole, one in zip(
            observed.spectra, observed.pole, observed.published, strict=True
        )
    ]


def peak(
    windows: "Windows", fingerprints: "Fingerprints", first: int, after: int | None
) -> int | None:
    """Last step of the window with the largest residual among those that start after a step."""
    steps = fingerprints.between(first).steps
    if after is None:
        return None
    late = steps[windows.first] >= after
    if not late.any():
        return None
    return int(steps[windows.last[late][np.argmax(windows.residuals[late])]])


def pooled(observed: Observed, decay: float, of: Settings) -> dict[str, Any]:
    """One operator of all runs at a decay; moduli with intervals over runs from 5 runs on."""
    runs = [s.runs[0] for s, d in zip(observed.spectra, observed.decays, strict=True) if d == decay]
    every = observed.spectra[0].record_every
    found = dmd.spectrum(runs, of.n_delays, of.rank, record_every=every, residual_limit=None)
    kept = np.imag(found.eigenvalues) >= 0
    row: dict[str, Any] = {
        "observable": observed.name,
        "decay": decay,
        "runs": len(runs),
        "moduli": np.abs(found.eigenvalues[kept]).tolist(),
        "angles": np.angle(found.eigenvalues[kept]).tolist(),
        "residuals": found.residuals[kept].tolist(),
        "half_lives": [finite(x) for x in found.half_lives()[kept]],
    }
    if len(runs) < MIN_RUNS:
        return row | {"note": f"{len(runs)} runs, fewer than {MIN_RUNS}: no interval"}
    draws = found.bootstrap(np.random.default_rng(0), over_runs=True)
    return row | {"intervals": draws.interval()[kept].tolist()}


def over_runs(values: Sequence[float]) -> dict[str, Any]:
    """Mean over runs, with an interval from 5 on."""
    found: dict[str, Any] = {"n": len(values), "mean": float(np.mean(values)), "interval": None}
    if len(values) >= MIN_RUNS:
        found["interval"] = bootstrap_mean(list(values), np.random.default_rng(0))
    return found


def finite(value: float) -> float | None:
    """A number for JSON; None for infinity."""
    return float(value) if np.isfinite(value) else None
