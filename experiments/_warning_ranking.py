"""Do signals at a step rank runs by what comes later? Chosen on some runs, reported on others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from _moments import Moments
from _warning_signals import OBSERVABLES, Settings, Signal, residual_name
from jaxtyping import Bool, Float

from mechgrok.maths.concordance import (
    apart,
    before,
    bootstrap_concordance,
    concordance,
    interval,
)
from mechgrok.maths.statistics import MIN_RUNS
from mechgrok.maths.survival import Time

OUTCOMES: Final = {
    "C": "concordance with time to onset",
    "AUROC onset": "onset by the end or not",
    "AUROC generalised": "generalised by the end or not",
}
RESAMPLES: Final = 2_000
CLOCK: Final = "clock"


@dataclass(frozen=True, eq=False)
class Followed:
    """A run with its moments and signals."""

    moments: Moments
    signals: Mapping[str, Signal] = field(repr=False)

    @property
    def onset(self) -> Time:
        """Time to onset, censored at the last evaluation."""
        by = self.moments.onset
        return Time(self.moments.last, None) if by is None else Time(None, by)

    def ahead(self, step: int) -> bool:
        """Whether the run is still going on at a step, and not yet past onset."""
        onset = self.moments.onset
        return self.moments.last >= step and (onset is None or onset > step)


def until(followed: Followed, step: int) -> Followed:
    """The run as it is known at a step: later moments are not reached, and it is censored there."""
    of = followed.moments
    onset, generalised = (
        None if at is None or at > step else at for at in (of.onset, of.generalised)
    )
    known = replace(of, last=min(of.last, step), onset=onset, generalised=generalised)
    return replace(followed, moments=known)


@dataclass(frozen=True)
class Choice:
    """What calibration runs decided."""

    signs: Mapping[str, int]
    """+1 where a higher value means earlier onset, by name of signal."""
    residuals: Mapping[str, str]
    """Name of the residual chosen, by observable."""
    best_baseline: str
    """The baseline with the highest concordance."""


def pairs(runs: Sequence[Followed], landmark: int, outcome: str) -> Bool[np.ndarray, "n n"]:
    """Comparable pairs, by one of OUTCOMES, among runs that are before onset at a landmark."""
    ahead = np.array([run.ahead(landmark) for run in runs], dtype=bool)
    if outcome == "C":
        comparable = before([run.onset for run in runs])
    else:
        moments = [run.moments for run in runs]
        reached = [m.onset if outcome == "AUROC onset" else m.generalised for m in moments]
        comparable = apart(np.array([step is not None for step in reached], dtype=bool))
    return comparable & ahead[:, None] & ahead


def scores(
    runs: Sequence[Followed], landmark: int, name: str, sign: int = 1
) -> Float[np.ndarray, " n"]:
    """Values at a landmark, 0 where no pair asks for them; a clock's are equal.

    Raises ValueError when a run that is still ahead of its onset has no value.
    """
    if name == CLOCK:
        return np.zeros(len(runs))
    found = np.array([run.signals[name].at(landmark) for run in runs])
    ahead = np.array([run.ahead(landmark) for run in runs], dtype=bool)
    if np.isnan(found[ahead]).any():
        raise ValueError(f"{name} has no value yet at step {landmark}; choose a later landmark")
    return sign * np.where(ahead, found, 0.0)


def mean_over_landmarks(
    runs: Sequence[Followed], of: Settings, name: str, sign: int = 1, outcome: str = "C"
) -> float:
    """Mean over the landmarks at which there are pairs; NaN where there are none."""
    found = [
        concordance(scores(runs, at, name, sign), compared)
        for at in of.landmarks
        if (compared := pairs(runs, at, outcome)).any()
    ]
    return float(np.mean(found)) if found else np.nan


def choose(calibration: Sequence[Followed], of: Settings) -> Choice:
    """Signs of all signals, rank and window of both residuals, and the best baseline.

    By concordance with time to onset, averaged over landmarks, on these runs only. Without a
    single pair the published settings and signs of +1 stand.
    """
    names = list(calibration[0].signals)
    means = {name: mean_over_landmarks(calibration, of, name) for name in names}
    signs = {name: -1 if mean < 0.5 else 1 for name, mean in means.items()}
    strength = {name: 0.5 if np.isnan(m) else max(m, 1 - m) for name, m in means.items()}
    tried = {
        name: [n for choice in of.choices if (n := residual_name(name, *choice)) in strength]
        for name in OBSERVABLES.values()
    }
    baselines = [name for name in names if not name.startswith("residual")]
    return Choice(
        {**signs, CLOCK: 1},
        {name: max(options, key=lambda n: strength[n]) for name, options in tried.items()},
        max(baselines, key=lambda n: strength[n]),
    )


def reported(choice: Choice, of: Settings, names: Sequence[str]) -> dict[str, tuple[str, int]]:
    """What is reported: label -> (signal, sign); the published residuals with the paper's sign."""
    found = {CLOCK: (CLOCK, 1)}
    for name in OBSERVABLES.values():
        published = residual_name(name, *of.choices[0])
        found[f"residual of {name}, published"] = (published, 1)
        chosen = choice.residuals[name]
        found[f"residual of {name}, chosen"] = (chosen, choice.signs[chosen])
    plain = [name for name in names if not name.startswith("residual")]
    return found | {name: (name, choice.signs[name]) for name in plain}


