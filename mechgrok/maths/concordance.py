"""How well scores put runs in the order of their events, with intervals over runs.

Harrell's C (Harrell et al. 1982) and the area under the ROC curve are the same quantity over
different pairs: the share of comparable pairs whose first member has the higher score, a tie
counting half. .5 is what scores without information get, 1 is perfect, 0 perfectly reversed.

    pairs = before(times)                      # or apart(positive) for the area under the curve
    concordance(scores, pairs)
    draws = bootstrap_concordance(np.stack([scores, baseline]), pairs, np.random.default_rng(0))
    interval(draws[0]), interval(draws[0] - draws[1])     # the same runs were drawn for both
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from mechgrok.maths.statistics import MIN_RUNS
from mechgrok.maths.survival import Time


def before(times: Sequence[Time]) -> Bool[np.ndarray, "n n"]:
    """Pairs (i, j) in which i's event was seen, and j had none by then.

    Two events at one step, and a run censored before the other's event, are no such pair.
    """
    seen = np.array([time.seen for time in times])
    censored = np.array([time.censored for time in times], dtype=bool)
    later = (seen[:, None] < seen) | ((seen[:, None] == seen) & censored)
    return later & ~censored[:, None]


def apart(positive: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, "n n"]:
    """Pairs (i, j) of a positive and a negative run, for the area under the ROC curve."""
    return positive[:, None] & ~positive


def concordance(scores: Float[np.ndarray, " n"], pairs: Bool[np.ndarray, "m m"]) -> float:
    """Share of the pairs (i, j) with score i above score j, a tie counting half.

    Raises ValueError for scores that are not finite and without a pair.
    """
    _check(scores[None], pairs)
    return float(_wins(scores)[pairs].mean())


def bootstrap_concordance(
    scores: Float[np.ndarray, "kinds n"],
    pairs: Bool[np.ndarray, "m m"],
    generator: np.random.Generator,
    resamples: int = 2_000,
) -> Float[np.ndarray, "kinds resamples"]:
    """The same when runs are drawn with replacement: one row per kind of score, the same draws.

    A run drawn twice is no pair with itself; a draw without a pair is NaN. Raises ValueError as
    `concordance`, and below 5 runs, where an interval says nothing.
    """
    _check(scores, pairs)
    n = len(pairs)
    if n < MIN_RUNS:
        raise ValueError(f"got {n} runs, expected at least {MIN_RUNS} for an interval")
    drawn: Int[np.ndarray, "resamples n"] = generator.multinomial(n, np.full(n, 1 / n), resamples)
    total = _sums(drawn, pairs)
    won = np.stack([_sums(drawn, _wins(row) * pairs) for row in scores])
    return np.divide(won, total, out=np.full(won.shape, np.nan), where=total > 0)


def interval(draws: Float[np.ndarray, " resamples"], level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the draws that are numbers."""
    known = draws[np.isfinite(draws)]
    if not len(known):
        raise ValueError("got no draw that is a number; there are too few runs with the event")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _wins(scores: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n n"]:
    return (scores[:, None] > scores) + 0.5 * (scores[:, None] == scores)


def _sums(
    drawn: Int[np.ndarray, "resamples n"], table: np.ndarray
) -> Float[np.ndarray, " resamples"]:
    """Sum of the table over the pairs of each draw."""
    return np.einsum("ri,ij,rj->r", drawn, table, drawn, dtype=np.float64, optimize=True)


def _check(scores: Float[np.ndarray, "kinds n"], pairs: Bool[np.ndarray, "m m"]) -> None:
    if scores.shape[1] != len(pairs):
        raise ValueError(f"got {scores.shape[1]} scores of {len(pairs)} runs, expected as many")
    if not np.isfinite(scores).all():
        raise ValueError("got scores that are not finite; leave these runs out and say which")
    if not pairs.any():
        raise ValueError(
            "got no pair to compare; expected a run with the event and one without it by then"
        )
