"""Early warning: nothing looks ahead, held-out runs choose nothing, alarms are counted by hand."""

from dataclasses import replace
from pathlib import Path

import _warning_alarms as alarm
import _warning_figures as figures
import _warning_ranking as ranking
import numpy as np
import pytest
from _moments import Moments
from _warning_findings import analysis, sentences, within
from _warning_report import write
from _warning_signals import (
    Settings,
    Signal,
    baselines,
    residual_name,
    residuals,
    slope,
    trailing,
    window_residuals,
)

from mechgrok.maths.dmd import windowed
from mechgrok.runs.fingerprints import Fingerprints

OF = Settings((400, 600), (40, 60), (4, 2), n_delays=8, stride=10, memory=80)


def fingerprints(steps: int = 500, seed: int = 0) -> Fingerprints:
    """Log-probabilities and margins of 30 probes that drift and are noisy."""
    random = np.random.default_rng(seed)
    time = np.arange(0, steps, 2)
    drift = np.exp(-time[:, None] / random.uniform(50, 400, 30))
    noise = 0.01 * random.normal(size=drift.shape)
    values = {"answer_log_prob": -drift + noise, "margin": 3 - drift, "end_log_prob": -(drift**2)}
    return Fingerprints(time, values, np.arange(30), ("train",) * 30, 2)


@pytest.mark.parametrize("window", [40, 60])
def test_the_residual_is_the_published_one(window: int) -> None:
    """Against one fit per rank by the package's own windows, `pcr` and `temporal_mean`."""
    values = fingerprints().quantiles("answer_log_prob")
    for i, rank in enumerate(OF.ranks):
        expected = windowed(values, window, 10, OF.n_delays, rank, "temporal_mean", "pcr")
        found = [window_residuals(values[a : a + window], OF)[i] for a in expected.first]
        assert found == pytest.approx(expected.residuals, rel=1e-6)
        assert (np.array(found) > 1e-3).all(), "there is something to compare"


def test_a_constant_stretch_is_predicted_exactly() -> None:
    assert window_residuals(np.full((40, 19), -0.3), OF).tolist() == [0, 0]


class StubRun:
    """A run with evaluations and fingerprints, as far as signals ask for them."""

    def __init__(self, prints: Fingerprints) -> None:
        self.fingerprints = prints

    def evaluations(self) -> list[dict[str, float]]:
        last = int(self.fingerprints.steps[-1])
        names = ("train_loss", "test_loss", "test_acc", "sum_of_squares")
        return [
            {"step": step, **{n: float(np.sin(step + i)) ** 2 for i, n in enumerate(names)}}
            for step in range(0, last + 1, 20)
        ]


@pytest.mark.parametrize("cut", [200, 318])
def test_no_signal_looks_ahead(cut: int) -> None:
    """The signals of a run that was cut are those of the whole run up to there."""
    whole = fingerprints()
    short = whole.between(last=cut)
    for make in (lambda prints: residuals(prints, OF), lambda p: baselines(StubRun(p), OF)):
        full, early = make(whole), make(short)
        assert list(full) == list(early)
        for name, signal in early.items():
            known = full[name].steps <= cut
            assert len(signal.steps) > 2
            assert full[name].steps[known].tolist() == signal.steps.tolist()
            assert full[name].values[known] == pytest.approx(signal.values, abs=1e-12), name


def test_medians_and_slopes_by_hand() -> None:
    steps, values = np.array([0, 40, 80, 120]), np.array([1.0, 9.0, 2.0, 4.0])
    assert trailing(steps, values, 80).values.tolist() == [1, 5, 5.5, 3]
    found = slope(steps, values, 80)
    assert (found.steps.tolist(), found.values.tolist()) == ([80, 120], [1 / 80, -5 / 80])
    assert np.isnan(found.at(79))
    assert found.at(81) == 1 / 80


