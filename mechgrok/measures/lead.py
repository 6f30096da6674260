"""Whether a progress measure moves before test loss and test margin do, and what that claim stands.

Nanda et al. 2023 (arXiv 2301.05217), section 5, say that restricted and excluded loss move first;
on other runs spectral measures lagged by hundreds of steps, and leads were artefacts of truncation
or appeared in runs that never grok (arXiv 2604.13123). So the rule needs nothing of the future: a
series has moved once 3 evaluations in a row differ from the extreme so far, since memorisation, by
a share of that extreme. A lead is then checked over thresholds; on the run cut where the reference
first moves, with the keys of the model at the cut; and on a run that does not grok.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, Final

import torch

from mechgrok.maths.statistics import Crossing, check_series
from mechgrok.measures.key_frequencies import of_checkpoint
from mechgrok.runs.result import NotApplicable, Result, Value

SUBJECT: Final = "run"
THRESHOLDS: Final = (0.05, 0.1, 0.2, 0.3, 0.5)
DEFAULT: Final = 0.2
CONSECUTIVE: Final = 3
FITTED: Final = 1e-2
"""Memorisation is under way once train loss is below this share of ln p."""
REFERENCES: Final = {"test_loss": "falls", "test_margin": "rises"}
PROGRESS: Final[Mapping[str, str]] = {
    "restricted_loss": "falls",
    "excluded_loss": "rises",
    "gini.W_E": "rises",
    "spectra.top5_share_W_E": "rises",
}
"""Measure or measure.value -> the direction in which it is claimed to move."""
KEYED: Final = ("restricted_loss", "excluded_loss", "logit_cosines", "rank_2k")
"""Measures that take keys: followed with the final model's and with each checkpoint's own."""

Points = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Lead:
    """When one series moved before another, at every pair of thresholds."""

    moved: tuple[Crossing | None, ...]
    """First movement of the progress measure, by threshold."""
    reference: tuple[Crossing | None, ...]
    """First movement of the reference, by threshold."""
    thresholds: tuple[float, ...]
    """Shares of the extreme so far."""

    def steps(self, threshold: float, of_reference: float | None = None) -> int | None:
        """Reference's first movement minus the progress measure's; None if either never moved."""
        both = self._at(threshold, of_reference)
        return None if both is None else int(both[1].by - both[0].by)

    def interval(self, threshold: float) -> tuple[int, int] | None:
        """Least and greatest lead that the spacing of the evaluations allows."""
        both = self._at(threshold, None)
        if both is None:
            return None
        ours, theirs = ((c.by if c.after is None else c.after, c.by) for c in both)
        return int(theirs[0] - ours[1]), int(theirs[1] - ours[0])

    def leads(self, threshold: float) -> bool:
        """Whether the whole interval is above 0."""
        found = self.interval(threshold)
        return found is not None and found[0] > 0

    def _at(self, ours: float, theirs: float | None) -> tuple[Crossing, Crossing] | None:
        i = self.thresholds.index(ours)
        a = self.moved[i]
        b = self.reference[i if theirs is None else self.thresholds.index(theirs)]
        return None if a is None or b is None else (a, b)


def lead(
    progress: Points,
    reference: Points,
    directions: tuple[str, str],
    since: int,
    thresholds: Sequence[float] = THRESHOLDS,
) -> Lead:
    """First movements of two series of (step, value) from step `since` (memorisation) on.

    `directions`: "rises" or "falls", of each. Raises ValueError for another word, values that are
    not finite, steps that do not increase, or thresholds outside 0..1.
    """
    return Lead(
        tuple(first_movement(progress, directions[0], since, x) for x in thresholds),
        tuple(first_movement(reference, directions[1], since, x) for x in thresholds),
        tuple(thresholds),
    )


def first_movement(points: Points, direction: str, since: int, threshold: float) -> Crossing | None:
    """First of 3 evaluations that differ from the extreme so far by `threshold` times it."""
    if direction not in ("rises", "falls") or not 0 < threshold < 1:
        raise ValueError(
            f"got direction={direction!r}, threshold={threshold}; expected 'rises' or 'falls' and "
            f"a share between 0 and 1"
        )
    steps = [step for step, _ in points if step >= since]
    values = [value for step, value in points if step >= since]
    check_series(steps, values)
    sign = 1 if direction == "rises" else -1
    lowest = accumulate((sign * x for x in values), min)
    across = [
        sign * x - low >= threshold * abs(low) > 0 for x, low in zip(values, lowest, strict=True)
    ]
    for i in range(len(across) - CONSECUTIVE + 1):
        if all(across[i : i + CONSECUTIVE]):
            return Crossing(steps[i - 1] if i else None, steps[i])
    return None


def measure(
    run: Any,
    progress: Mapping[str, str] = PROGRESS,
    thresholds: Sequence[float] = THRESHOLDS,
    control: Any = None,
) -> Result:
    """Leads of progress measures over test loss and margin; headline those that stand all checks.

    Without a control no claim stands; those that pass the other checks are "unrefuted".

    Options: progress (measure or measure.value -> "rises" or "falls"), thresholds (shares, the
    middle one is the default), control (a Run that does not grok). Everything is taken at the
    checkpoints; the run must have at least 3 of them after memorisation.
    """
    if len(run.steps) < CONSECUTIVE:
        absent = NotApplicable(f"{len(run.steps)} checkpoints; a movement needs {CONSECUTIVE}")
        return Result("lead", {"standing": absent}, DEFINITION, run=run.name, seed=run.seed)
    followed = _Followed.of(run)
    if followed is None:
        absent = NotApplicable(f"train loss never fell below {FITTED:g} ln of the classes")
        return Result("lead", {"standing": absent}, DEFINITION, run=run.name, seed=run.seed)
    other = None if control is None else _Followed.of(control)
    middle = thresholds[len(thresholds) // 2]
    values: dict[str, Value] = {"standing": ()}
    arrays: dict[str, Any] = {}
    unrefuted: list[str] = []
    standing: list[str] = []
    for name, direction in progress.items():
        for keys in ("own", "final") if name.split(".")[0] in KEYED else (None,):
            label = name if keys is None else f"{name} ({keys} keys)"
            claims = [
                _Claim(followed, name, direction, keys, reference, tuple(thresholds))
                for reference in REFERENCES
            ]
            for claim in claims:
                values |= {f"{label}: {k}": v for k, v in claim.values(middle).items()}
                arrays[f"{label} over {claim.reference}"] = claim.table()
            moves = _control(other, control, name, direction, keys, middle)
            values[f"{label}: moves in the control"] = moves
            if all(claim.stands(middle) for claim in claims) and moves is not True:
                unrefuted.append(label)
                standing += [label] if moves is False else []
    absent = NotApplicable("no claim of a lead without control=Run of one that does not grok")
    values["standing"] = absent if control is None else tuple(standing)
    values["unrefuted"] = tuple(unrefuted)
    values["memorised"] = followed.since
    definition = {**DEFINITION, "thresholds": f"{list(thresholds)}, default {middle:g}"}
    return Result("lead", values, definition, arrays, run.name, run.seed)


@dataclass(frozen=True)
class _Followed:
    """A run from memorisation on."""

    run: Any
    since: int
    losses: Any
    """Series of the references."""

    @classmethod
    def of(cls, run: Any) -> "_Followed | None":
        """None for a run that never memorises."""
        names = [f"losses.{name}" for name in ("train_loss", *REFERENCES)]
        found = run.series(names)
        classes = run.task.d_vocab_out
        fitted = [s for s, x in found["losses.train_loss"] if x < FITTED * math.log(classes)]
        return cls(run, fitted[0], found) if fitted else None

    def points(self, name: str, keys: Any, until: int | None = None) -> Points:
        """(step, value) of a measure at the checkpoints up to a step, where it applies."""
        options = {} if keys is None else {"keys": keys}
        steps = [s for s in self.run.steps if s >= self.since and (until is None or s <= until)]
        measure, _, value = name.partition(".")
        results = self.run.measure_steps([measure], steps, **options)[measure]
        found = [(r.step, r[value] if value else r.headline) for r in results]
        return [(s, float(x)) for s, x in found if isinstance(x, int | float)]


@dataclass(frozen=True)
class _Claim:
    """One progress measure over one reference, in one run."""

    followed: _Followed
    name: str
    direction: str
    keys: str | None
    reference: str
    thresholds: tuple[float, ...]

    @cached_property
    def found(self) -> Lead:
        """The lead as seen with the whole run."""
        return lead(
            self.followed.points(self.name, self.keys),
            self.followed.losses[f"losses.{self.reference}"],
            (self.direction, REFERENCES[self.reference]),
            self.followed.since,
            self.thresholds,
        )

    def survives_cut(self, threshold: float) -> bool | NotApplicable:
        """Whether the measure has moved in the run cut before the reference moves.

        "final" keys are then those of the model at the cut; other keys and measures stay.
        """
        moved = self.found.reference[self.thresholds.index(threshold)]
        if moved is None or moved.after is None:
            return NotApplicable(f"{self.reference} never moves, or at once: nowhere to cut")
        keys: Any = self.keys
        if keys == "final":
            keys = list(of_checkpoint(self.followed.run.checkpoint(moved.after)).freqs)
            if not keys:
                return False
        points = self.followed.points(self.name, keys, until=int(moved.after))
        return first_movement(points, self.direction, self.followed.since, threshold) is not None

    def stands(self, threshold: float) -> bool:
        """Whether it leads at every threshold, and in the cut run."""
        found = self.found
        robust = all(found.leads(x) for x in self.thresholds)
        return robust and self.survives_cut(threshold) is True

    def values(self, threshold: float) -> dict[str, Value]:
        """What the result says of it."""
        found = self.found
        never = NotApplicable("the measure or the reference never moves")
        steps, interval = found.steps(threshold), found.interval(threshold)
        over = f"over {self.reference}"
        return {
            f"lead {over}": never if steps is None else steps,
            f"lead {over}, interval": never if interval is None else interval,
            f"leads {over} at thresholds": tuple(x for x in self.thresholds if found.leads(x)),
            f"moves before {self.reference} in the cut run": self.survives_cut(threshold),
        }

    def table(self) -> Any:
        """Lead by threshold of the measure (row) and of the reference (column)."""
        found = self.found
        rows = [[found.steps(a, b) for b in self.thresholds] for a in self.thresholds]
        missing = torch.iinfo(torch.int64).min
        return torch.tensor([[missing if x is None else x for x in row] for row in rows]).numpy()


def _control(
    other: _Followed | None,
    control: Any,
    name: str,
    direction: str,
    keys: str | None,
    threshold: float,
) -> bool | NotApplicable:
    """Whether the measure moves in the control run, which does not grok."""
    if control is None:
        return NotApplicable("no control run given: pass control=Run of one that does not grok")
    if other is None:
        return NotApplicable("the control run never memorises")
    points = other.points(name, keys)
    if len(points) < CONSECUTIVE:
        return NotApplicable(f"the control has {name} at {len(points)} checkpoints only")
    return first_movement(points, direction, other.since, threshold) is not None


DEFINITION: Final[Mapping[str, str]] = {
    "operator": f"moved: first of {CONSECUTIVE} checkpoints that differ from the extreme so far by "
    "a share of it, in the stated direction; lead: movement of the reference minus that of the "
    "measure, interval by the spacing of checkpoints",
    "selection": f"from the first checkpoint with train loss < {FITTED:g} ln(classes); own keys: "
    "each checkpoint's; final keys: the last one's, which is knowledge of the end",
    "check": "standing: leads over test loss and test margin at every threshold, moves in the run "
    "cut before the reference does (final keys replaced by those at the cut), not in the control",
    "split": "references: test loss and margin over all classes",
    "table": "arrays: lead by threshold of measure (row) and reference (column); the least int64 "
    "where either never moves",
}
