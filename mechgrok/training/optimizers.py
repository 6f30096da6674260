"""Optimisers and their schedules."""

from collections.abc import Iterable

import torch
from torch import nn

from mechgrok.config import AdamW, ConfigError


def make(parameters: Iterable[nn.Parameter], config: AdamW) -> torch.optim.Optimizer:
    """The optimiser of a config over the trained parameters.

    Raises ConfigError for an unknown name or settings outside their range.
    """
    _check(config)
    return torch.optim.AdamW(
        list(parameters),
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,
    )


def learning_rate(config: AdamW, step: int) -> float:
    """Rate of the update number `step` (from 0): lr * min(step / warmup_steps, 1)."""
    if config.warmup_steps == 0:
        return config.lr
    return config.lr * min(step / config.warmup_steps, 1.0)


def _check(config: AdamW) -> None:
    if config.name != "adamw":
        raise ConfigError(f"optim.name = {config.name!r}; expected adamw")
    limits = {
        "lr": config.lr >= 0,
        "weight_decay": config.weight_decay >= 0,
        "warmup_steps": config.warmup_steps >= 0,
        "batch_size": config.batch_size is None or config.batch_size >= 1,
        "ema": config.ema is None or 0 <= config.ema < 1,
    }
    for name, fine in limits.items():
        if not fine:
            raise ConfigError(f"optim.{name} = {getattr(config, name)}; out of range")
