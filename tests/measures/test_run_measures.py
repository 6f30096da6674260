"""Measures of a run's curves, on curves whose phases are drawn by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from measures.stand_in import StandInRun

from mechgrok.config import BinaryTask, RunConfig
from mechgrok.maths.statistics import Crossing
from mechgrok.measures.phases import Phases, phases
from mechgrok.measures.phases import measure as measure_phases
from mechgrok.measures.times import measure as measure_times
from mechgrok.measures.times import times
from mechgrok.runs.result import NotApplicable

P = 113
STEPS = list(range(0, 15_001, 100))


def curves(final: float = 1e-6) -> tuple[list[float], list[float]]:
    """Train loss fits at 500; test loss peaks at 1,500, declines to 9,000, falls until 12,000."""
    knots = ([0, 500, 1_000, 15_000], np.log([4.7, 0.2, 1e-6, 1e-9]))
    train = np.exp(np.interp(STEPS, *knots))
    knots = ([0, 1_500, 9_000, 12_000, 15_000], np.log([4.7, 30, 5, final, final]))
    return train.tolist(), np.exp(np.interp(STEPS, *knots)).tolist()


def test_phases_of_hand_drawn_curves() -> None:
    train, test = curves()
    found = phases(STEPS, train, test, P)
    assert isinstance(found, Phases)
    assert found.memorisation == Crossing(1_400, 1_500)
    assert found.circuit_formation == Crossing(8_900, 9_000)
    # log(5 / 1e-5) / log(5 / 1e-6) of the way from 9,000 to 12,000 is 11,552.
    assert found.cleanup.interval == (11_500, 11_600)


def test_the_peak_of_the_ratio_ends_circuit_formation() -> None:
    train, test = curves()
    restricted = {s: math.exp(-s / 1_500) for s in range(0, 15_001, 500)}
    found = phases(STEPS, train, test, P, restricted)
    assert isinstance(found, Phases)
    assert found.circuit_formation == Crossing(8_500, 9_000)
    assert "restricted" in found.circuit_rule
    few = phases(STEPS, train, test, P, {2_000: 0.1})
    assert isinstance(few, Phases)
    assert isinstance(few.circuit_formation, NotApplicable)


def test_an_early_peak_is_not_the_end_of_memorisation() -> None:
    train, test = curves()
    test[1] = 100.0  # before the train loss is low
    found = phases(STEPS, train, test, P)
    assert isinstance(found, Phases)
    assert found.memorisation.by == 1_500


def test_runs_without_phases_say_why() -> None:
    train, test = curves(final=3.0)
    found = phases(STEPS, train, test, P)
    assert isinstance(found, NotApplicable)
    assert "does not generalise" in found.reason
    unfitted = phases(STEPS, [4.0] * len(STEPS), test, P)
    assert isinstance(unfitted, NotApplicable)
    assert "never fell" in unfitted.reason


def test_bad_curves_are_refused() -> None:
    train, test = curves()
    with pytest.raises(ValueError, match="not finite"):
        phases(STEPS, train, [*test[:-1], math.nan], P)
    with pytest.raises(ValueError, match="not positive"):
        phases(STEPS, train, test, P, dict.fromkeys(STEPS, 0.0))


def accuracies(memorised: int, generalised: int | None) -> tuple[list[float], list[float]]:
    """Step functions of accuracy over STEPS."""
    train = [1.0 if s >= memorised else 0.1 for s in STEPS]
    test = [1.0 if generalised is not None and s >= generalised else 0.1 for s in STEPS]
    return train, test


def test_grokking_is_a_tenfold_delay() -> None:
    late = times(STEPS, *accuracies(500, 5_000))
    assert late.grokked
    assert late.ratio == 10
    assert late.memorised == Crossing(400, 500)
    assert late.generalised == Crossing(4_900, 5_000)
    assert not times(STEPS, *accuracies(500, 4_900)).grokked
    assert not times(STEPS, *accuracies(0, 0)).grokked


def test_no_crossing_is_censored_at_the_last_step() -> None:
    found = times(STEPS, *accuracies(500, None))
    assert found.generalised is None
    assert not found.grokked
    assert found.ratio is None
    assert found.last_step == 15_000


def test_falling_back_is_kept() -> None:
    train, test = accuracies(500, 5_000)
    test[-1] = 0.4
    found = times(STEPS, train, test)
    assert found.generalised == Crossing(4_900, 5_000, fell_back_at=15_000)


def frame(test_acc: list[float]) -> pd.DataFrame:
    """Metrics of a run."""
    losses, accuracy = curves(), accuracies(500, None)[0]
    columns = {"train_loss": losses[0], "test_loss": losses[1], "train_acc": accuracy}
    return pd.DataFrame({"step": STEPS, **columns, "test_acc": test_acc})


def test_wrappers_read_the_metrics() -> None:
    config = RunConfig(task=BinaryTask(n=P))
    run = StandInRun([], frame(accuracies(500, 12_000)[1]), config=config, seed=7)
    found = measure_times(run)
    assert found["generalised"] == 12_000
    assert found["generalised_interval"] == (11_900, 12_000)
    assert found["grokked"] is True
    assert (found.run, found.seed) == ("stand_in", 7)
    assert measure_phases(run)["circuit_formation_end"] == 9_000
    assert (
        measure_phases(run, restricted=dict.fromkeys(STEPS, 1.0))["circuit_formation_end"] == 1_500
    )


def test_wrappers_type_what_is_missing() -> None:
    run = StandInRun([], frame([0.1] * len(STEPS)), config=RunConfig())
    found = measure_times(run)
    assert found["generalised"] == NotApplicable("censored: not reached by step 15000")
    assert isinstance(found["ratio"], NotApplicable)
