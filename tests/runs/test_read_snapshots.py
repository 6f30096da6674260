"""What snapshots are read from, and which runs may share an operator."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published_spectra import write_directory
from stub_runs import stub_run

from mechgrok.maths.quantiles import quantiles
from mechgrok.runs.fingerprints import Fingerprints
from mechgrok.runs.snapshots import snapshots
from mechgrok.runs.storage import RunError

CHANCE = np.random.default_rng(0)
VALUES = CHANCE.normal(size=(40, 6)).cumsum(axis=0)


def fingerprints(**changes: Any) -> Fingerprints:
    """Four train and two test probes over 40 snapshots at every second step."""
    made = Fingerprints(
        steps=2 * np.arange(40),
        values={"answer_log_prob": VALUES, "margin": -VALUES},
        probes=np.array([3, 5, 8, 9, 20, 21]),
        splits=("train",) * 4 + ("test",) * 2,
        every=2,
        hidden=np.concatenate([VALUES, 2 * VALUES], axis=1).astype(np.float32),
    )
    return dataclasses.replace(made, **changes)


def test_quantiles_of_the_probes_of_a_split() -> None:
    (found,) = snapshots(fingerprints(), "margin", split="test")
    assert (found.values == quantiles(-VALUES[:, 4:])).all()
    assert found.probes is not None
    assert found.probes.tolist() == [20, 21]
    assert (found.observable, found.split, found.stride) == ("margin", "test", 2)
    (both,) = snapshots(fingerprints())
    assert both.split == "train+test"
    assert (both.values == quantiles(VALUES)).all()


def test_hidden_states_of_a_split_are_its_part() -> None:
    (whole,) = snapshots(fingerprints(), "hidden")
    (test,) = snapshots(fingerprints(), "hidden", split="test")
    assert whole.values.shape == (40, 12)
    assert test.values == pytest.approx(2 * VALUES, rel=1e-6)
    assert test.values.dtype == np.float64


def test_arrays_files_and_lists(tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", VALUES)
    (found,) = snapshots(tmp_path / "mine.npy", record_every=5)
    assert (found.name, found.observable, found.stride) == ("mine", "array", 5)
    assert (found.values == VALUES).all()
    assert [one.name for one in snapshots(np.stack([VALUES, VALUES]))] == ["array 0", "array 1"]
    assert len(snapshots([VALUES, VALUES + 1])) == 2
    assert snapshots(VALUES.tolist())[0].values.shape == VALUES.shape
    (cut,) = snapshots(VALUES, record_every=2)
    assert cut.between(10, 20).steps.tolist() == [10, 12, 14, 16, 18, 20]
    with pytest.raises(RunError, match=r"no snapshot within steps 100\.\.78; it has 0\.\.78"):
        cut.between(100, None)


@pytest.mark.parametrize("inside", [False, True])
def test_a_published_directory_says_what_it_observes(inside: bool, tmp_path: Path) -> None:
    directory = write_directory(tmp_path / "seed47_wd1", VALUES)
    (found,) = snapshots(directory / "fingerprints" if inside else directory, "end_log_prob")
    assert (found.values == VALUES).all()
    assert (found.observable, found.split, found.stride) == ("end_log_prob", "train", 2)
    with pytest.raises(RunError, match="holds end_log_prob of train probes.* or legacy"):
        snapshots(directory)
    with pytest.raises(RunError, match="recorded every 2 steps, not 3"):
        snapshots(directory, "end_log_prob", record_every=3)
    hidden = write_directory(tmp_path / "hidden", VALUES, fingerprint_source="hidden_state")
    assert snapshots(hidden, "hidden")[0].observable == "hidden"


OTHERS = {
    "have other probes: 1 of 6 .* row 22": {"probes": np.array([3, 5, 8, 9, 20, 22])},
    r"differ in splits of the probes: train and train\+test": {"splits": ("train",) * 6},
    "differ in steps between snapshots: 4 and 2": {"steps": 4 * np.arange(40), "every": 4},
}


@pytest.mark.parametrize("said", OTHERS)
def test_runs_that_cannot_share_an_operator_are_refused(said: str) -> None:
    assert len(snapshots([fingerprints(), fingerprints()])) == 2
    with pytest.raises(RunError, match=f"{said}.*same seeds.data, seeds.probe"):
        snapshots([fingerprints(), fingerprints(**OTHERS[said])])


def test_what_holds_no_snapshots_says_what_to_do(tmp_path: Path) -> None:
    run = stub_run(tmp_path / "run", 200)
    with pytest.raises(RunError, match=r"--set record\.fingerprint\.every=2"):
        snapshots(run)
    with pytest.raises(RunError, match="no run directory .* published format .* no .npy"):
        snapshots(tmp_path)
    with pytest.raises(RunError, match="no 'end_log_prob'; it has .*needs a task with an end"):
        snapshots(fingerprints(), "end_log_prob")
    with pytest.raises(RunError, match=r"hook=blocks\.1\.hook_resid_post"):
        snapshots(fingerprints(hidden=None), "hidden")
    with pytest.raises(RunError, match="no probes of split 'validation'; it has"):
        snapshots(fingerprints(), split="validation")
    with pytest.raises(RunError, match="an array, which has no split"):
        snapshots(VALUES, split="train")
    with pytest.raises(RunError, match="record_every=0"):
        snapshots(VALUES, record_every=0)
    (tmp_path / "text.npy").write_text("1 2 3")
    with pytest.raises(RunError, match="cannot read .*text.npy"):
        snapshots(tmp_path / "text.npy")
