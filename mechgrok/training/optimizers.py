"""Optimisers and their schedules."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from mechgrok.config import AdamW, ConfigError


def make(
    parameters: Iterable[Tensor], config: AdamW, noise: torch.Generator | None = None
) -> torch.optim.Optimizer:
    """The optimiser of a config over the trained parameters; its noise is drawn from `noise`.

    Raises ConfigError for an unknown name, settings outside their range, and noise without a
    generator.
    """
    _check(config)
    trained = list(parameters)
    if config.update == "atan2":
        return AdamAtan2(trained, config)
    if config.weight_decay_form != "to_zero" or config.noise_factor > 0:
        return PowerAdam(trained, config, noise)
    return torch.optim.AdamW(
        trained,
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,
    )


class AdamAtan2(torch.optim.Optimizer):
    """Adam whose step is a * atan2(m, b * sqrt(v)), the same at every scale of the loss.

    Everett et al. (2024, arXiv 2407.05872) with a = 1.27 and b = 1; the decay comes first, to 0.
    """

    def __init__(self, trained: list[Tensor], config: AdamW) -> None:
        super().__init__(trained, {"lr": config.lr})
        self.config = config

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update; a closure is refused."""
        if closure is not None:
            raise ValueError("this optimiser takes no closure")
        beta1, beta2 = self.config.betas
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["step"] = torch.tensor(0.0)
                    state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
                state["step"] += 1
                step, m, v = int(state["step"]), state["exp_avg"], state["exp_avg_sq"]
                m.lerp_(p.grad, 1 - beta1)
                v.mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
                root = (v / (1 - beta2**step)).sqrt_()
                p.mul_(1 - group["lr"] * self.config.weight_decay)
                p.sub_(torch.atan2(m / (1 - beta1**step), root), alpha=group["lr"] * ATAN2_SCALE)


ATAN2_SCALE = 1.27
"""a: as large a step as Adam's where the moments agree (4 / pi)."""


class PowerAdam(torch.optim.Adam):
    """Adam with the other weight decays and the update noise of Power et al. (2022, openai/grok).

    The decay comes before the moments are updated; every form but `honest` leaves them alone.
    """

    def __init__(self, trained: list[Tensor], config: AdamW, noise: torch.Generator | None) -> None:
        """Raises ConfigError for settings that draw noise, without a generator."""
        if noise is None and (config.noise_factor > 0 or config.weight_decay_form == "jiggle"):
            raise ConfigError("jiggle and noise_factor draw noise: pass a generator as `noise`")
        super().__init__(trained, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)
        self.config, self.noise = config, noise

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update; a closure, which would compute the gradient after the decay, is refused."""
        if closure is not None:
            raise ValueError("this optimiser takes no closure")
        rates = {p: group["lr"] for group in self.param_groups for p in group["params"]}
        moved = {p: rate for p, rate in rates.items() if p.grad is not None}
        first = {p: p.clone() for p in moved if not self.state[p]}
        for p, rate in moved.items():
            self._decay(p, rate, first.get(p))
        super().step()
        for p, rate in moved.items():
            if self.config.weight_decay_form == "to_init" and p in first:
                self.state[p]["origin"] = first[p]
            if self.config.noise_factor > 0:
                p.sub_(rate * self.config.noise_factor * self._draw(p))

    def _decay(self, p: Tensor, rate: float, first: Tensor | None) -> None:
        """Decay one tensor; `first` is given before its first step."""
        strength = rate * self.config.weight_decay
        match self.config.weight_decay_form:
            case "to_zero":
                p.mul_(1 - strength)
            case "to_init":
                p.lerp_(self.state[p]["origin"] if first is None else first, strength)
            case "jiggle":
                p.mul_((strength * self._draw(p.new_empty(()))).exp())
            case "honest" if p.grad is not None:
                p.grad = p.grad.add(p, alpha=self.config.weight_decay)

    def _draw(self, like: Tensor) -> Tensor:
        return torch.empty_like(like).normal_(generator=self.noise)


FLOOR = 0.1
"""Share of the learning rate that annealing ends at (openai/grok)."""


def learning_rate(config: AdamW, step: int) -> float:
    """Rate of update `step` (from 0): lr * min(step / warmup_steps, 1), then annealed if asked."""
    if step < config.warmup_steps:
        return config.lr * (step / config.warmup_steps)
    if config.anneal_steps is None:
        return config.lr
    done = min((step - config.warmup_steps) / config.anneal_steps, 1.0)
    return config.lr * (FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * done)) / 2)


def _check(config: AdamW) -> None:
    if config.name != "adamw":
        raise ConfigError(f"optim.name = {config.name!r}; expected adamw")
    limits = {
        "lr": config.lr >= 0,
        "weight_decay": config.weight_decay >= 0,
        "noise_factor": 0 <= config.noise_factor < math.inf,
        "warmup_steps": config.warmup_steps >= 0,
        "anneal_steps": config.anneal_steps is None or config.anneal_steps >= 1,
        "batch_size": config.batch_size is None or config.batch_size >= 1,
        "batch_share": config.batch_share is None or 0 < config.batch_share <= 1,
        "clip_norm": config.clip_norm is None or config.clip_norm > 0,
        "ema": config.ema is None or 0 <= config.ema < 1,
    }
    other = config.weight_decay_form != "to_zero" or config.noise_factor > 0
    if config.update == "atan2" and other:
        raise ConfigError(
            "optim.update = 'atan2' has weight decay to_zero and no noise; set "
            "optim.weight_decay_form to_zero and optim.noise_factor 0"
        )
    for name, fine in limits.items():
        if not fine:
            raise ConfigError(f"optim.{name} = {getattr(config, name)}; out of range")
