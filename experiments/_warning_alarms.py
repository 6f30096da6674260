"""Alarms: a signal across its threshold three times in a row, before onset or for nothing.

An alarm is armed when the run has memorised, which training accuracy tells, and is raised at the
last of the three looks. The threshold is the lowest at which at most the target share of the
calibration runs without onset are alarmed up to their end.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from _warning_ranking import CLOCK, Choice, Followed, reported
from _warning_signals import Settings, Signal
from jaxtyping import Float, Int

from mechgrok.maths.concordance import interval
from mechgrok.maths.statistics import MIN_RUNS

LOOK: Final = 50
"""Steps between two looks at a signal."""
CONSECUTIVE: Final = 3
TARGET: Final = 0.1
"""Share of runs without onset that may be alarmed."""
RESAMPLES: Final = 2_000


@dataclass(frozen=True)
class Alarm:
    """What became of one run."""

    run: str
    onset: int | None
    generalised: bool
    at: int | None
    """Step of the alarm; None when it was not raised before onset or the end."""

    @property
    def lead(self) -> int | None:
        """Steps from alarm to onset."""
        return None if self.at is None or self.onset is None else self.onset - self.at


def looks(run: Followed, signal: Signal, sign: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps at which an alarm can be raised before onset, and the level it would be raised at.

    The level is the least of the last three values. Empty for a run that never memorised.
    """
    moments = run.moments
    if moments.memorised is None:
        return np.zeros(0, dtype=int), np.zeros(0)
    end = moments.last + 1 if moments.onset is None else moments.onset
    steps: Int[np.ndarray, " n"] = np.arange(moments.memorised, end, LOOK)
    values: Float[np.ndarray, " n"] = np.array([sign * signal.at(int(step)) for step in steps])
    steps, values = steps[~np.isnan(values)], values[~np.isnan(values)]
    if len(values) < CONSECUTIVE:
        return steps[:0], values[:0]
    levels = np.lib.stride_tricks.sliding_window_view(values, CONSECUTIVE).min(axis=1)
    return steps[CONSECUTIVE - 1 :], levels


def threshold(calibration: Sequence[Followed], name: str, sign: int) -> float | None:
    """Lowest level at which at most TARGET of the runs without onset are alarmed.

    None without such a run: then nothing bounds false alarms.
    """
    never = [run for run in calibration if run.moments.onset is None]
    highest = [
        levels.max() if len(levels) else -math.inf
        for run in never
        for _, levels in [looks(run, run.signals[name], sign)]
    ]
    if not highest:
        return None
    allowed = int(TARGET * len(highest))
    return float(np.nextafter(sorted(highest, reverse=True)[allowed], math.inf))


def raised(run: Followed, name: str, sign: int, level: float) -> Alarm:
    """The first alarm of a run before its onset."""
    steps, levels = looks(run, run.signals[name], sign)
    across = steps[levels >= level]
    return _alarm(run, int(across[0]) if len(across) else None)


def clock(calibration: Sequence[Followed], of: Settings) -> int | None:
    """Step of an alarm that knows nothing but the time: `memory` before the median onset."""
    onsets = [run.moments.onset for run in calibration if run.moments.onset is not None]
    return int(np.median(onsets)) - of.memory if onsets else None


def at_clock(run: Followed, step: int) -> Alarm:
    """The same alarm for every run that has not reached onset by then."""
    return _alarm(run, step if run.ahead(step) else None)


def _alarm(run: Followed, at: int | None) -> Alarm:
    moments = run.moments
    return Alarm(moments.run, moments.onset, moments.generalised is not None, at)


def alarms(
    calibration: Sequence[Followed], held_out: Sequence[Followed], of: Settings, choice: Choice
) -> list[dict[str, Any]]:
    """One row per signal: hits, false alarms and lead times on the held-out runs.

    The clock's row has no threshold: it alarms every run, or none.
    """
    rows = []
    for label, (name, sign) in reported(choice, of, list(held_out[0].signals)).items():
        level = clock(calibration, of) if name == CLOCK else threshold(calibration, name, sign)
        row: dict[str, Any] = {"signal": label, "of": name, "sign": sign, "threshold": level}
        if level is not None:
            fired = [
                at_clock(run, int(level)) if name == CLOCK else raised(run, name, sign, level)
                for run in held_out
            ]
            row |= counted(fired)
        rows.append(row)
    return rows


def counted(fired: Sequence[Alarm]) -> dict[str, Any]:
    """Counts, shares and their difference with intervals over runs, and lead times in steps."""
    onset = np.array([alarm.onset is not None for alarm in fired], dtype=bool)
    alarmed = np.array([alarm.at is not None for alarm in fired], dtype=bool)
    never = ~np.array([alarm.generalised for alarm in fired], dtype=bool)
    leads = sorted(lead for alarm in fired if (lead := alarm.lead) is not None)
    found: dict[str, Any] = {
        "runs": len(fired),
        "with_onset": int(onset.sum()),
        "hits": int((onset & alarmed).sum()),
        "without_onset": int((~onset).sum()),
        "false_alarms": int((~onset & alarmed).sum()),
        "never_generalised": int(never.sum()),
        "alarmed_of_them": int((never & alarmed).sum()),
        "leads": leads,
        "median_lead": float(np.median(leads)) if leads else None,
        "raised": {alarm.run: alarm.at for alarm in fired},
    }
    if len(fired) < MIN_RUNS or not onset.any() or onset.all():
        return found | {"note": "no rates: fewer than 5 runs, or all or none with onset"}
    drawn = np.random.default_rng(0).multinomial(
        len(fired), np.full(len(fired), 1 / len(fired)), RESAMPLES
    )
    hit, false = _rate(drawn, alarmed, onset), _rate(drawn, alarmed, ~onset)
    return found | {
        "hit_rate": found["hits"] / found["with_onset"],
        "hit_interval": interval(hit),
        "false_rate": found["false_alarms"] / found["without_onset"],
        "false_interval": interval(false),
        "hit_minus_false": found["hits"] / found["with_onset"]
        - found["false_alarms"] / found["without_onset"],
        "difference_interval": interval(hit - false),
        "lead_interval": _lead_interval(leads),
    }


def _rate(drawn: np.ndarray, alarmed: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Share of alarmed runs among some, by draw; NaN in a draw without any."""
    total = drawn @ among
    with np.errstate(invalid="ignore"):
        return np.where(total > 0, drawn @ (alarmed & among) / np.maximum(total, 1), np.nan)


def _lead_interval(leads: Sequence[int]) -> tuple[float, float] | None:
    """Of the median lead time, from 5 hits on."""
    if len(leads) < MIN_RUNS:
        return None
    draws = np.random.default_rng(0).choice(leads, (RESAMPLES, len(leads)))
    return interval(np.median(draws, axis=1))
