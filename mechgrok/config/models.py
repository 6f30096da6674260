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


ModelConfig = TransformerModel | PostLNModel
"""A run's model is one of these, chosen by its `name`."""
