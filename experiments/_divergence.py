"""How far runs are from one another: weights, fingerprints, predictions; growth and spread."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mechgrok.maths.quantiles import fingerprint_distance
from mechgrok.maths.statistics import MIN_RUNS

if TYPE_CHECKING:
    from mechgrok.runs.fingerprints import Fingerprints
    from mechgrok.runs.run import Run

OBSERVABLE: Final = "answer_log_prob"
FROM: Final = 20
"""First step of the growth: before it the warm-up rules."""
SATURATED: Final = 0.1
"""Distance at which growth is no longer taken for exponential."""
FEWEST: Final = 4
"""Points a growth rate needs."""


@dataclass(frozen=True, eq=False)
class Distance:
    """Distance of two runs over the steps both have."""

    steps: np.ndarray
    values: np.ndarray


def of_weights(run: "Run", other: "Run") -> Distance:
    """|w - w'| / |w'| over all weights, w' those of `other`, at shared checkpoints."""
    steps = [step for step in run.steps if step in set(other.steps)]
    return Distance(np.array(steps), np.array([_relative(run, other, step) for step in steps]))


def of_fingerprints(run: "Fingerprints", other: "Fingerprints") -> Distance:
    """Wasserstein-2 distance of the answer's log-probabilities over the probes, in nats."""
    n = _shared(run, other)
    return Distance(
        run.steps[:n],
        fingerprint_distance(run.quantiles(OBSERVABLE)[:n], other.quantiles(OBSERVABLE)[:n]),
    )


def of_predictions(run: "Fingerprints", other: "Fingerprints") -> Distance:
    """Mean absolute difference of the answer's log-probability, probe by probe, in nats."""
    n = _shared(run, other)
    one, two = (each.values[OBSERVABLE][:n] for each in (run, other))
    return Distance(run.steps[:n], np.abs(one - two).mean(axis=1))


def of_answers(run: Mapping[int, np.ndarray], other: Mapping[int, np.ndarray]) -> Distance:
    """Share of test rows that are answered differently, at shared checkpoints."""
    steps = [step for step in run if step in other]
    return Distance(np.array(steps), np.array([(run[s] != other[s]).mean() for s in steps]))


def answers(run: "Run", every: int) -> dict[int, np.ndarray]:
    """The answer given to every test row at checkpoints `every` steps apart."""
    found = {}
    for step in run.steps:
        if step % every == 0:
            checkpoint = run.checkpoint(step)
            rows = checkpoint.answer_logits[checkpoint.task.splits["test"], 0]
            found[step] = rows.argmax(-1).numpy()
    return found


def growth(distance: Distance) -> dict[str, Any]:
    """Slope of log distance per step from FROM on, up to the first step above SATURATED."""
    late = distance.steps >= FROM
    steps, values = distance.steps[late], distance.values[late]
    above = np.flatnonzero(values > SATURATED)
    end = int(above[0]) if above.size else len(values)
    found: dict[str, Any] = {
        "saturated_at": int(steps[end]) if above.size else None,
        "points": end,
        "rate": None,
        "doubling": None,
    }
    if end < FEWEST or not (values[:end] > 0).all():
        return found | {"note": f"{end} points below {SATURATED}, expected {FEWEST} above 0"}
    rate = float(np.polyfit(steps[:end], np.log(values[:end]), 1)[0])
    return found | {"rate": rate, "doubling": float(np.log(2) / rate)}


def at(distance: Distance, step: int) -> float | None:
    """The distance at the last shared step up to this one."""
    known = np.flatnonzero(distance.steps <= step)
    return float(distance.values[known[-1]]) if known.size else None


