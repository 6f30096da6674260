"""A checkpoint and a run held in memory, for the wrappers of measures."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from mechgrok.config import BinaryTask, Seeds, TransformerModel
from mechgrok.models.shared_prefix import answer_logits
from mechgrok.models.transformer import Transformer, build
from mechgrok.tasks.binary import Task


@dataclass(eq=False)
class StandIn:
    """What measures read from a checkpoint."""

    task: Any
    model: Any
    step: int = 0
    seed: int | None = 0
    run: Any = None

    @cached_property
    def answer_logits(self) -> Tensor:
        """Logits of every row, [rows, 1, classes]."""
        with torch.no_grad():
            return answer_logits(self.model, self.task.tokens, [-1])


@dataclass(eq=False)
class StandInRun:
    """What measures read from a run."""

    checkpoints: Sequence[StandIn]
    frame: pd.DataFrame | None = None
    name: str = "stand_in"
    seed: int | None = 0
    config: Any = None
    read: int = 0
    """How often a checkpoint was taken."""

    @property
    def steps(self) -> list[int]:
        """Steps of the checkpoints."""
        return [checkpoint.step for checkpoint in self.checkpoints]

    def __getitem__(self, index: int) -> StandIn:
        self.read += 1
        return self.checkpoints[index]

    def metrics(self) -> pd.DataFrame:
        """The metrics given."""
        assert self.frame is not None
        return self.frame


def task(n: int = 11, **settings: Any) -> Task:
    """A binary task with seeds 0."""
    return Task.make(BinaryTask(n=n, **settings), Seeds())


def model(of: Task, seed: int = 0, **sizes: Any) -> Transformer:
    """An untrained small transformer for a task."""
    small = {"d_model": 16, "n_heads": 2, "d_head": 8, "d_mlp": 32, **sizes}
    return build(
        TransformerModel(**small),
        d_vocab=of.d_vocab,
        n_ctx=of.n_ctx,
        d_vocab_out=of.d_vocab_out,
        seed=seed,
    )


def untrained(n: int = 11, seed: int = 0, **settings: Any) -> StandIn:
    """An untrained checkpoint of an n-element task."""
    of = task(n, **settings)
    return StandIn(task=of, model=model(of, seed), seed=seed)
