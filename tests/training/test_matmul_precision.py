"""Only the steps of a run that asks for it have products of bfloat16 factors."""

from pathlib import Path
from typing import Any

import pytest
import torch

import mechgrok as mg
from mechgrok.training import losses

TINY: dict[str, Any] = {
    **{"task.entities": 20, "task.relations": 12, "task.out_degree": 10, "task.phi": 6.0},
    **{"task.iid_share": 0.05, "model.d_model": 16, "optim.batch_size": 64},
    **{"schedule.evaluate_every": 2, "stop.max_steps": 4, "stop.after_generalised": None},
}


@pytest.mark.parametrize("asked", ["highest", "medium"])
def test_steps_have_the_precision_and_evaluations_the_highest(
    asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[tuple[bool, str]] = set()
    make = losses.make

    def watched(config: Any) -> Any:
        loss = make(config)

        def one(model: Any, *rest: Any) -> Any:
            seen.add((model.training, torch.get_float32_matmul_precision()))
            return loss(model, *rest)

        return one

    monkeypatch.setattr(losses, "make", watched)
    overrides = {**TINY, "model.matmul_precision": asked}
    mg.train("two_hop_small", run=tmp_path / "run", progress=False, overrides=overrides)
    assert seen == {(True, asked), (False, "highest")}
    assert torch.get_float32_matmul_precision() == "highest"
