"""A run's settings: its task, model and optimiser, and when it looks, keeps and stops."""

import hashlib
import json
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal

from mechgrok.config.models import ModelConfig, TransformerModel
from mechgrok.config.optimisation import AdamW, CrossEntropy, LossConfig, OptimConfig
from mechgrok.config.tasks import BinaryTask, TaskConfig


@dataclass(frozen=True)
class Schedule:
    """When the run is evaluated and when a checkpoint is kept."""

    evaluate_every: int = 100
    """Steps between evaluations on both splits; each is a line of metrics.jsonl."""
    checkpoints: tuple[str, ...] = ("at 0", "every 500")
    """Rules, any of which keeps a checkpoint: `at 0 100`, `every 100 until 2000`,
    `log 8 until 1000` (points per decade), `every 50 while test_acc in 0.1..0.95`."""


@dataclass(frozen=True)
class FingerprintRecord:
    """Log-probabilities of the same few rows, taken before the update of every n-th step."""

    every: int = 0
    """Steps between snapshots, from step 0 on; 0 records none."""
    probes: int = 100
    """Rows of each split, chosen by `seeds.probe`."""
    splits: tuple[str, ...] = ("train",)
    """Splits the rows are taken from: train, test or both."""
    hook: str | None = None
    """Also record sliced quantiles of the activations at this hook point."""
    position: int = -1
    """Token position at which the hook is read; negative from the end of the row."""
    directions: int = 100
    """Random directions onto which those activations are projected."""


@dataclass(frozen=True)
class Record:
    """What is recorded beside losses and accuracies."""

    recorders: tuple[str, ...] = ()
    """Recorders of `mechgrok/training/recorders.py` or dotted paths, called at every evaluation."""
    fingerprint: FingerprintRecord = field(default_factory=FingerprintRecord)
    """What is recorded of single rows, far more often."""


@dataclass(frozen=True)
class Seeds:
    """One seed per source of chance; `--seed N` sets all that are not named in `fixed`."""

    base: int = 0
    """The run's own name for its seeds; part of the run directory's name."""
    data: int = 0
    """Train/test split."""
    labels: int = 0
    """Answers of `operation=random_labels`."""
    relabel: int = 0
    """Permutation of the token names."""
    init: int = 0
    """Initial weights."""
    batch: int = 0
    """Order of minibatches."""
    noise: int = 0
    """Dropout and other noise inside the training step."""
    probe: int = 0
    """Choice of probe rows."""
    augmentation: int | None = None
    """Queries that a regime of `composition` adds; None for the same as `base`."""
    finetune: int | None = None
    """New or edited facts of `composition`, and what is kept; None for the same as `base`."""
    fixed: tuple[str, ...] = ()
    """Fields a preset keeps as published."""

    def with_base(self, seed: int) -> "Seeds":
        """Every seed set to `seed`, but those in `fixed`; those that follow `base` go on so."""
        kept = {"fixed", *self.fixed, *(f.name for f in fields(self) if self._follows(f.name))}
        free = [f.name for f in fields(self) if f.name not in kept]
        return replace(self, **dict.fromkeys(free, seed))

    def following(self, name: str) -> int:
        """A seed by its field; `base` for one that is left to follow it.

        Fields younger than the first runs follow, so that the digests of those stay.
        """
        return self.base if self._follows(name) else getattr(self, name)

    def _follows(self, name: str) -> bool:
        return getattr(self, name) is None


@dataclass(frozen=True)
class Perturbation:
    """A small change of the initial weights, beside which an unchanged run shows what it grows to.

    Every weight is multiplied by 1 + scale * N(0, 1), once, before the first step.
    """

    seed: int | None = None
    """Seed of the normals; None for no perturbation."""
    scale: float = 0.0
    """Relative size; the published study has 1e-3."""


@dataclass(frozen=True)
class Transfer:
    """Parts of another run's weights to start from, and which parts are trained.

    `embedding` is W_E, W_U and b_U; `body` is attention, MLP, W_pos and normalisations.
    """

    donor: str | None = None
    """A run directory or checkpoint file; None for no transfer."""
    step: int | None = None
    """Checkpoint of a donor that is a run directory; None for its last."""
    parts: tuple[str, ...] = ("body",)
    """What is taken: embedding, body, or weights by their last name, such as W_E."""
    change: Literal["none", "spectrum_matched", "w_out_permuted", "random_init"] = "none"
    """A null donor made of the weights: random singular vectors with their singular values; rows of
    W_out permuted against its neurons; or a new initialisation of the donor's model."""
    seed: int = 0
    """Of that change."""
    without_neurons: tuple[int, ...] = ()
    """Neurons of the donor's last block that are taken with zero weights."""
    train: tuple[str, ...] = ("embedding", "body")
    """What is trained; the rest keeps its bits, without decay."""


@dataclass(frozen=True)
class Stop:
    """When training ends."""

    max_steps: int = 40_000
    """At most this many optimiser steps."""
    after_generalised: int | None = 5_000
    """This many steps after the model has generalised; None to run to `max_steps`."""
    threshold: float = 0.99
    """Test accuracy it has to hold in 3 evaluations in a row; `after_generalised` counts from the
    first of them. Another value given on resume is watched from there on."""


@dataclass(frozen=True)
class RunConfig:
    """Everything that defines a run."""

    preset: str = "custom"
    """The name the run was started under; names the default run directory."""
    task: TaskConfig = field(default_factory=BinaryTask)
    """What is learnt."""
    model: ModelConfig = field(default_factory=TransformerModel)
    """What learns it."""
    loss: LossConfig = field(default_factory=CrossEntropy)
    """What is minimised."""
    optim: OptimConfig = field(default_factory=AdamW)
    """How it is minimised."""
    schedule: Schedule = field(default_factory=Schedule)
    """When to look and what to keep."""
    record: Record = field(default_factory=Record)
    """What else to write down."""
    seeds: Seeds = field(default_factory=Seeds)
    """One seed per source of chance."""
    init_from: str | None = None
    """A run directory or checkpoint file whose weights (only) a new run starts from."""
    init_weights: Literal["raw", "ema"] = "raw"
    """Which of them: `raw`, or `ema` for the exponential average, where it was kept."""
    transfer: Transfer = field(default_factory=Transfer)
    """What is taken from another run, and what is frozen."""
    perturbation: Perturbation = field(default_factory=Perturbation)
    """What is done to the initial weights, those of `init_from` and `transfer` too."""
    stop: Stop = field(default_factory=Stop)
    """When to end."""
    device: str = "cpu"
    """Torch device; anything but cpu is untested."""
    threads: int | None = None
    """Threads of torch; None leaves them alone. Bitwise resume needs the same number."""

    def digest(self) -> str:
        """Sha256 of all that decides the weights at a given step (not stop, device, threads).

        Only what differs from the defaults counts, so that a field added later leaves the digests
        of older runs as they are.
        """
        data = _changed(self)
        for name in ("preset", "stop", "device", "threads"):
            data.pop(name, None)
        for name in ("perturbation", "transfer"):  # younger than the first digests
            if not data[name]:
                data.pop(name)
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _changed(config: Any) -> dict[str, Any]:
    """Settings that differ from their class's defaults; a part always keeps its name.

    A part of a part that is as by default is left out: older runs do not have it.
    """
    found: dict[str, Any] = {}
    defaults = type(config)()
    for field_ in fields(config):
        value = getattr(config, field_.name)
        if is_dataclass(value):
            part = _changed(value)
            if part or isinstance(config, RunConfig):
                found[field_.name] = part
        elif field_.name == "name" or value != getattr(defaults, field_.name):
            found[field_.name] = value
    return found
