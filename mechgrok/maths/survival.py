"""Times that may be censored: Kaplan-Meier curves, restricted means, paired exact tests.

A time is an interval (after, by], because a run is looked at now and then; a run that ended before
the event is censored, its time only known to be later.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from mechgrok.maths.statistics import Number

MOST_PAIRS = 20
"""Most pairs whose sign flips are all counted (about a million)."""


@dataclass(frozen=True)
class Time:
    """A time in steps, in (after, by]; `by` is None when it is censored at `after`."""

    after: Number | None
    """Last look before the event; None when the first look is already past it."""
    by: Number | None
    """First look after the event."""

    def __post_init__(self) -> None:
        if self.by is None and self.after is None:
            raise ValueError("got a censored time without its last look; expected Time(last, None)")
        if any(t is not None and not (math.isfinite(t) and t >= 0) for t in (self.after, self.by)):
            raise ValueError(f"got {self}; expected finite steps of at least 0")
        if self.by is not None and self.after is not None and self.after >= self.by:
            raise ValueError(f"got {self}; expected after < by")

    @property
    def censored(self) -> bool:
        """Whether the event was not seen."""
        return self.by is None

    @property
    def seen(self) -> float:
        """The step at which the event was seen, or up to which it was not."""
        found = self.after if self.by is None else self.by
        assert found is not None  # __post_init__
        return float(found)

    @property
    def width(self) -> float:
        """Length of the interval; 0 for a censored time."""
        return 0.0 if self.by is None else float(self.by - (self.after or 0))


@dataclass(frozen=True)
class Curve:
    """Share of runs without the event: `share[i]` from `steps[i]` on, to the next step."""

    steps: Float[np.ndarray, " n"]
    """Increasing, from 0."""
    share: Float[np.ndarray, " n"]
    """Falling, from 1."""
    end: float
    """Last step at which a run was looked at; the curve is not known beyond it unless 0."""


def kaplan_meier(times: Sequence[Time]) -> Curve:
    """Share of runs without the event (Kaplan & Meier 1958), each event at the end of its interval.

    Raises ValueError without times.
    """
    if not times:
        raise ValueError("got no times; expected at least one run")
    found = stats.ecdf(
        stats.CensoredData(
            uncensored=[t.seen for t in times if not t.censored],
            right=[t.seen for t in times if t.censored],
        )
    ).sf
    steps = np.concatenate([[0.0], found.quantiles])
    share = np.concatenate([[1.0], found.probabilities])
    falls = np.concatenate([[True], np.diff(share) < 0])  # a censored time is no step of the curve
    return Curve(steps[falls], share[falls], max(t.seen for t in times))


def longest_horizon(times: Sequence[Time]) -> float:
    """Last step to which the mean is known: where the curve ends, or infinity when it reaches 0."""
    curve = kaplan_meier(times)
    return math.inf if curve.share[-1] == 0 else curve.end


def restricted_mean(times: Sequence[Time], horizon: Number) -> float:
    """Mean of min(time, horizon) in steps: the area under the Kaplan-Meier curve up to the horizon.

    (Royston & Parmar 2013, section 2.) The mean of the exact times is smaller by at most the width
    of their intervals. Raises ValueError for a horizon that is not positive or lies beyond
    `longest_horizon`.
    """
    if not horizon > 0:
        raise ValueError(f"got horizon={horizon}, expected a positive number of steps")
    longest = longest_horizon(times)
    if horizon > longest:
        raise ValueError(
            f"got horizon={horizon:g}, but the last run was censored at {longest:g}, beyond which "
            f"nothing is known; give a horizon of at most {longest:g}"
        )
    curve = kaplan_meier(times)
    ends = np.append(curve.steps[1:], np.inf).clip(max=horizon)
    return float((curve.share * (ends - curve.steps).clip(min=0)).sum())


def restricted(time: Time, horizon: Number) -> float | None:
    """min(time, horizon) of one run; None when it was censored before the horizon."""
    return None if time.censored and time.seen < horizon else min(time.seen, float(horizon))


def paired_p(differences: Sequence[Number]) -> float:
    """Two-sided p of a mean difference of pairs, over all 2^n flips of sign (Fisher 1935).

    Exact: under the null hypothesis the two members of a pair could be exchanged. The smallest p
    that n pairs can give is 2^(1-n). Raises ValueError without pairs or for more than 20.
    """
    if not 1 <= len(differences) <= MOST_PAIRS:
        raise ValueError(f"got {len(differences)} pairs, expected 1 to {MOST_PAIRS}")
    if not np.isfinite(differences).all():
        raise ValueError("got differences that are not finite; drop these pairs and say which")
    if len(differences) == 1:
        return 1.0  # either sign is as far from 0
    found = stats.permutation_test(
        (np.asarray(differences, dtype=np.float64),),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**MOST_PAIRS,
        batch=2**14,
    )
    return min(1.0, float(found.pvalue))