def ranking(
    runs: Sequence[Followed], of: Settings, choice: Choice, outcome: str = "C"
) -> list[dict[str, Any]]:
    """One row per signal: each landmark, their mean with an interval, its lead over the baseline.

    `over_best` is the difference of the means to the baseline that calibration found best.
    """
    asked = reported(choice, of, list(runs[0].signals))
    known = [at for at in of.landmarks if pairs(runs, at, outcome).any()]
    if not known:
        return []
    draws = _draws(runs, known, asked, outcome)
    rows = []
    for i, (label, (name, sign)) in enumerate(asked.items()):
        each = [concordance(scores(runs, at, name, sign), pairs(runs, at, outcome)) for at in known]
        row: dict[str, Any] = {"signal": label, "of": name, "sign": sign, "outcome": outcome}
        row |= {str(at): value for at, value in zip(known, each, strict=True)}
        row |= {"mean": float(np.mean(each)), "interval": None, "over_best": None}
        if draws is not None:
            means = draws.mean(axis=0)
            row["interval"] = interval(means[i])
            if choice.best_baseline in asked:
                best = list(asked).index(choice.best_baseline)
                row["over_best"] = interval(means[i] - means[best])
            row["intervals"] = [interval(at[i]) for at in draws]
        rows.append(row)
    return rows


def _draws(
    runs: Sequence[Followed],
    landmarks: Sequence[int],
    asked: Mapping[str, tuple[str, int]],
    outcome: str,
) -> Float[np.ndarray, "landmarks kinds resamples"] | None:
    """Bootstrap over runs, the same draws at every landmark; None below 5 runs."""
    if len(runs) < MIN_RUNS:
        return None
    return np.stack(
        [
            bootstrap_concordance(
                np.stack([scores(runs, at, name, sign) for name, sign in asked.values()]),
                pairs(runs, at, outcome),
                np.random.default_rng(0),
                RESAMPLES,
            )
            for at in landmarks
        ]
    )


def at_risk(runs: Sequence[Followed], of: Settings) -> list[dict[str, Any]]:
    """How many runs each landmark ranks, and what comes of them."""
    rows = []
    for at in of.landmarks:
        ahead = [run.moments for run in runs if run.ahead(at)]
        rows.append(
            {
                "landmark": at,
                "runs": len(ahead),
                "onset_later": sum(m.onset is not None for m in ahead),
                "generalised_later": sum(m.generalised is not None for m in ahead),
                **{f"pairs {name}": int(pairs(runs, at, name).sum()) for name in OUTCOMES},
            }
        )
    return rows
