"""Everything that decides the next update, and its saved form: resume is exact to the bit."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor, nn

from mechgrok.config import RunConfig
from mechgrok.models.hooked import weights as weights_of
from mechgrok.runs import layout
from mechgrok.runs.checkpoint import EMA, load_weights
from mechgrok.runs.storage import RunError, read_tensors, write_tensors, write_text
from mechgrok.training.recorders import Recorder, pack, unpack
from mechgrok.training.schedule import Progress

KEPT_STATES = 2
"""States kept per run: the newest, and one to fall back to."""


class Batches:
    """Row indices of each step: full batch, or shuffled epochs whose place is part of the state."""

    def __init__(
        self,
        rows: Int[Tensor, " train"],
        batch_size: int | None,
        seed: int,
        share: float | None = None,
    ) -> None:
        """Batches of at most `batch_size` rows and this share of all; all rows is full batch."""
        limits = [len(rows)] if batch_size is None else [len(rows), batch_size]
        limits += [] if share is None else [math.ceil(share * len(rows))]
        self.rows = rows
        self.size = min(limits)
        self.full = self.size == len(rows)
        self.generator = torch.Generator().manual_seed(seed)
        self.order = torch.empty(0, dtype=torch.long)
        self.cursor = 0

    @property
    def per_epoch(self) -> int:
        """Steps in which every row is visited once."""
        return math.ceil(len(self.rows) / self.size)

    def next(self) -> Int[Tensor, " batch"]:
        """The next rows; an epoch's last batch may be smaller."""
        if self.full:
            return self.rows
        if self.cursor >= len(self.order):
            self.order = torch.randperm(len(self.rows), generator=self.generator)
            self.cursor = 0
        taken = self.order[self.cursor : self.cursor + self.size]
        self.cursor += len(taken)
        return self.rows[taken]


@dataclass
class State:
    """A run in memory."""

    config: RunConfig
    model: nn.Module
    optimizer: torch.optim.Optimizer
    batches: Batches
    noise: torch.Generator
    recorders: Mapping[str, Recorder]
    step: int = 0
    progress: Progress = field(default_factory=Progress.start)
    ema: dict[str, Tensor] = field(default_factory=dict)

    def trained(self) -> Iterator[tuple[str, Tensor]]:
        """Trained weights by name."""
        return ((n, p) for n, p in weights_of(self.model).items() if p.requires_grad)

    def save(self, directory: Path) -> None:
        """Write checkpoint, state, then `latest`: a crash in between leaves the ones before."""
        header = {"step": self.step, "config": self.config.digest()}
        weights = {name: p.detach() for name, p in weights_of(self.model).items()}
        weights |= {EMA + name: tensor for name, tensor in self.ema.items()}
        write_tensors(layout.checkpoint(directory, self.step), weights, header)
        more = {"cursor": self.batches.cursor, "progress": vars(self.progress)}
        write_tensors(layout.state(directory, self.step), self._tensors(), header | more)
        write_text(directory / "latest", layout.checkpoint(directory, self.step).name + "\n")
        older = [step for step in layout.steps(directory, "state") if step <= self.step]
        for step in older[:-KEPT_STATES]:
            layout.state(directory, step).unlink(missing_ok=True)

    def restore(self, directory: Path, step: int) -> None:
        """Go on from a saved step. Raises RunError for damaged files or another config."""
        weights, header = read_tensors(layout.checkpoint(directory, step))
        tensors, more = read_tensors(layout.state(directory, step))
        for found in (header, more):
            if found["config"] != self.config.digest() or found["step"] != step:
                raise RunError(f"step {step} of {directory} belongs to another config or step")
        load_weights(self.model, {n: t for n, t in weights.items() if not n.startswith(EMA)})
        self.ema = {n.removeprefix(EMA): t for n, t in weights.items() if n.startswith(EMA)}
        self._restore(tensors)
        self.batches.cursor = more["cursor"]
        self.progress = Progress.restore(more["progress"])
        unpack(self.recorders, tensors)
        self.step = step

    def _tensors(self) -> dict[str, Tensor]:
        moments = {
            f"optimizer/{name}/{key}": value
            for name, parameter in self.trained()
            for key, value in self.optimizer.state.get(parameter, {}).items()
        }
        return {
            **moments,
            "generator/batch": self.batches.generator.get_state(),
            "generator/noise": self.noise.get_state(),
            "order": self.batches.order,
            **pack(self.recorders),
        }

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        for name, parameter in self.trained():
            prefix = f"optimizer/{name}/"
            found = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
            if found:
                device = {k: t if k == "step" else t.to(parameter.device) for k, t in found.items()}
                self.optimizer.state[parameter] = device
        self.batches.generator.set_state(tensors["generator/batch"])
        self.noise.set_state(tensors["generator/noise"])
        self.batches.order = tensors["order"]


def resume_step(directory: Path) -> int | None:
    """The step named by `latest`, or None before the first checkpoint.

    Raises RunError when `latest` names no step, or a step without state.
    """
    path = directory / "latest"
    if not path.exists():
        return None
    name = path.read_text().strip()
    digits = name.removeprefix("step_").removesuffix(".safetensors")
    if not digits.isdigit():
        raise RunError(f"{path} holds {name!r}; expected a checkpoint's file name")
    step = int(digits)
    if not layout.state(directory, step).exists():
        have = layout.steps(directory, "state")
        raise RunError(f"{directory} has no state for step {step}; it has states for {have}")
    return step