def run(
    seed: int, onset: int | None, value: float, generalised: int | None = None, **series: Signal
) -> ranking.Followed:
    """A run whose every signal is constant, but for those given."""
    steps = np.arange(0, 1001, 50)
    names = [residual_name(o, r, w) for o in ("answer", "end token") for r, w in OF.choices]
    names += ["train loss", "weight norm"]
    flat = {name: Signal(steps, np.zeros(len(steps))) for name in names}
    flat["train loss"] = Signal(steps, np.full(len(steps), float(value)))
    moments = Moments(f"run{seed}", seed, "finished", 1000, 200, 0.4, onset, generalised)
    return ranking.Followed(moments, flat | {k.replace("_", " "): v for k, v in series.items()})


def planted(sign: int, first: int = 0) -> list[ranking.Followed]:
    """Eight runs whose train loss tells the time to onset, with a sign."""
    onsets = [500, 650, 700, 750, 800, None, None, None]
    return [
        run(first + i, onset, sign * (onset or 2000), onset and onset + 100)
        for i, onset in enumerate(onsets)
    ]


def test_what_tells_the_time_is_found_and_a_constant_is_not() -> None:
    choice = ranking.choose(planted(1), OF)
    assert (choice.best_baseline, choice.signs["train loss"]) == ("train loss", -1)
    rows = {r["signal"]: r for r in ranking.ranking(planted(1, 8), OF, choice)}
    assert (rows["train loss"]["400"], rows["train loss"]["mean"]) == (1, 1)
    assert rows["clock"]["mean"] == rows["residual of answer, published"]["mean"] == 0.5
    assert rows["train loss"]["over_best"] == (0, 0)
    assert rows["clock"]["over_best"] == (-0.5, -0.5)


def test_held_out_runs_choose_nothing() -> None:
    """A sign that calibration got wrong stays wrong."""
    choice = ranking.choose(planted(1), OF)
    rows = {r["signal"]: r for r in ranking.ranking(planted(-1, 8), OF, choice)}
    assert rows["train loss"]["mean"] == 0


def test_a_landmark_ranks_only_runs_before_onset() -> None:
    rows = ranking.at_risk(planted(1), OF)
    assert [row["runs"] for row in rows] == [8, 7]
    assert [row["onset_later"] for row in rows] == [5, 4]
    # at 600: four onsets with three runs without, and six pairs of onsets
    assert (rows[1]["pairs C"], rows[1]["pairs AUROC onset"]) == (4 * 3 + 6, 4 * 3)


def test_a_landmark_before_the_first_window_is_refused() -> None:
    late = Signal(np.array([500]), np.array([1.0]))
    runs = [replace(one, signals={"late": late}) for one in planted(1)]
    with pytest.raises(ValueError, match="late has no value yet at step 400"):
        ranking.scores(runs, 400, "late")


def rising(at: int | None) -> Signal:
    """1 from a step on, 0 before."""
    steps = np.arange(0, 1001, 50)
    return Signal(steps, (steps >= (at if at is not None else 9999)).astype(float))


def test_alarms_counted_by_hand() -> None:
    """Looks every 50 steps from 200 on, the alarm at the third look across."""
    runs = [
        run(0, 700, 0, weight_norm=rising(400)),  # alarm at 500, 200 steps ahead
        run(1, 700, 0, weight_norm=rising(650)),  # third look is at 750: too late
        run(2, None, 0, weight_norm=rising(800)),  # a false alarm at 900
        run(3, None, 0, weight_norm=rising(None)),
        run(4, 700, 0, weight_norm=rising(0)),  # armed at 200: alarm at 300
    ]
    fired = [alarm.raised(one, "weight norm", 1, 0.5) for one in runs]
    assert [one.at for one in fired] == [500, None, 900, None, 300]
    found = alarm.counted(fired)
    assert (found["hits"], found["with_onset"]) == (2, 3)
    assert (found["false_alarms"], found["without_onset"]) == (1, 2)
    assert (found["alarmed_of_them"], found["never_generalised"]) == (3, 5)
    assert (found["leads"], found["median_lead"]) == ([200, 400], 300)
    assert found["hit_minus_false"] == pytest.approx(2 / 3 - 1 / 2)


