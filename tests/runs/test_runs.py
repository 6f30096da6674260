"""Sets of runs: times, comparisons and tables on histories whose answers are known."""

from pathlib import Path
from typing import Any

import pytest
from runs.stub_runs import stub_run

from mechgrok.maths.survival import Time
from mechgrok.runs.runs import Runs
from mechgrok.runs.storage import RunError

DECAY = "optim.weight_decay"


def seeded(seed: int, decay: float) -> dict[str, Any]:
    return {DECAY: decay, "seeds.base": seed, "seeds.data": seed, "seeds.init": seed}


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    """Six seeds at two decays: at 1 in 200 + 10 seed steps, at 3 in 100 less; seed 5 censored."""
    found = []
    for seed in range(6):
        slow = None if seed == 5 else 200 + 10 * seed
        found.append(stub_run(tmp_path / f"slow{seed}", slow, changes=seeded(seed, 1.0)))
        found.append(stub_run(tmp_path / f"fast{seed}", 100 + 10 * seed, changes=seeded(seed, 3.0)))
    return Runs(found)


def test_times_are_intervals_or_censored(runs: Runs) -> None:
    groups = runs.times().groups(DECAY)
    assert list(groups) == [1.0, 3.0]
    assert groups[1.0][:2] == [Time(190, 200), Time(200, 210)]
    assert groups[1.0][5] == Time(400, None)
    table = runs.times().table()
    assert table["generalised_by"].isna().sum() == 1
    assert table.loc[0, "memorised_after"] == 10
    assert list(table.columns[:3]) == ["run", DECAY, "seed"]


def test_compare_by_hand(runs: Runs) -> None:
    frame = runs.times().compare(by=DECAY, horizon=300)
    slow, fast = (frame[frame[DECAY] == value].iloc[0] for value in (1.0, 3.0))
    assert (slow["n"], slow["censored"], slow["failed"]) == (6, 1, 0)
    assert slow["restricted_mean"] == pytest.approx((200 + 210 + 220 + 230 + 240 + 300) / 6)
    assert fast["restricted_mean"] == 125
    assert slow["resolution"] == 10
    assert slow["low"] < slow["restricted_mean"] < slow["high"]
    assert (fast["pairs"], fast["difference"]) == (6, pytest.approx(-(5 * 100 + 150) / 6))
    assert fast["p"] == 2 / 2**6, "all six pairs agree"
    assert slow["pairs"] == 0


def test_the_default_horizon_is_the_last_known_step(runs: Runs) -> None:
    assert set(runs.times().compare(by=DECAY)["horizon"]) == {400.0}
    fast = Runs(run for run in runs if run.name.startswith("fast"))
    assert set(fast.times().compare(by=DECAY)["horizon"]) == {150.0}
    with pytest.raises(RunError, match="at most 400"):
        runs.times().compare(by=DECAY, horizon=10_000)


def test_below_five_runs_there_is_no_interval(runs: Runs) -> None:
    frame = Runs(runs[:8]).times().compare(by=DECAY)
    assert frame["low"].isna().all()
    assert frame["note"].str.contains("4 runs, fewer than 5").all()


def test_a_run_censored_before_the_horizon_leaves_no_interval_and_no_pair(
    runs: Runs, tmp_path: Path
) -> None:
    early = stub_run(tmp_path / "early", None, last=50, changes=seeded(6, 1.0))
    partner = stub_run(tmp_path / "partner", 160, changes=seeded(6, 3.0))
    frame = Runs([*runs, early, partner]).times().compare(by=DECAY, horizon=300)
    slow = frame.iloc[0]
    assert "1 censored before the horizon" in slow["note"]
    # the early one leaves the six others their weights: it was looked at before any event
    assert slow["restricted_mean"] == pytest.approx(1400 / 6)
    assert frame.iloc[1]["pairs"] == 6


def test_failed_runs_are_counted_and_left_out(runs: Runs, tmp_path: Path) -> None:
    gone = stub_run(tmp_path / "gone", None, last=30, state="diverged", changes=seeded(6, 1.0))
    frame = Runs([*runs, gone]).times().compare(by=DECAY, horizon=300)
    assert frame["failed"].tolist() == [1, 0]
    assert frame["n"].tolist() == [6, 6]
    with pytest.raises(RunError, match="all 1 runs failed"):
        Runs([gone]).times().compare(by=DECAY)


def test_pairs_share_every_other_setting(tmp_path: Path) -> None:
    """A second setting of the grid is part of the pair; the stop rule is not."""
    found = []
    for lr in (1e-3, 2e-3):
        for decay, steps in ((1.0, 300), (3.0, 250 if lr == 1e-3 else 100)):
            changes = seeded(0, decay) | {"optim.lr": lr, "stop.max_steps": int(steps)}
            found.append(stub_run(tmp_path / f"{lr} {decay}", steps, changes=changes))
    frame = Runs(found).times().compare(by=DECAY)
    assert frame["pairs"].tolist() == [0, 2]
    assert frame["difference"][1] == -125
    twin = stub_run(tmp_path / "twin", 300, changes=seeded(0, 1.0) | {"optim.lr": 1e-3})
    with pytest.raises(RunError, match="differ in nothing"):
        Runs([*found, twin]).times().compare(by=DECAY)


def test_a_setting_or_moment_that_does_not_exist(runs: Runs) -> None:
    with pytest.raises(RunError, match=DECAY):
        runs.times().compare(by="optim.weigth_decay")
    with pytest.raises(RunError, match="generalised"):
        runs.times().compare(by=DECAY, moment="grokked")
    with pytest.raises(RunError, match=r"the runs have \[1.0, 3.0\]"):
        runs.times().compare(by=DECAY, against=2.0)


def test_one_row_per_run(runs: Runs) -> None:
    table = runs.table()
    assert list(table.columns[:4]) == ["run", DECAY, "seed", "state"]
    assert len(table) == 12
    assert table["generalised"].isna().sum() == 1
    assert table.loc[0, ["memorised", "generalised", "step"]].tolist() == [20, 200, 400]
    assert table["test_acc"].tolist().count(0.0) == 1


def test_aligned_curves_meet_at_the_moment(runs: Runs) -> None:
    aligned = runs.series("test_acc").align("generalised")
    assert len(aligned) == 11
    assert list(aligned.left_out or {}) == ["slow5"]
    table = aligned.table()
    assert (table[table["step"] == 0]["value"] == 1).all()
    assert (table[table["step"] == -10]["value"] == 0).all()
    assert len(table[table["step"] == 0]) == 11
    assert len(runs.series(["test_acc", "train_acc"]).table()) == 12 * 41 * 2
    with pytest.raises(RunError, match="already"):
        aligned.align("memorised")
    with pytest.raises(RunError, match="unknown moment"):
        runs.series("test_acc").align("grokked")
    with pytest.raises(RunError, match="none of the 1 runs"):
        Runs([runs[10]]).series("test_acc").align("generalised")


def test_a_run_without_evaluations_has_no_times(runs: Runs) -> None:
    (runs[0].path / "metrics.jsonl").unlink()
    with pytest.raises(RunError, match="no evaluation"):
        runs.times()
    assert runs.table()["state"][0] == "finished"
