"""When each of several runs memorised and generalised, and whether a setting changes that."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mechgrok import discovery
from mechgrok.maths.statistics import MIN_RUNS, Number, bootstrap_mean
from mechgrok.maths.survival import (
    MOST_PAIRS,
    Time,
    longest_horizon,
    paired_p,
    restricted,
    restricted_mean,
)
from mechgrok.options import unknown
from mechgrok.runs.run import GENERALISED, MEMORISED, Run
from mechgrok.runs.storage import RunError
from mechgrok.runs.table import FAILED, last_step, settings, varied

if TYPE_CHECKING:
    import pandas as pd

MOMENTS: Final = ("memorised", "generalised")
FREE: Final = ("preset", "stop", "device", "threads")
"""Settings in which the two members of a pair may differ."""


@dataclass(frozen=True)
class RunTimes:
    """Times of every run as intervals (previous evaluation, crossing], or censored."""

    runs: Sequence[Run]
    """Those the times are of."""
    moments: Mapping[str, Sequence[Time]]
    """One time per run, by moment."""

    @classmethod
    def of(cls, runs: Sequence[Run], memorised: float, generalised: float) -> "RunTimes":
        """Times at which train and test accuracy reached these thresholds (fractions).

        Raises RunError for a run without evaluations.
        """
        metrics = zip(
            MOMENTS, (MEMORISED[0], GENERALISED[0]), (memorised, generalised), strict=True
        )
        return cls(runs, {name: [_time(r, m, at) for r in runs] for name, m, at in metrics})

    def table(self) -> "pd.DataFrame":
        """run, settings that differ, seed, and per moment `after`, `by` (missing: censored)."""
        import pandas as pd

        names = varied(self.runs)
        rows = []
        for i, run in enumerate(self.runs):
            known = settings(run)
            row = {"run": run.name, **{n: known.get(n) for n in names}, "seed": run.seed}
            for moment, times in self.moments.items():
                row |= {f"{moment}_after": times[i].after, f"{moment}_by": times[i].by}
            rows.append(row)
        columns = {f"{m}_{end}": "Int64" for m in self.moments for end in ("after", "by")}
        return pd.DataFrame(rows).astype(columns)

    def groups(self, by: str, moment: str = "generalised") -> dict[Hashable, list[Time]]:
        """Times by the value of a setting, in order; runs that failed are left out.

        Raises RunError for a setting or moment that does not exist, naming the nearest.
        """
        found: dict[Hashable, list[Time]] = {}
        for run, time in self._known(by, moment):
            found.setdefault(settings(run).get(by), []).append(time)
        return {value: found[value] for value in sorted(found, key=_order)}

    def compare(
        self,
        by: str,
        horizon: Number | None = None,
        moment: str = "generalised",
        against: Any = None,
    ) -> "pd.DataFrame":
        """One row per value of a setting: how long its runs took, up to a common horizon.

        Columns: the value; n, censored and failed runs; restricted_mean, the area under the
        Kaplan-Meier curve up to the horizon, in steps, at most `resolution` above that of exact
        times; low and high, a 95 % bootstrap interval over runs, from 5 runs on; difference to the
        value `against` (default: the first) over pairs that share all other settings, and its exact
        two-sided p by flips of sign, not corrected for the number of rows; note, why one is
        missing. `horizon` defaults to the last step up to which every mean is known.

        Raises RunError for a setting that does not exist, a horizon beyond what is known, and two
        runs that only differ in settings without effect.
        """
        import pandas as pd

        groups = self.groups(by, moment)
        first = next(iter(groups)) if against is None else against
        if first not in groups:
            raise RunError(f"no run has {by} = {against!r}; the runs have {list(groups)}")
        at = self._horizon(groups, horizon)
        pairs = self._by_partner(by, moment)
        rows = [
            {by: value, **_summary(times, at), "failed": self._failed(by, value)}
            | _difference(pairs[value], pairs[first], at, value == first)
            for value, times in groups.items()
        ]
        frame = pd.DataFrame(rows)
        frame["note"] = [
            "; ".join(filter(None, pair))
            for pair in zip(frame.pop("no_interval"), frame.pop("no_p"), strict=True)
        ]
        return frame

    def plot(self, by: str, moment: str = "generalised") -> Any:
        """Kaplan-Meier curves by the value of a setting."""
        return discovery.load("plots", "survival")(self.groups(by, moment), by, moment)

    def _known(self, by: str, moment: str) -> list[tuple[Run, Time]]:
        if moment not in self.moments:
            raise RunError(f"unknown moment {moment!r}; expected one of {list(self.moments)}")
        names = {name for run in self.runs for name in settings(run)}
        if by not in names:
            raise RunError(unknown(by, sorted(names)))
        found = zip(self.runs, self.moments[moment], strict=True)
        known = [(run, time) for run, time in found if run.status.get("state") not in FAILED]
        if not known:
            raise RunError(f"all {len(self.runs)} runs failed; `runs.table()` shows their states")
        return known

    def _failed(self, by: str, value: Hashable) -> int:
        failed = [run for run in self.runs if run.status.get("state") in FAILED]
        return sum(settings(run).get(by) == value for run in failed)

    def _horizon(self, groups: Mapping[Hashable, Sequence[Time]], asked: Number | None) -> float:
        longest = min(longest_horizon(times) for times in groups.values())
        if asked is None:
            return min(longest, max(t.seen for times in groups.values() for t in times))
        if not 0 < asked <= longest:
            raise RunError(
                f"horizon = {asked}; expected more than 0 and at most {longest:g}, the last step "
                f"of a run that was censored: nothing is known beyond it"
            )
        return float(asked)

    def _by_partner(self, by: str, moment: str) -> dict[Hashable, dict[Hashable, Time]]:
        """Value -> all other settings that differ -> time."""
        known = self._known(by, moment)
        names = [n for n in varied([run for run, _ in known]) if n.split(".")[0] not in FREE]
        found: dict[Hashable, dict[Hashable, Time]] = {}
        for run, time in known:
            mine = settings(run)
            key = tuple(mine.get(name) for name in ["seed", *names] if name != by)
            group = found.setdefault(mine.get(by), {})
            if key in group:
                raise RunError(f"{run.name} and another run differ in nothing; leave one out")
            group[key] = time
        return found


def _time(run: Run, metric: str, threshold: float) -> Time:
    if not run.evaluations():
        raise RunError(f"{run.path} has no evaluation, so no times; train it, or leave it out")
    found = run.crossing(metric, threshold)
    return Time(last_step(run), None) if found is None else Time(found.after, found.by)


def _order(value: Hashable) -> tuple[bool, Any]:
    """Numbers by size, then the rest by name."""
    number = isinstance(value, int | float)
    return (not number, value if number else str(value))


def _summary(times: Sequence[Time], horizon: float) -> dict[str, Any]:
    found: dict[str, Any] = {
        "n": len(times),
        "censored": sum(t.censored for t in times),
        "horizon": horizon,
        "restricted_mean": restricted_mean(times, horizon),
        "resolution": max(t.width for t in times),
        "low": None,
        "high": None,
        "no_interval": "",
    }
    known = [t for time in times if (t := restricted(time, horizon)) is not None]
    if len(times) < MIN_RUNS:
        found["no_interval"] = f"no interval over {len(times)} runs, fewer than {MIN_RUNS}"
    elif len(known) < len(times):
        early = len(times) - len(known)
        found["no_interval"] = f"no interval: {early} censored before the horizon"
    else:
        found["low"], found["high"] = bootstrap_mean(known, np.random.default_rng(0))
    return found


def _difference(
    mine: Mapping[Hashable, Time], theirs: Mapping[Hashable, Time], horizon: float, same: bool
) -> dict[str, Any]:
    found: dict[str, Any] = {"pairs": 0, "difference": None, "p": None, "no_p": ""}
    if same:
        return found
    both = [
        (restricted(mine[k], horizon), restricted(theirs[k], horizon)) for k in mine if k in theirs
    ]
    known = [a - b for a, b in both if a is not None and b is not None]
    if not known:
        return found | {"no_p": "no pair with equal other settings"}
    found |= {"pairs": len(known), "difference": float(np.mean(known))}
    if len(known) > MOST_PAIRS:
        return found | {"no_p": f"no exact p over more than {MOST_PAIRS} pairs"}
    return found | {"p": paired_p(known)}
