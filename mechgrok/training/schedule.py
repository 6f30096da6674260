"""When to keep a checkpoint and when to stop, as rules over steps and metrics."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mechgrok.config import ConfigError, Stop
from mechgrok.runs.run import GENERALISED, MEMORISED

Rule = Callable[[int, Mapping[str, float]], bool]
"""(step, metrics of the last evaluation) -> whether a checkpoint is due."""

FORMS = (
    "`at 0 100 500`, `every 100`, `every 100 until 2000`, `log 8 until 1000`, "
    "`every 50 while test_acc in 0.1..0.95`"
)


def checkpoint_rule(rules: Sequence[str]) -> Rule:
    """One rule that is due when any of the given ones is.

    Raises ConfigError for a rule that cannot be read, listing the forms.
    """
    if isinstance(rules, str) or not rules:
        raise ConfigError(f"schedule.checkpoints = {rules!r}; expected a list of rules: {FORMS}")
    parsed = [_parse(rule) for rule in rules]
    return lambda step, metrics: any(due(step, metrics) for due in parsed)


def _parse(rule: str) -> Rule:
    for pattern, make in _FORMS:
        match = re.fullmatch(pattern, rule.strip())
        if match:
            return make(*match.groups())
    raise ConfigError(f"cannot read the checkpoint rule {rule!r}; the forms are {FORMS}")


def _at(steps: str) -> Rule:
    wanted = frozenset(int(step) for step in steps.split())
    return lambda step, metrics: step in wanted


def _every(n: str, until: str | None) -> Rule:
    stride, end = _positive(n), None if until is None else int(until)
    return lambda step, metrics: step % stride == 0 and (end is None or step <= end)


def _log(n: str, until: str) -> Rule:
    per_decade, end = _positive(n), int(until)
    points: set[int] = set()
    k = 0
    while (step := round(10 ** (k / per_decade))) <= end:
        points.add(step)
        k += 1
    return lambda step, metrics: step in points


def _band(n: str, metric: str, low: str, high: str) -> Rule:
    stride, bottom, top = _positive(n), float(low), float(high)
    return lambda step, metrics: (
        step % stride == 0 and metric in metrics and bottom <= metrics[metric] <= top
    )


def _positive(text: str) -> int:
    if int(text) < 1:
        raise ConfigError(f"a checkpoint rule counts in {text}; expected at least 1")
    return int(text)


_NUMBER = r"([0-9]*\.?[0-9]+(?:e-?[0-9]+)?)"
_FORMS: tuple[tuple[str, Callable[..., Rule]], ...] = (
    (r"at ((?:\d+ ?)+)", _at),
    (r"every (\d+)(?: until (\d+))?", _every),
    (r"log (\d+) until (\d+)", _log),
    (rf"every (\d+) while (\w+) in {_NUMBER}\.\.{_NUMBER}", _band),
)

CONSECUTIVE = 3
"""Evaluations in a row that must hold a threshold."""


@dataclass(frozen=True)
class Progress:
    """What the stop and schedule rules remember; saved with the state, so that resume is exact."""

    metrics: Mapping[str, float]
    """The last evaluation's line."""
    streaks: Mapping[str, int]
    """Evaluations in a row that held memorised and generalised."""
    reached: Mapping[str, int]
    """First evaluation of the sustained crossing, by name."""

    @classmethod
    def start(cls) -> "Progress":
        """Before any evaluation."""
        return cls({}, {}, {})

    @classmethod
    def restore(cls, data: Mapping[str, Any]) -> "Progress":
        """From its saved form."""
        return cls(data["metrics"], data["streaks"], data["reached"])

    def after(
        self,
        metrics: Mapping[str, float],
        evaluate_every: int,
        threshold: float = GENERALISED[1],
    ) -> "Progress":
        """With one more evaluation; `threshold` is the stop rule's."""
        streaks, reached = dict(self.streaks), dict(self.reached)
        for name, (metric, least) in (_MOMENTS | _stop_moment(threshold)).items():
            streaks[name] = streaks.get(name, 0) + 1 if metrics[metric] >= least else 0
            if streaks[name] == CONSECUTIVE and name not in reached:
                reached[name] = int(metrics["step"]) - (CONSECUTIVE - 1) * evaluate_every
        return Progress(dict(metrics), streaks, reached)

    def stop_reason(self, step: int, stop: Stop) -> str | None:
        """Why training ends at this step, or None."""
        since = self.trigger(stop)
        if stop.after_generalised is not None and since is not None:
            if step >= since + stop.after_generalised:
                return f"{stop.after_generalised} steps after {self._words(stop)} at {since}"
        return f"max_steps {stop.max_steps}" if step >= stop.max_steps else None

    def trigger(self, stop: Stop) -> int | None:
        """The evaluation from which `after_generalised` counts, or None."""
        [name] = _stop_moment(stop.threshold)
        return self.reached.get(name)

    def _words(self, stop: Stop) -> str:
        [name] = _stop_moment(stop.threshold)
        return "generalising" if name == "generalised" else name


_MOMENTS = {"memorised": MEMORISED, "generalised": GENERALISED}


def _stop_moment(threshold: float) -> dict[str, tuple[str, float]]:
    """The moment the stop rule waits for, under a name of its own where it is another one."""
    metric, usual = GENERALISED
    if threshold == usual:
        return {"generalised": GENERALISED}
    return {f"{metric} {threshold:g}": (metric, threshold)}
