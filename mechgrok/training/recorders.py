"""What is recorded beside losses and accuracies: one more column of metrics.jsonl each.

A recorder is a class with `observe`, `state` and `restore`; its state is saved with every
checkpoint, so a resumed run records what an uninterrupted one would. Others are named by dotted
path.
"""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mechgrok.config import ConfigError, RunConfig


@runtime_checkable
class Recorder(Protocol):
    """Called at every evaluation, before the update; touches no generator and no weight."""

    def __init__(self, directory: Path, config: RunConfig, task: Any) -> None: ...

    def observe(self, step: int, model: nn.Module) -> Mapping[str, float]:
        """Further columns of this evaluation's line."""
        ...

    def state(self) -> Mapping[str, Tensor]:
        """What a resumed run needs."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a saved state."""
        ...


class UpdateNorm:
    """update_norm: ||theta - theta'|| / ||theta'||, theta' the weights at the evaluation before."""

    def __init__(self, directory: Path, config: RunConfig, task: Any) -> None:
        """Start without earlier weights."""
        self._before: dict[str, Tensor] = {}

    def observe(self, step: int, model: nn.Module) -> Mapping[str, float]:
        """The column; 0 at the first evaluation."""
        now = {name: p.detach().clone() for name, p in model.named_parameters()}
        before, self._before = self._before or now, now
        moved = sum(float((now[n] - before[n]).double().square().sum()) for n in now)
        size = sum(float(before[n].double().square().sum()) for n in now)
        return {"update_norm": (moved / size) ** 0.5}

    def state(self) -> Mapping[str, Tensor]:
        """The weights of the last evaluation."""
        return self._before

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from them."""
        self._before = dict(state)


class WeightNorm:
    """sum_of_squares: of all trained parameters (Nanda et al. 2023, section 5)."""

    def __init__(self, directory: Path, config: RunConfig, task: Any) -> None:
        """Nothing to set up."""

    def observe(self, step: int, model: nn.Module) -> Mapping[str, float]:
        """The column."""
        trained = [p.detach().double() for p in model.parameters() if p.requires_grad]
        return {"sum_of_squares": float(sum(p.square().sum() for p in trained))}

    def state(self) -> Mapping[str, Tensor]:
        """Nothing."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Nothing."""


RECORDERS: Mapping[str, type[Recorder]] = {
    "update_norm": UpdateNorm,
    "weight_norm": WeightNorm,
}
"""Recorders by name."""


def make(
    names: Sequence[str], directory: Path, config: RunConfig, task: Any
) -> dict[str, Recorder]:
    """Recorders by name or dotted path (`package.module.Class`).

    Raises ConfigError for one that does not exist.
    """
    return {name: _find(name)(directory, config, task) for name in names}


def _find(name: str) -> type[Recorder]:
    if name in RECORDERS:
        return RECORDERS[name]
    module, _, member = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), member)
    except (ImportError, AttributeError, ValueError):
        raise ConfigError(
            f"unknown recorder {name!r}; expected one of {sorted(RECORDERS)} or a dotted path"
        ) from None


def pack(recorders: Mapping[str, Recorder]) -> dict[str, Tensor]:
    """All recorders' states under one flat set of names."""
    return {
        f"recorder/{name}/{key}": tensor
        for name, recorder in recorders.items()
        for key, tensor in recorder.state().items()
    }


def unpack(recorders: Mapping[str, Recorder], tensors: Mapping[str, Tensor]) -> None:
    """Restore every recorder from what `pack` saved."""
    for name, recorder in recorders.items():
        prefix = f"recorder/{name}/"
        recorder.restore(
            {
                k.removeprefix(prefix): torch.clone(t)
                for k, t in tensors.items()
                if k.startswith(prefix)
            }
        )
