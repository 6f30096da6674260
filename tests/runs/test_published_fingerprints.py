"""The published directory format: written, read back, and read where a run was cut off."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny

from mechgrok.maths.quantiles import LEVELS
from mechgrok.runs.fingerprints import Fingerprints
from mechgrok.runs.published_fingerprints import as_published, read_published, write_published
from mechgrok.runs.storage import RunError


def as_the_released_code_writes(directory: Path, steps: int = 6, d: int = 19) -> np.ndarray:
    """Every file by hand, at every second step."""
    directory.mkdir()
    values = np.random.default_rng(0).normal(size=(steps, d)).cumsum(axis=1)
    config = {
        "d_model": 1, "n_projections": 0, "n_quantiles": 19, "probe_size": 100, "record_every": 2,
        "layer_name": "x", "token_index": -1, "center_mode": "temporal_mean",
        "fingerprint_seed": 42, "fingerprint_source": "log_prob",
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(config))
    np.save(directory / "probe_indices.npy", np.arange(100) * 3)
    for i, row in enumerate(values):
        np.save(directory / f"snapshot_t{2 * i:06d}.npy", row)
    np.save(directory / "steps.npy", np.arange(steps) * 2)
    np.save(directory / "epochs.npy", np.arange(steps) * 2 // 8)
    return values


def test_a_whole_directory_is_read(tmp_path: Path) -> None:
    values = as_the_released_code_writes(tmp_path / "fp")
    found = read_published(tmp_path / "fp")
    assert np.array_equal(found.values, values)
    assert found.steps.tolist() == [0, 2, 4, 6, 8, 10]
    assert found.epochs.tolist() == [0, 0, 0, 0, 1, 1]
    assert found.probes.tolist() == list(range(0, 300, 3))
    assert (found.every, found.directions, found.torn) == (2, None, ())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def behind(path: Path) -> None:
    np.save(path, np.load(path)[:-2])


@pytest.mark.parametrize(
    ("name", "damage", "epochs", "torn"),
    [
        ("steps", Path.unlink, [-1] * 6, ()),
        ("epochs", Path.unlink, [-1] * 6, ()),
        ("steps", cut, [-1] * 6, ("steps.npy",)),
        ("steps", behind, [0, 0, 0, 0, -1, -1], ()),
        ("epochs", behind, [0, 0, 0, 0, -1, -1], ()),
        ("snapshot_t000010", cut, [0, 0, 0, 0, 1], ("snapshot_t000010.npy",)),
    ],
)
def test_a_run_that_was_cut_off(
    name: str, damage: Callable[[Path], None], epochs: list[int], torn: tuple[str], tmp_path: Path
) -> None:
    values = as_the_released_code_writes(tmp_path / "fp")
    damage(tmp_path / "fp" / f"{name}.npy")
    found = read_published(tmp_path / "fp")
    assert found.epochs.tolist() == epochs
    assert np.array_equal(found.values, values[: len(epochs)])
    assert found.torn == torn


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("snapshot_t000004.npy", Path.unlink, r"missing: \[4\]"),
        ("snapshot_t000010.npy", Path.unlink, r"missing: \[10\]"),  # steps.npy counts it
        ("snapshot_t000004.npy", cut, r"damaged ones: \['snapshot_t000004.npy'\]"),
        ("snapshot_t000004.npy", lambda path: np.save(path, np.zeros(18)), "have shapes"),
        ("snapshot_t000005.npy", lambda path: np.save(path, np.zeros(19)), r"not expected: \[5\]"),
        ("config.json", Path.unlink, "is missing"),
        ("config.json", lambda path: path.write_text("{}"), "has no record_every"),
        ("probe_indices.npy", Path.unlink, "probe_indices.npy is missing"),
    ],
)
def test_what_cannot_be_read_is_named(
    name: str, damage: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    as_the_released_code_writes(tmp_path / "fp")
    damage(tmp_path / "fp" / name)
    with pytest.raises(RunError, match=said):
        read_published(tmp_path / "fp")


def recorded(hidden: bool = False) -> Fingerprints:
    """Five snapshots of 4 training and 4 test probes; of hidden states, training probes only."""
    chance = np.random.default_rng(1)
    n = 4 if hidden else 8
    return Fingerprints(
        steps=np.arange(5) * 3,
        values={n_: chance.normal(size=(5, n)) for n_ in ("answer_log_prob", "end_log_prob")},
        probes=np.arange(100, 100 + n),
        splits=("train", "test")[: n // 4] * 4 if hidden else ("train",) * 4 + ("test",) * 4,
        every=3,
        hidden=chance.normal(size=(5, 2 * 19)) if hidden else None,
        description={
            "places": list(range(n)), "seed": 7, "steps_per_epoch": 4,
            **({"hook": "h", "position": -1, "directions": 2, "width": 6} if hidden else {}),
        },
    )  # fmt: skip


@pytest.mark.parametrize("observable", ["end_log_prob", "answer_log_prob"])
def test_a_runs_fingerprints_survive_the_way_out_and_back(observable: str, tmp_path: Path) -> None:
    run = recorded()
    write_published(tmp_path / "fp", as_published(run, observable))
    found = read_published(tmp_path / "fp")
    assert np.array_equal(found.values, np.quantile(run.values[observable][:, :4], LEVELS, 1).T)
    assert found.steps.tolist() == [0, 3, 6, 9, 12]
    assert found.epochs.tolist() == [0, 0, 1, 2, 3]
    assert found.probes.tolist() == [0, 1, 2, 3]
    assert found.config["token_index"] == {"end_log_prob": -1, "answer_log_prob": -2}[observable]
    snapshots = [f"snapshot_t{step:06d}.npy" for step in (0, 3, 6, 9, 12)]
    rest = ["config.json", "epochs.npy", "probe_indices.npy", "steps.npy"]
    assert sorted(tiny.files(tmp_path / "fp")) == sorted([*snapshots, *rest])


def test_hidden_states_keep_their_directions(tmp_path: Path) -> None:
    run = recorded(hidden=True)
    write_published(tmp_path / "fp", as_published(run, "hidden"))
    found = read_published(tmp_path / "fp")
    assert found.directions is not None
    assert found.directions.shape == (2, 6)
    assert run.hidden is not None
    assert np.array_equal(found.values, run.hidden)
    assert (found.config["n_projections"], found.config["d_model"]) == (2, 6)


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected one of"):
        as_published(recorded(), "margin")
    with pytest.raises(ValueError, match="without places"):
        as_published(replace(recorded(), description={}))
    with pytest.raises(ValueError, match="no hidden states"):
        as_published(recorded(), "hidden")
    (tmp_path / "fp").mkdir()
    with pytest.raises(RunError, match="exists; give another"):
        write_published(tmp_path / "fp", as_published(recorded()))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError, match="cannot write"):
        write_published(tmp_path / "file" / "fp", as_published(recorded()))