def spread(perturbed: Sequence[int | None], seeds: Sequence[int | None]) -> dict[str, Any]:
    """Standard deviations of a moment over perturbations and over seeds, and their ratio.

    p: Brown & Forsythe (1974), two-sided; not where a run is censored.
    """
    from scipy.stats import levene

    if None in perturbed or None in seeds:
        missing = [sum(x is None for x in group) for group in (perturbed, seeds)]
        return {"note": f"censored: {missing[0]} perturbed, {missing[1]} seeds: no spread"}
    one, two = (np.array(group, dtype=float) for group in (perturbed, seeds))
    if min(len(one), len(two)) < 2:
        return {"note": "fewer than 2 runs on a side: no spread"}
    found = {"sd_perturbed": float(one.std(ddof=1)), "sd_seeds": float(two.std(ddof=1))}
    if not found["sd_seeds"]:
        return found | {"note": "the seeds do not differ: no ratio"}
    found["ratio"] = found["sd_perturbed"] / found["sd_seeds"]
    if min(len(one), len(two)) >= MIN_RUNS:
        found["p"] = float(levene(one, two, center="median").pvalue)
    return found


def mean_of_pairs(
    matrix: np.ndarray, members: Sequence[int], resamples: int = 2_000
) -> dict[str, Any]:
    """Mean distance over all pairs of members; the interval resamples runs, not pairs.

    A run drawn twice gives no pair with itself. No interval below 5 runs.
    """
    inside = matrix[np.ix_(members, members)]
    n = len(members)
    found: dict[str, Any] = {"runs": n, "pairs": n * (n - 1) // 2, "interval": None}
    found["mean"] = float(inside[np.triu_indices(n, 1)].mean()) if n > 1 else None
    if n < MIN_RUNS:
        return found | {"note": f"{n} runs, fewer than {MIN_RUNS}: no interval"}
    generator = np.random.default_rng(0)
    draws = [_resampled(inside, generator) for _ in range(resamples)]
    means = [draw for draw in draws if draw is not None]
    return found | {"interval": [float(x) for x in np.quantile(means, [0.025, 0.975])]}


def difference_of_pairs(
    matrix: np.ndarray, first: Sequence[int], second: Sequence[int], resamples: int = 2_000
) -> dict[str, Any]:
    """Mean distance within the first group minus that within the second, by runs resampled."""
    groups = [matrix[np.ix_(members, members)] for members in (first, second)]
    if min(map(len, groups)) < 2:
        return {"note": "fewer than 2 runs in a group: no difference"}
    means = [float(group[np.triu_indices(len(group), 1)].mean()) for group in groups]
    found: dict[str, Any] = {"first": means[0], "second": means[1], "interval": None}
    found["difference"] = means[0] - means[1]
    if min(map(len, groups)) < MIN_RUNS:
        return found | {"note": f"fewer than {MIN_RUNS} runs in a group: no interval"}
    generator = np.random.default_rng(0)
    draws = [[_resampled(group, generator) for group in groups] for _ in range(resamples)]
    kept = [one - two for one, two in draws if one is not None and two is not None]
    return found | {"interval": [float(x) for x in np.quantile(kept, [0.025, 0.975])]}


def _resampled(group: np.ndarray, generator: np.random.Generator) -> float | None:
    """Mean distance of runs drawn with replacement; None where one run was drawn all the time."""
    drawn = generator.integers(len(group), size=len(group))
    different = drawn[:, None] != drawn
    return float(group[np.ix_(drawn, drawn)][different].mean()) if different.any() else None


def _relative(run: "Run", other: "Run", step: int) -> float:
    mine, theirs = run.checkpoint(step).weights, other.checkpoint(step).weights
    apart = sum(float((mine[n].double() - w.double()).square().sum()) for n, w in theirs.items())
    size = sum(float(w.double().square().sum()) for w in theirs.values())
    return (apart / size) ** 0.5


def _shared(run: "Fingerprints", other: "Fingerprints") -> int:
    n = min(len(run.steps), len(other.steps))
    if not np.array_equal(run.probes, other.probes) or run.every != other.every:
        raise ValueError("got fingerprints of other probes or strides; compare runs of one grid")
    return n
