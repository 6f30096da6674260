"""Leads of progress measures, on runs whose curves are drawn by hand."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from measures.stand_in import untrained

from mechgrok import measures
from mechgrok.maths.statistics import Crossing
from mechgrok.measures.lead import measure
from mechgrok.runs.result import NotApplicable, Result

STEPS = list(range(0, 3_001, 100))
Curve = Callable[[int], float | NotApplicable]


def falling(at: int, high: float = 5.0) -> Curve:
    """High until `at`, then half as much at every checkpoint."""
    return lambda step: high if step < at else high * 0.5 ** ((step - at) / 100 + 1)


def rising(at: int) -> Curve:
    """1 until `at`, then one more at every checkpoint."""
    return lambda step: 1.0 if step < at else 2.0 + (step - at) / 100


@dataclass(eq=False)
class DrawnRun:
    """A run whose measures are curves, by name and keys."""

    curves: Mapping[tuple[str, str], Curve]
    test_moves: int | None = 2_000
    name: str = "drawn"
    seed: int = 0
    steps: list[int] = field(default_factory=lambda: STEPS)
    task: Any = field(default_factory=lambda: SimpleNamespace(d_vocab_out=114))
    asked: list[Any] = field(default_factory=list)

    def series(self, names: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
        """Train loss fits at 300; test loss and margin move at `test_moves`."""
        at = 10**6 if self.test_moves is None else self.test_moves
        drawn = {
            "train_loss": lambda s: 4.0 if s < 300 else 1e-4,
            "test_loss": falling(at, 20.0),
            "test_margin": lambda s: -10.0 if s < at else -10.0 + (s - at) / 20 + 3,
        }
        return {n: [(s, drawn[n.partition(".")[2]](s)) for s in self.steps] for n in names}

    def measure_steps(
        self, names: Sequence[str], steps: Sequence[int], keys: Any = "none"
    ) -> dict[str, list[Result]]:
        """Results read off the curves; a list of keys is what the cut run gave."""
        self.asked.append(keys)
        kind = keys if isinstance(keys, str) else "cut"
        curve = self.curves[names[0], kind]
        found = [Result(names[0], {"x": curve(s), "W_E": curve(s)}, {}, step=s) for s in steps]
        return {names[0]: found}

    def checkpoint(self, step: int) -> Any:
        """An untrained model: it has no keys."""
        return untrained(23)


ONLY = {"restricted_loss": "falls"}


def test_a_known_lead_is_found_and_stands_for_own_keys() -> None:
    curves = {
        ("restricted_loss", "own"): falling(1_000),
        ("restricted_loss", "final"): falling(800),
    }
    run = DrawnRun(curves)
    found = measure(run, ONLY, control=DrawnRun(dict.fromkeys(curves, lambda s: 4.0)))
    assert found["restricted_loss (own keys): lead over test_loss"] == 1_000
    assert found["restricted_loss (own keys): lead over test_loss, interval"] == (900, 1_100)
    assert found["restricted_loss (own keys): lead over test_margin"] == 1_000
    assert found["memorised"] == 300
    # The model at the cut has no keys, so what the final ones show was not there to be seen.
    assert found["restricted_loss (final keys): lead over test_loss"] == 1_200
    assert found["restricted_loss (final keys): moves before test_loss in the cut run"] is False
    assert found["standing"] == ("restricted_loss (own keys)",)


def test_a_control_that_moves_takes_the_claim_away() -> None:
    curves = {("gini", "none"): rising(1_000)}
    grokking, control = DrawnRun(curves), DrawnRun(curves, test_moves=None)
    only = {"gini.W_E": "rises"}
    assert isinstance(measure(grokking, only)["standing"], NotApplicable)
    assert measure(grokking, only)["unrefuted"] == ("gini.W_E",)
    assert isinstance(measure(grokking, only)["gini.W_E: moves in the control"], NotApplicable)
    found = measure(grokking, only, control=control)
    assert found["gini.W_E: moves in the control"] is True
    assert found["standing"] == found["unrefuted"] == ()


def test_a_control_to_which_the_measure_does_not_apply_says_nothing() -> None:
    curves = {("gini", "none"): rising(1_000)}
    mute = DrawnRun(dict.fromkeys(curves, lambda s: NotApplicable("random labels")))
    found = measure(DrawnRun(curves), {"gini.W_E": "rises"}, control=mute)
    assert isinstance(found["gini.W_E: moves in the control"], NotApplicable)
    assert found["standing"] == ()
    assert found["unrefuted"] == ("gini.W_E",)


def test_no_lead_and_a_lag_are_no_claims() -> None:
    for at, steps in ((2_000, 0), (2_500, -500)):
        found = measure(DrawnRun({("gini", "none"): rising(at)}), {"gini.W_E": "rises"})
        assert found["gini.W_E: lead over test_loss"] == steps
        assert found["gini.W_E: leads over test_loss at thresholds"] == ()
        assert found["gini.W_E: moves before test_loss in the cut run"] is False
        assert found["unrefuted"] == ()


def test_a_lead_at_some_thresholds_only_is_not_robust() -> None:
    def creeping(step: int) -> float:
        return 1 + 0.15 * (step >= 1_000) + 2.0 * (step >= 2_500)

    found = measure(DrawnRun({("gini", "none"): creeping}), {"gini.W_E": "rises"})
    assert found["gini.W_E: leads over test_loss at thresholds"] == (0.05, 0.1)
    assert found["gini.W_E: lead over test_loss"] == -500
    assert found["unrefuted"] == ()
    table = found.arrays["gini.W_E over test_loss"]
    assert table.shape == (5, 5)
    assert table[0].tolist() == [1_000] * 5
    assert table[2].tolist() == [-500] * 5


def test_what_never_moves_is_typed() -> None:
    never = measure(DrawnRun({("gini", "none"): lambda s: 1.0}), {"gini.W_E": "rises"})
    assert isinstance(never["gini.W_E: lead over test_loss"], NotApplicable)
    still = measure(
        DrawnRun({("gini", "none"): rising(900)}, test_moves=None), {"gini.W_E": "rises"}
    )
    assert isinstance(still["gini.W_E: lead over test_loss"], NotApplicable)
    assert isinstance(still["gini.W_E: moves before test_loss in the cut run"], NotApplicable)
    assert still["unrefuted"] == ()
    short = DrawnRun({}, steps=[100])
    assert isinstance(measure(short).headline, NotApplicable)


def test_points_that_do_not_apply_are_left_out() -> None:
    def late(step: int) -> float | NotApplicable:
        return NotApplicable("no keys yet") if step < 900 else falling(1_200, 4.0)(step)

    curves = {("restricted_loss", "own"): late, ("restricted_loss", "final"): late}
    found = measure(DrawnRun(curves), ONLY)
    assert found["restricted_loss (own keys): lead over test_loss"] == 800


def test_rules_of_a_movement() -> None:
    points = [(s, float(x)) for s, x in enumerate([5, 9, 9, 9, 1, 9, 1, 1, 1])]
    found = measures.lead(points, points, ("falls", "rises"), since=0)
    assert found.moved[2] == Crossing(5, 6)
    assert found.reference[2] == Crossing(0, 1)
    with pytest.raises(ValueError, match="'rises' or 'falls'"):
        measures.lead(points, points, ("up", "falls"), since=0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        measures.lead(points, points, ("falls", "falls"), since=0, thresholds=[1.5])
