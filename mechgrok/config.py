"""Every setting of a run, as frozen dataclasses; the standard library only.

A config is data: it is written to `config.yaml`, read back strictly, and its digest names the run's
checkpoints. Nothing is derived at class definition, so changing `n` or `d_model` changes only that.
"""

import hashlib
import json
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal


class ConfigError(ValueError):
    """A setting that cannot be used; the message says what was given and what was expected."""


@dataclass(frozen=True)
class BinaryTask:
    """All pairs (a, b) of Z_n under one operation, as tokens (a, b, =)."""

    name: str = "binary"
    """Task file in `mechgrok/tasks`, or a dotted path."""
    operation: str = "add"
    """A function of `mechgrok/maths/operations.py`: add, subtract, multiply, divide, ..."""
    n: int = 113
    """Size of Z_n; at least 3."""
    frac_train: float = 0.3
    """Share of the rows trained on; strictly between 0 and 1."""
    split: str = "nanda2023"
    """How rows are split: nanda2023, torch_randperm or symmetric."""
    relabel: bool = False
    """Rename the tokens by a random permutation (seed: `seeds.relabel`)."""
    outputs: Literal["tokens", "answers"] = "tokens"
    """Logits over all n+1 tokens, as Nanda et al. (2023), or over the n answers only."""


@dataclass(frozen=True)
class TransformerModel:
    """A HookedTransformer; vocabulary and context length come from the task."""

    name: str = "transformer"
    """Model file in `mechgrok/models`, or a dotted path."""
    n_layers: int = 1
    """Number of blocks."""
    d_model: int = 128
    """Width of the residual stream."""
    n_heads: int = 4
    """Attention heads per block."""
    d_head: int = 32
    """Width of one head."""
    d_mlp: int = 512
    """Neurons per block."""
    act_fn: str = "relu"
    """Activation function of the MLP, by its TransformerLens name."""
    normalization: Literal["LN", "LNPre", "RMS", "RMSPre"] | None = None
    """Pre-LN kind by its TransformerLens name; None as in Nanda et al. (2023)."""
    init: str = "nanda2023"
    """Named initialisation: nanda2023 or tl3."""
    trained_biases: Literal["none", "mlp", "all"] = "mlp"
    """Which biases are trained; the others are frozen at 0 and not counted as parameters."""
    dtype: Literal["float32", "float64"] = "float32"
    """Type of the weights."""


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy at the answer positions, averaged over all answers of a batch."""

    name: str = "cross_entropy"
    """Function in `mechgrok/training/losses.py`, or a dotted path."""
    dtype: Literal["float32", "float64"] = "float64"
    """Type of the log-softmax; float32 rounds losses below 6e-8 to exactly 0."""


@dataclass(frozen=True)
class AdamW:
    """Decoupled weight decay on every trained parameter, with a linear warm-up."""

    name: str = "adamw"
    """Function in `mechgrok/training/optimizers.py`, or a dotted path."""
    lr: float = 1e-3
    """Learning rate after the warm-up."""
    weight_decay: float = 1.0
    """Decoupled decay: weights shrink by lr * weight_decay a step."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Decay rates of the two moments."""
    eps: float = 1e-8
    """Added to the root of the second moment."""
    warmup_steps: int = 10
    """Linear warm-up; the first step has learning rate 0. 0 switches it off."""
    batch_size: int | None = None
    """Rows per step; None, or a number at least the training set's size, is full batch."""
    ema: float | None = None
    """Decay of an exponential average of the weights, saved beside the raw ones; None for none."""


@dataclass(frozen=True)
class Schedule:
    """When the run is evaluated and when a checkpoint is kept."""

    evaluate_every: int = 100
    """Steps between evaluations on both splits; each is a line of metrics.jsonl."""
    checkpoints: tuple[str, ...] = ("at 0", "every 500")
    """Rules, any of which keeps a checkpoint: `at 0 100`, `every 100 until 2000`,
    `log 8 until 1000` (points per decade), `every 50 while test_acc in 0.1..0.95`."""


@dataclass(frozen=True)
class Record:
    """What is recorded beside losses and accuracies."""

    recorders: tuple[str, ...] = ()
    """Recorders of `mechgrok/training/recorders.py` or dotted paths, called at every evaluation."""


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
    fixed: tuple[str, ...] = ()
    """Fields a preset keeps as published."""

    def with_base(self, seed: int) -> "Seeds":
        """Every seed set to `seed`, but those in `fixed`."""
        free = [f.name for f in fields(self) if f.name not in {"fixed", *self.fixed}]
        return replace(self, **dict.fromkeys(free, seed))


@dataclass(frozen=True)
class Stop:
    """When training ends."""

    max_steps: int = 40_000
    """At most this many optimiser steps."""
    after_generalised: int | None = 5_000
    """This many steps after the model has generalised; None to run to `max_steps`."""


@dataclass(frozen=True)
class RunConfig:
    """Everything that defines a run."""

    preset: str = "custom"
    """The name the run was started under; names the default run directory."""
    task: BinaryTask = field(default_factory=BinaryTask)
    """What is learnt."""
    model: TransformerModel = field(default_factory=TransformerModel)
    """What learns it."""
    loss: CrossEntropy = field(default_factory=CrossEntropy)
    """What is minimised."""
    optim: AdamW = field(default_factory=AdamW)
    """How it is minimised."""
    schedule: Schedule = field(default_factory=Schedule)
    """When to look and what to keep."""
    record: Record = field(default_factory=Record)
    """What else to write down."""
    seeds: Seeds = field(default_factory=Seeds)
    """One seed per source of chance."""
    init_from: str | None = None
    """A run directory or checkpoint file whose weights (only) a new run starts from."""
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
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _changed(config: Any) -> dict[str, Any]:
    """Settings that differ from their class's defaults; a part always keeps its name."""
    found: dict[str, Any] = {}
    defaults = type(config)()
    for field_ in fields(config):
        value = getattr(config, field_.name)
        if is_dataclass(value):
            found[field_.name] = _changed(value)
        elif field_.name == "name" or value != getattr(defaults, field_.name):
            found[field_.name] = value
    return found
