"""Settings of losses and optimisers; `name` is what is defined in `mechgrok/training`."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy at the answer positions, averaged over all answers of a batch."""

    name: str = "cross_entropy"
    """Function in `mechgrok/training/losses.py`, or a dotted path."""
    dtype: Literal["float32", "float64"] = "float64"
    """Type of the log-softmax; float32 rounds losses below 6e-8 to exactly 0."""


@dataclass(frozen=True)
class HaltingCrossEntropy:
    """The loss of the Tiny Recursive Model: each row's mean cross-entropy, and a halting term.

    The halting logit learns whether every answer of the row is right (arXiv 2510.04871).
    """

    name: str = "halting_cross_entropy"
    """Function in `mechgrok/training/losses.py`, or a dotted path."""
    probabilities: Literal["stablemax", "softmax"] = "stablemax"
    """softmax, or x + 1 for x >= 0 and 1 / (1 - x) below, divided by their sum (arXiv 2501.04697);
    stablemax as published."""
    halt_weight: float = 0.5
    """Weight of the halting term; 0 for a model without a halting head."""
    dtype: Literal["float32", "float64"] = "float64"
    """Type in which probabilities are computed."""


@dataclass(frozen=True)
class AdamW:
    """Adam with weight decay on every trained parameter, and a linear warm-up."""

    name: str = "adamw"
    """Function in `mechgrok/training/optimizers.py`, or a dotted path."""
    lr: float = 1e-3
    """Learning rate after the warm-up."""
    weight_decay: float = 1.0
    """Decoupled decay: weights shrink by lr * weight_decay a step (see weight_decay_form)."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Decay rates of the two moments."""
    eps: float = 1e-8
    """Added to the root of the second moment."""
    warmup_steps: int = 10
    """Linear warm-up; the first step has learning rate 0. 0 switches it off."""
    anneal_steps: int | None = None
    """After the warm-up, a half cosine from lr to lr / 10 over this many steps; None: constant."""
    weight_decay_form: Literal["to_zero", "to_init", "jiggle", "honest"] = "to_zero"
    """`to_zero` decays to 0, `to_init` to the initial weights, `jiggle` multiplies each tensor by
    exp(lr * weight_decay * N(0, 1)), `honest` adds weight_decay * weight to the gradient."""
    noise_factor: float = 0.0
    """Standard deviation of noise added to every update, in units of the learning rate."""
    batch_size: int | None = None
    """Rows per step; None, or a number at least the training set's size, is full batch."""
    batch_share: float | None = None
    """At most this share of the training rows per step, rounded up; None for no such limit."""
    update: Literal["adam", "atan2"] = "adam"
    """`adam` divides by root and eps; `atan2` takes 1.27 atan2(moment, root) and needs no eps."""
    clip_norm: float | None = None
    """The gradient is scaled down to at most this norm, over all weights; None for no limit."""
    ema: float | None = None
    """Decay of an exponential average of the weights, saved beside the raw ones; None for none."""


LossConfig = CrossEntropy | HaltingCrossEntropy
OptimConfig = AdamW
"""A run's loss and optimiser are one of these each, chosen by `name`."""
