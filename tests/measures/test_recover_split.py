"""The split behind two losses: found when it is there, and not found when it is not."""

from pathlib import Path

import pytest
import torch
from measures.closed_forms import noise
from torch import Tensor

from mechgrok import measures
from mechgrok.config import BinaryTask, Seeds
from mechgrok.measures.recover_split import FRACTIONS, Split, measure
from mechgrok.runs.result import NotApplicable
from mechgrok.runs.run import Run
from mechgrok.tasks.binary import Task

P = 17
ROWS = noise(P * P).exp()


def stored(rows: Tensor, seed: int, frac_train: float) -> dict[str, float]:
    """Losses of the task's own split."""
    splits = Task.make(BinaryTask(n=P, frac_train=frac_train), Seeds(data=seed)).splits
    return {name: float(rows[index].mean()) for name, index in splits.items()}


@pytest.mark.parametrize("seed", [0, 1, 42, 99])
@pytest.mark.parametrize("frac_train", [0.01, 0.29, 0.3, 0.95])
def test_every_split_is_found_again(seed: int, frac_train: float) -> None:
    found = measures.recover_split(ROWS.numpy(), stored(ROWS, seed, frac_train))
    assert isinstance(found, Split)
    assert (found.seed, found.frac_train) == (seed, frac_train)
    assert found.error < 1e-12
    assert found.runner_up > 10 * found.error


def test_a_train_loss_far_below_the_test_loss_keeps_its_digits() -> None:
    """As of a grokked model: 1e-12 beside 1, which a difference of sums would lose."""
    splits = Task.make(BinaryTask(n=P, frac_train=0.4), Seeds(data=5)).splits
    rows = ROWS.clone()
    rows[splits["train"]] *= 1e-12
    found = measures.recover_split(rows, stored(rows, 5, 0.4))
    assert (found.seed, found.frac_train) == (5, 0.4)
    assert found.error < 1e-12


def test_stale_losses_are_tolerated_and_others_are_not() -> None:
    given = stored(ROWS, 3, 0.3)
    splits = Task.make(BinaryTask(n=P, frac_train=0.3), Seeds(data=3)).splits
    rows = ROWS.clone()
    rows[splits["train"]] *= 1e-3  # so that every other split is far off
    stale = {**stored(rows, 3, 0.3)}
    stale["test"] *= 1.0005
    found = measures.recover_split(rows, stale)
    assert isinstance(found, Split)
    assert found.test_error == pytest.approx(-5e-4, rel=1e-2)
    wrong = measures.recover_split(ROWS, {"train": 10 * given["train"], "test": given["test"]})
    assert isinstance(wrong, NotApplicable)
    assert "closest: seed" in wrong.reason


def test_rows_that_tell_no_split_apart_say_so() -> None:
    rows = torch.full((P * P,), 0.1, dtype=torch.float64)
    found = measures.recover_split(rows, {"train": 0.1, "test": 0.1})
    assert isinstance(found, NotApplicable)
    assert "several splits" in found.reason


def test_a_seed_beyond_the_search_is_not_found() -> None:
    found = measures.recover_split(ROWS, stored(ROWS, 100, 0.3))
    assert isinstance(found, NotApplicable)


def test_losses_that_cannot_be_compared() -> None:
    assert isinstance(measures.recover_split(ROWS, {"train": 0.0, "test": 1.0}), NotApplicable)
    zero = measures.recover_split(torch.zeros(P * P), {"train": 1.0, "test": 1.0})
    assert isinstance(zero, NotApplicable)
    for losses in ({"train": 1.0}, {"train": -1.0, "test": 1.0}, {"train": [], "test": 1.0}):
        with pytest.raises(ValueError, match="expected a final"):
            measures.recover_split(ROWS, losses)
    with pytest.raises(ValueError, match="at least 2"):
        measures.recover_split(ROWS, {"train": 1.0, "test": 1.0}, seeds=[1])


def test_curves_end_with_the_final_loss() -> None:
    given = stored(ROWS, 4, 0.5)
    curves = {"train": [5.0, given["train"]], "test": (given["test"],)}
    assert measures.recover_split(ROWS, curves) == measures.recover_split(ROWS, given)
    assert len(FRACTIONS) == 99


def test_a_run_trained_here_gives_back_its_own_split(tiny_run: Run, tmp_path: Path) -> None:
    result = measure(tiny_run)
    assert result["seed"] == tiny_run.config.seeds.data
    size = int(float(str(result["frac_train"])) * 49)
    assert size == int(tiny_run.config.task.frac_train * 49)
    assert {"operator", "dtype", "split", "selection"} <= set(result.definition)
