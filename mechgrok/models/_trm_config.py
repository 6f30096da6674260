"""Sizes of a HookedTRM, and what is refused before it is built."""

import math
from dataclasses import dataclass
from typing import Any, Final

import torch

from mechgrok.config import ConfigError

POSITIONS: Final = ("none", "learned", "rope")
PRECISIONS: Final = ("highest", "medium")


@dataclass(kw_only=True)
class HookedTRMConfig:
    """Everything that defines a HookedTRM; names are TransformerLens's where it has one."""

    d_vocab: int
    """Number of input tokens."""
    n_ctx: int
    """Tokens per row; with `mlp_t` every row has exactly so many."""
    d_vocab_out: int = -1
    """Number of output classes; -1 for d_vocab."""
    d_model: int = 128
    """Width of the states."""
    n_layers: int = 2
    """Blocks of the one network (L_layers of the original)."""
    H_cycles: int = 2
    """Updates of z_H in a pass; only the last one is differentiated."""
    L_cycles: int = 2
    """Updates of z_L before each update of z_H."""
    mlp_t: bool = True
    """Positions are mixed by an MLP over the position axis; False for attention."""
    n_heads: int = 4
    """Attention heads; unused with mlp_t."""
    positions: str = "none"
    """Position encoding: none, learned or rope."""
    rope_theta: float = 10_000.0
    """Base of the rotation rates."""
    expansion: float = 4.0
    """An MLP over n values has expansion * n * 2 / 3 neurons, rounded up to `multiple_of`."""
    multiple_of: int = 8
    """256 in the original."""
    puzzle_positions: int = 0
    """Positions before the tokens: one learned vector, then zeros; 16 in the original."""
    halt_max_steps: int = 1
    """Passes, in which the states are carried on."""
    halt_exploration: float = 0.1
    """Share of the rows that must, in training, take a random number of passes."""
    eps: float = 1e-5
    """Added to the mean square that a normalisation divides by."""
    compile: bool = False
    """Train through torch.compile where that works."""
    matmul_precision: str = "highest"
    """Of a training step's matrix products: highest, or medium for factors in bfloat16."""
    seed: int = 0
    """Of the initial weights; no global generator is touched."""
    dtype: torch.dtype = torch.float32
    """Type of the weights."""
    device: Any = "cpu"
    """Where the weights are; "meta" for a model that is only counted."""
    attn_only: bool = False
    """As TransformerLens has it; always False."""
    normalization_type: str = "RMS after addition"
    """As TransformerLens has it; no name of TransformerLens's."""
    parallel_attn_mlp: bool = False
    """As TransformerLens has it; always False."""

    def __post_init__(self) -> None:
        """Raises ConfigError for sizes that no model can have."""
        if self.d_vocab_out == -1:
            self.d_vocab_out = self.d_vocab
        sizes = ("d_vocab", "n_ctx", "d_vocab_out", "d_model", "n_layers", "n_heads", "multiple_of")
        for name in (*sizes, "H_cycles", "L_cycles", "halt_max_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"model.{name} = {getattr(self, name)}; expected at least 1")
        self._check_ranges()
        if self.positions not in POSITIONS:
            raise ConfigError(f"model.positions = {self.positions!r}; expected one of {POSITIONS}")
        if not self.mlp_t and self.d_model % self.n_heads:
            raise ConfigError(
                f"model.d_model = {self.d_model} is not a multiple of model.n_heads = "
                f"{self.n_heads}; the heads share it"
            )
        if self.positions == "rope" and self.mlp_t:
            raise ConfigError(
                "model.positions = 'rope' rotates queries and keys, and model.mlp_t has none; "
                "set model.mlp_t false, or another position encoding"
            )
        if self.matmul_precision not in PRECISIONS:
            raise ConfigError(
                f"model.matmul_precision = {self.matmul_precision!r}; expected one of {PRECISIONS}"
            )
        if self.compile and not self.mlp_t:
            raise ConfigError("model.compile is for model.mlp_t; set it false for attention")
        if self.positions == "rope" and self.d_head % 2:
            raise ConfigError(f"rope turns pairs of values; a head has {self.d_head} of them")
        if torch.device(self.device).type == "mps":
            raise ConfigError("device = 'mps' gives silently wrong results; use cpu or cuda")

    def _check_ranges(self) -> None:
        limits = {
            "expansion": 0 < self.expansion < math.inf,
            "puzzle_positions": self.puzzle_positions >= 0,
            "halt_exploration": 0 <= self.halt_exploration <= 1,
            "eps": 0 < self.eps < math.inf,
            "rope_theta": 0 < self.rope_theta < math.inf,
        }
        for name, fine in limits.items():
            if not fine:
                raise ConfigError(f"model.{name} = {getattr(self, name)}; out of range")

    @property
    def length(self) -> int:
        """Positions of a state: those of the puzzle, then the tokens."""
        return self.puzzle_positions + self.n_ctx

    @property
    def d_head(self) -> int:
        """Width of a head."""
        return self.d_model // self.n_heads

    @property
    def d_mlp(self) -> int:
        """Neurons of the MLP over channels."""
        return self._neurons(self.d_model)

    @property
    def d_mix(self) -> int:
        """Neurons of the MLP over positions."""
        return self._neurons(self.length)

    @property
    def cycles(self) -> int:
        """Cycles of a forward pass of the model, all its passes together."""
        return self.halt_max_steps * self.H_cycles

    def _neurons(self, n: int) -> int:
        wanted = round(self.expansion * n * 2 / 3)
        return -(-wanted // self.multiple_of) * self.multiple_of