def test_the_threshold_allows_the_target_and_no_more() -> None:
    """Of 20 runs without onset 2 may be alarmed: those with the two highest sustained levels."""
    steps = np.arange(0, 1001, 50)
    spike = np.where(steps == 500, 100.0, 0)  # once is not sustained
    runs = [run(i, None, 0, weight_norm=Signal(steps, i + spike)) for i in range(20)]
    level = alarm.threshold(runs, "weight norm", 1)
    assert level is not None
    alarmed = [one.moments.seed for one in runs if alarm.raised(one, "weight norm", 1, level).at]
    assert alarmed == [18, 19]
    assert alarm.threshold([run(0, 700, 0)], "weight norm", 1) is None


def test_the_clock_alarms_all_or_none() -> None:
    rows = {r["signal"]: r for r in alarm.alarms(planted(1), planted(1, 8), OF, CHOICE)}
    clock = rows["clock"]
    assert clock["threshold"] == 700 - OF.memory
    assert (clock["hits"], clock["false_alarms"], clock["without_onset"]) == (4, 3, 3)


CHOICE = ranking.choose(planted(1), OF)


def test_the_page_draws_every_run_and_lists_censored_and_failed_ones(tmp_path: Path) -> None:
    sets = {"calibration": planted(1), "held_out": planted(1, 8)}
    found = analysis(*sets.values(), OF)
    found["found"] = sentences(found)
    stub = StubRun(fingerprints())
    every = figures.every_run({k: [(stub, one) for one in v] for k, v in sets.items()}, OF)
    assert len([trace for trace in every.data if trace.mode == "lines"]) == 3 * 16
    drawn = {
        "every_run": every,
        "concordance": figures.concordances(found),
        "lead_times": figures.lead_times(found),
    }
    assert len(drawn["concordance"].data[1].x) == len(found["ranking"]["held_out"]) / 3
    moments = [one.moments for runs in sets.values() for one in runs]
    page = write(tmp_path / "page.html", found, drawn, moments, {"run99": "diverged"}).read_text()
    assert all(name in page for name in ("run5", "run15", "failed: diverged", "AUROC onset"))
    assert (
        "run5: censored" in page.replace("</dt><dd>", ": ") or "censored: not generalised" in page
    )
    assert page.index("Of 8 held-out runs") < page.index("Every run")


def test_the_replication_chooses_nothing_and_needs_no_weight_norm() -> None:
    """What was chosen elsewhere is used as it is, where the signal was recorded."""
    bare = [
        replace(one, signals={k: v for k, v in one.signals.items() if k != "weight norm"})
        for one in planted(1)
    ]
    choice = replace(CHOICE, best_baseline="weight norm")
    found = within({"weight decay 1": bare}, OF, choice)["weight decay 1"]
    rows = {(row["signal"], row["outcome"]): row for row in found["ranking"]}
    assert rows["train loss", "C"]["mean"] == 1
    assert rows["train loss", "C"]["over_best"] is None
    told = sentences(analysis(planted(1), planted(1), OF) | {"replication": {"here": found}})[-1]
    assert told.startswith("At the published size, here, 5 of 8 runs reached onset; concordance: ")


def _minus(signal: Signal) -> Signal:
    return Signal(signal.steps, -signal.values)


def test_what_is_said_follows_the_numbers() -> None:
    good = " ".join(sentences(analysis(planted(1), planted(1, 8), OF)))
    assert "Of 8 held-out runs 5 reached onset and 5 generalised" in good
    assert "train loss, has 1.00" in good
    assert "the answer's residual is worse than it" in good
    assert "not distinguishable from chance" in good
    assert good.startswith("The published signal does not rank runs by time to onset when the answ")
    name = residual_name("answer", *OF.choices[0])
    seen = [
        replace(one, signals={**one.signals, name: _minus(one.signals["train loss"])})
        for one in planted(1, 8)
    ]
    told = sentences(analysis(planted(1), seen, OF))[0]
    assert told.startswith("The published signal ranks runs by time to onset when the answer")
    assert "does not rank runs by time to onset when the end token" in told
    assert "does not beat the best plain alarm" in told, "both are perfect"
    bad = " ".join(sentences(analysis(planted(1), planted(-1, 8), OF)))
    assert "train loss, has 0.00" in bad
    assert "the answer's residual beats it" in bad
    none = [run(i, None, 0) for i in range(6)]
    assert "nothing can be ranked" in " ".join(sentences(analysis(none, none, OF)))
