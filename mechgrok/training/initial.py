"""The weights a new run starts from, after the model's own initialisation."""

import math

import torch
from torch import nn

from mechgrok.config import ConfigError, Perturbation, RunConfig
from mechgrok.interventions.perturbation import perturb
from mechgrok.runs.checkpoint import load_weights, read_weights
from mechgrok.training.parts import take_parts


def check_perturbation(asked: Perturbation) -> None:
    """Raise ConfigError for a perturbation of which only one of seed and scale is given."""
    if asked.seed is None and asked.scale == 0:
        return
    if asked.seed is None or asked.seed < 0 or not 0 < asked.scale < math.inf:
        raise ConfigError(
            f"perturbation.seed = {asked.seed}, perturbation.scale = {asked.scale}; expected a "
            "seed of at least 0 and a positive scale such as 1e-3, or neither of them"
        )


def initialise(model: nn.Module, config: RunConfig) -> None:
    """Weights of `init_from` or parts of a donor, then the perturbation; not for a resumed run."""
    check_perturbation(config.perturbation)
    if config.init_from is not None and config.transfer.donor is not None:
        raise ConfigError("init_from and transfer.donor are both given; expected one of them")
    if config.init_from is None and config.init_weights != "raw":
        raise ConfigError(
            f"init_weights = {config.init_weights!r} without init_from; give init_from, a run "
            f"directory or checkpoint file"
        )
    if config.init_from is not None:
        load_weights(model, read_weights(config.init_from, config.init_weights))
    take_parts(model, config)
    if config.perturbation.seed is not None:
        chance = torch.Generator().manual_seed(config.perturbation.seed)
        perturb(model, config.perturbation.scale, chance)
