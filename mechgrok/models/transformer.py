"""A HookedTransformer for small tasks, with named initialisations and no silent defaults.

Departs from TransformerLens 3.9 only where it fails silently: nothing global is reseeded, the
device is never guessed, biases are frozen by name, and hooks are checked (`models/hooked.py`).
"""

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformer_lens import HookedTransformer, HookedTransformerConfig

from mechgrok.config import ConfigError, TransformerModel
from mechgrok.models.hooked import StrictHooks


class Transformer(StrictHooks, HookedTransformer):
    """A HookedTransformer whose hooks and tokens are checked."""

    def forward(self, input: Any, *args: Any, **kwargs: Any) -> Any:
        """TransformerLens's forward; token ids or rows that do not fit raise ValueError."""
        if isinstance(input, Tensor) and not input.is_floating_point():
            check_tokens(self.cfg, input)
        return super().forward(input, *args, **kwargs)


def build(
    config: TransformerModel,
    *,
    d_vocab: int,
    n_ctx: int,
    d_vocab_out: int,
    seed: int,
    device: str = "cpu",
) -> Transformer:
    """A freshly initialised model; no global generator is touched.

    Raises ConfigError for an unknown initialisation or activation, for sizes below 1, and for the
    mps device, whose results are known to be wrong.
    """
    _check(config, device)
    cfg = HookedTransformerConfig(
        n_layers=config.passes * config.n_layers,
        d_model=config.d_model,
        n_heads=config.n_heads,
        d_head=config.d_head,
        d_mlp=config.d_mlp,
        act_fn=config.act_fn,
        normalization_type=config.normalization,
        n_ctx=n_ctx,
        d_vocab=d_vocab,
        d_vocab_out=d_vocab_out,
        init_weights=False,
        seed=None,  # a seed here would reseed torch, numpy and random globally
        device=device,
        dtype=getattr(torch, config.dtype),
    )
    model = make(cfg)
    share_blocks(model, config.n_layers)
    _initialise(model, config, torch.Generator().manual_seed(seed))
    freeze_biases(model, config.trained_biases)
    return model


def make(cfg: HookedTransformerConfig) -> Transformer:
    """An uninitialised model of a TransformerLens config, without its deprecation warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="transformer_lens")
        warnings.filterwarnings("ignore", message=".*HookedTransformer.*")
        return Transformer(cfg)


def share_blocks(model: Transformer, n_layers: int) -> None:
    """Give later blocks the very parameters of the first `n_layers`, pass after pass.

    The same blocks then run again with hook points of their own, and every parameter has one name.
    """
    for i, block in enumerate(list(model.blocks)[n_layers:]):
        first = model.blocks[i % n_layers]
        for name, parameter in first.named_parameters():
            owner, _, last = name.rpartition(".")
            setattr(block.get_submodule(owner), last, parameter)


def fill(model: Transformer, weights: Mapping[str, Tensor]) -> None:
    """Copy weights of the right names and shapes into every parameter; others are left aside."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])


def n_parameters(model: nn.Module) -> int:
    """Number of trained parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def check_tokens(cfg: Any, tokens: Tensor) -> None:
    """Raise ValueError for rows longer than the config's n_ctx or ids outside its vocabulary."""
    if tokens.numel() == 0:
        raise ValueError(f"tokens are empty: shape {list(tokens.shape)}")
    if tokens.shape[-1] > cfg.n_ctx:
        raise ValueError(
            f"rows have {tokens.shape[-1]} tokens; the model reads at most {cfg.n_ctx}"
        )
    low, high = (int(end) for end in torch.aminmax(tokens))
    if low < 0 or high >= cfg.d_vocab:
        raise ValueError(f"token ids reach from {low} to {high}; expected 0..{cfg.d_vocab - 1}")


def _nanda2023(name: str, cfg: HookedTransformerConfig, n_layers: int) -> float:
    """Standard deviation 1/sqrt(d_model), but 1/sqrt(d_vocab) for W_U (released code)."""
    return 1 / math.sqrt(cfg.d_vocab if name == "unembed.W_U" else cfg.d_model)


def _tl3(name: str, cfg: HookedTransformerConfig, n_layers: int) -> float:
    """TransformerLens 3's `gpt2` initialisation: 0.8/sqrt(d_model) for every weight."""
    return 0.8 / math.sqrt(cfg.d_model)


def _gpt2(name: str, cfg: HookedTransformerConfig, n_layers: int) -> float:
    """0.02, over sqrt(2 * blocks with weights of their own) for what is added to the stream."""
    return 0.02 / math.sqrt(2 * n_layers if name.endswith(("W_O", "W_out")) else 1)


INITS: Final[Mapping[str, Callable[[str, HookedTransformerConfig, int], float]]] = {
    "nanda2023": _nanda2023,
    "tl3": _tl3,
    "gpt2": _gpt2,
}
"""Named initialisations: the standard deviation of each weight matrix; biases start at 0."""


def _initialise(model: Transformer, config: TransformerModel, chance: torch.Generator) -> None:
    std = INITS[config.init]
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if ".W_" in name:
                draws = torch.randn(parameter.shape, generator=chance, dtype=torch.float32)
                parameter.copy_(draws * std(name, model.cfg, config.n_layers))


def freeze_biases(model: Transformer, trained: str) -> None:
    """Train only the biases of a named set: none, mlp or all."""
    for name, parameter in model.named_parameters():
        last = name.rsplit(".", 1)[-1]
        if last.startswith("b_"):
            parameter.requires_grad_(trained == "all" or (trained == "mlp" and ".mlp." in name))


def _check(config: TransformerModel, device: str) -> None:
    if config.init not in INITS:
        raise ConfigError(f"model.init = {config.init!r}; expected one of {list(INITS)}")
    for name in ("n_layers", "passes", "d_model", "n_heads", "d_head", "d_mlp"):
        if getattr(config, name) < 1:
            raise ConfigError(f"model.{name} = {getattr(config, name)}; expected at least 1")
    if config.act_fn not in SUPPORTED:
        raise ConfigError(f"model.act_fn = {config.act_fn!r}; expected one of {SUPPORTED}")
    if torch.device(device).type == "mps":
        raise ConfigError("device = 'mps' gives silently wrong results; use cpu or cuda")


SUPPORTED: Final = ("relu", "gelu", "gelu_new", "silu")
"""Activation functions that build without further settings."""
