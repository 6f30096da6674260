"""A checkpoint: the weights at one step, with the model and task rebuilt around them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mechgrok import discovery
from mechgrok.config import RunConfig
from mechgrok.models import hooked
from mechgrok.models.shared_prefix import row_logits
from mechgrok.runs import layout
from mechgrok.runs.lineage import lineage
from mechgrok.runs.storage import RunError, read_tensors

if TYPE_CHECKING:
    from mechgrok.runs.run import Run

EMA = "ema/"
"""Prefix of the averaged weights in a checkpoint file."""


@dataclass(frozen=True)
class Checkpoint:
    """(step, model, task, config); model and task are built when first asked for."""

    config: RunConfig
    """Settings of the run."""
    step: int
    """Updates the weights have seen."""
    weights: Mapping[str, Tensor] = field(repr=False)
    """By TransformerLens name."""
    run: "Run | None" = None
    """The run it belongs to, or None."""
    kind: str = "raw"
    """raw, or ema for the exponential average."""

    @classmethod
    def of_run(cls, run: "Run", step: int, weights: str | None = None) -> "Checkpoint":
        """A run's checkpoint. Raises RunError for damaged files and weights that were not kept."""
        stored, header = read_tensors(layout.checkpoint(run.path, step))
        if header["config"] != run.config.digest():
            raise RunError(
                f"checkpoint {step} of {run.path} belongs to another config; its config.yaml was "
                f"changed: restore it, or start a new --run"
            )
        kind, chosen = _choose(stored, weights, run.path)
        return cls(run.config, step, chosen, run, kind)

    @cached_property
    def task(self) -> Any:
        """The run's task; without a run it is made anew from config and seeds."""
        if self.run is not None:
            return self.run.task
        return discovery.load("tasks", self.config.task.name).make(
            self.config.task, self.config.seeds
        )

    @cached_property
    def model(self) -> Any:
        """The hooked model with these weights, on the config's device, in eval mode."""
        model = build_model(self.config, self.task)
        load_weights(model, self.weights)
        return model.eval()

    @cached_property
    def answer_logits(self) -> Float[Tensor, "rows n_answers d_vocab_out"]:
        """Logits at every row's own answer positions."""
        tokens = self.task.tokens.to(self.config.device)
        at = self.task.answer_positions.to(self.config.device)
        with torch.no_grad():
            return row_logits(self.model, tokens, at)

    @property
    def seed(self) -> int:
        """The run's base seed."""
        return self.config.seeds.base

    @property
    def lineage(self) -> tuple[str, ...]:
        """What it comes from, nearest first: its run, its parents, an initialisation."""
        return lineage(self.config, None if self.run is None else self.run.path)

    def untrained(self, seed: int) -> "Checkpoint":
        """The same config's model at another initialisation, at step 0 and without a run."""
        config = replace(self.config, seeds=replace(self.config.seeds, init=seed))
        weights = {n: w.detach() for n, w in hooked.weights(build_model(config, self.task)).items()}
        return Checkpoint(config, 0, weights)

    @property
    def name(self) -> str:
        """Run and step, for titles."""
        return f"{self.run.name if self.run else self.config.preset} @ {self.step}"


def build_model(config: RunConfig, task: Any) -> Any:
    """A freshly initialised model of a config for a task."""
    return discovery.load("models", config.model.name)(
        config.model,
        d_vocab=task.d_vocab,
        n_ctx=task.n_ctx,
        d_vocab_out=task.d_vocab_out,
        seed=config.seeds.init,
        device=config.device,
    )


def load_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load weights strictly; buffers are the model's own, but those it names in `kept`.

    Raises RunError that lists missing, unexpected and differently shaped tensors.
    """
    own = hooked.weights(model)
    problems = [f"missing {name}" for name in own if name not in weights]
    problems += [f"unexpected {name}" for name in weights if name not in own]
    problems += [
        f"{name} has shape {list(weights[name].shape)}, expected {list(p.shape)}"
        for name, p in own.items()
        if name in weights and weights[name].shape != p.shape
    ]
    if problems:
        raise RunError("the weights do not fit the model: " + "; ".join(problems))
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(weights[name])


def read_weights(source: str | Path, kind: str = "raw") -> dict[str, Tensor]:
    """Weights of a checkpoint file, or of the newest checkpoint of a run directory; raw or ema.

    Raises RunError for a directory without a checkpoint and for weights that were not kept.
    """
    path = Path(source)
    if path.is_dir():
        steps = layout.steps(path, "checkpoints")
        if not steps:
            raise RunError(f"{path} has no checkpoint to start from")
        path = layout.checkpoint(path, steps[-1])
    return _choose(read_tensors(path)[0], kind, path)[1]


def _choose(
    stored: Mapping[str, Tensor], wanted: str | None, path: Path
) -> tuple[str, dict[str, Tensor]]:
    raw = {name: t for name, t in stored.items() if not name.startswith(EMA)}
    ema = {name.removeprefix(EMA): t for name, t in stored.items() if name.startswith(EMA)}
    if wanted not in (None, "raw", "ema"):
        raise RunError(f"weights = {wanted!r}; expected raw or ema")
    if wanted == "ema" and not ema:
        raise RunError(f"{path} keeps no ema weights; train with --optim.ema 0.999")
    if wanted == "raw" and not raw:
        raise RunError(f"{path} keeps averaged weights alone; ask for ema (init_weights=ema)")
    use_ema = bool(ema) and wanted != "raw"
    return ("ema", ema) if use_ema else ("raw", raw)
