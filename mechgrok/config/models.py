"""Settings of the models; `name` is the file in `mechgrok/models`."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TransformerModel:
    """A HookedTransformer; vocabulary and context length come from the task."""

    name: str = "transformer"
    """Model file in `mechgrok/models`, or a dotted path."""
    n_layers: int = 1
    """Number of blocks."""
    passes: int = 1
    """Times the blocks are run, with the same weights; pass k's block i is `blocks.{k * n_layers
    + i}`. 2 is the `add_recurrence` of Wang et al. (2024, arXiv 2405.15071)."""
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
    """Named initialisation: nanda2023, tl3 or gpt2."""
    trained_biases: Literal["none", "mlp", "all"] = "mlp"
    """Which biases are trained; the others are frozen at 0 and not counted as parameters."""
    dtype: Literal["float32", "float64"] = "float32"
    """Type of the weights."""


@dataclass(frozen=True)
class PostLNModel:
    """The decoder of Power et al. (2022): post-LN, bias-free, fixed sinusoidal positions."""

    name: str = "post_ln"
    """Model file in `mechgrok/models`, or a dotted path."""
    n_layers: int = 2
    """Number of blocks."""
    d_model: int = 128
    """Width of the residual stream."""
    n_heads: int = 4
    """Attention heads per block; the width of one is d_model / n_heads."""
    d_mlp: int = 512
    """Neurons per block."""
    act_fn: Literal["relu", "gelu"] = "relu"
    """Activation function of the MLP."""
    dropout: float = 0.0
    """Share of the MLP's outputs dropped in training; at least 0, below 1."""
    weight_noise: float = 0.0
    """Standard deviation of fresh noise on every weight in each training step."""
    dtype: Literal["float32", "float64"] = "float32"
    """Type of the weights."""


@dataclass(frozen=True)
class TRMModel:
    """The Tiny Recursive Model of arXiv 2510.04871: two states refined in turn by one network.

    Defaults are a small size without puzzle positions; vocabulary and length come from the task.
    """

    name: str = "trm"
    """Model file in `mechgrok/models`, or a dotted path."""
    n_layers: int = 2
    """Blocks of the one network (published as L_layers)."""
    d_model: int = 128
    """Width of the states."""
    H_cycles: int = 2
    """Updates of z_H in a forward pass; only the last one is differentiated."""
    L_cycles: int = 2
    """Updates of z_L before each update of z_H."""
    mlp_t: bool = True
    """Mix positions by an MLP over the position axis; false for attention."""
    n_heads: int = 4
    """Attention heads; unused with mlp_t."""
    positions: Literal["none", "learned", "rope"] = "none"
    """Position encoding; rope is for attention."""
    rope_theta: float = 10_000.0
    """Base of the rotation rates."""
    expansion: float = 4.0
    """MLPs over n values have expansion * n * 2 / 3 neurons, rounded up to `multiple_of`."""
    multiple_of: int = 8
    """Neurons per MLP are a multiple of this; 256 as published."""
    puzzle_positions: int = 0
    """Positions before the tokens: one learned vector, then zeros; 16 as published."""
    halt_max_steps: int = 1
    """Passes in which the states are carried on; in training a row may halt before."""
    halt_exploration: float = 0.1
    """Share of the rows that must, in training, take a random number of passes."""
    eps: float = 1e-5
    """Added to the mean square that a normalisation divides by."""
    compile: bool = False
    """Train through torch.compile where a C++ compiler is found; rounds differently."""
    matmul_precision: Literal["highest", "medium"] = "highest"
    """Of a training step's large matrix products, as torch names it: medium rounds their factors
    to bfloat16 on processors that multiply those (as published, which has all in bfloat16)."""
    dtype: Literal["float32", "float64"] = "float32"
    """Type of the weights."""


ModelConfig = TransformerModel | PostLNModel | TRMModel
"""A run's model is one of these, chosen by its `name`."""
