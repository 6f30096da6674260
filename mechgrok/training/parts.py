"""Parts of a donor's weights in a new run's model, and which parts are trained."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mechgrok.config import ConfigError, RunConfig, Transfer
from mechgrok.interventions.null_donors import MADE, without_neurons
from mechgrok.interventions.weight_parts import names, weights
from mechgrok.runs import layout
from mechgrok.runs.checkpoint import build_model, read_weights
from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError, tensor_digest


def take_parts(model: nn.Module, config: RunConfig) -> None:
    """Put the donor's parts into a freshly initialised model; not for a run that is resumed.

    Raises ConfigError for parts that do not exist or do not fit, and for a donor that began with
    this run's own initial weights, which the fresh parts would share; RunError for a donor that is
    not there.
    """
    asked = config.transfer
    if asked.donor is None:
        return
    wanted = _names(model, "parts", asked.parts)
    _refuse_own_start(model, config, wanted)
    given, own = donor_weights(asked), weights(model)
    wrong = [n for n in wanted if n not in given or given[n].shape != own[n].shape]
    if wrong:
        there = list(given[wrong[0]].shape) if wrong[0] in given else "absent"
        raise ConfigError(
            f"transfer.parts = {list(asked.parts)} do not fit: {wrong[0]} is "
            f"{list(own[wrong[0]].shape)} here and {there} in {asked.donor}; take parts that fit"
        )
    with torch.no_grad():
        for name in wanted:
            own[name].copy_(given[name])


def freeze(model: nn.Module, asked: Transfer) -> None:
    """Train the parts in `train` alone; a frozen weight has no gradient, decay or moments.

    Raises ConfigError for parts that do not exist, and when nothing would be trained.
    """
    if asked.train == Transfer().train:
        return  # all of it, also where no weight has the name of an embedding
    trained = set(_names(model, "train", asked.train))
    for name, weight in weights(model).items():
        if name not in trained:
            weight.requires_grad_(False)
    if not any(w.requires_grad for w in weights(model).values()):
        raise ConfigError(f"transfer.train = {list(asked.train)} leaves nothing to train")


def facts(config: RunConfig, model: nn.Module) -> dict[str, Any]:
    """What provenance.json says of a transfer; empty for a run that takes and freezes nothing."""
    asked = config.transfer
    if asked == Transfer():
        return {}
    frozen = [name for name, weight in weights(model).items() if not weight.requires_grad]
    found: dict[str, Any] = {"frozen": frozen}
    if asked.donor is not None:
        digest = tensor_digest(donor_weights(asked))
        found |= {"donor_step": donor_step(asked), "donor_weights": digest}
        found["taken"] = list(_names(model, "parts", asked.parts))
    return {"transfer": found}


def donor_weights(asked: Transfer) -> dict[str, Tensor]:
    """The donor's weights after the asked change, without the removed neurons."""
    if asked.donor is None:
        raise ConfigError("transfer.donor is not given; expected a run directory or a file")
    if asked.change == "random_init":
        found = _initialised(Path(asked.donor), asked.seed)
    else:
        found = read_weights(_file(asked))
    if asked.change in MADE:
        found = MADE[asked.change](found, torch.Generator().manual_seed(asked.seed))
    return without_neurons(found, asked.without_neurons) if asked.without_neurons else found


def donor_step(asked: Transfer) -> int | None:
    """The checkpoint that is read; None for a file."""
    path = Path(asked.donor or "")
    if not path.is_dir():
        return None
    steps = layout.steps(path, "checkpoints")
    if not steps:
        raise RunError(f"the donor {path} has no checkpoint")
    if asked.step is not None and asked.step not in steps:
        near = sorted(steps, key=lambda s: abs(s - int(asked.step or 0)))[:3]
        raise RunError(f"the donor {path} has no checkpoint {asked.step}; nearest: {sorted(near)}")
    return steps[-1] if asked.step is None else asked.step


def _file(asked: Transfer) -> Path:
    path = Path(asked.donor or "")
    if not path.exists():
        raise RunError(f"transfer.donor = {asked.donor!r} is neither a run directory nor a file")
    step = donor_step(asked)
    return path if step is None else layout.checkpoint(path, step)


def _initialised(path: Path, seed: int) -> dict[str, Tensor]:
    """Weights of the donor's own model, drawn anew."""
    run = Run(path)
    config = replace(run.config, seeds=replace(run.config.seeds, init=seed))
    return {n: w.detach() for n, w in weights(build_model(config, run.task)).items()}


def _refuse_own_start(model: nn.Module, config: RunConfig, wanted: tuple[str, ...]) -> None:
    path = Path(config.transfer.donor or "")
    if not (path / "config.yaml").exists() or len(wanted) == len(weights(model)):
        return
    donor = Run(path).config
    if (donor.model, donor.seeds.init) == (config.model, config.seeds.init):
        raise ConfigError(
            f"seeds.init = {config.seeds.init} is the donor's own: what is not taken would start "
            f"from the donor's initial weights, in its basis; give another seeds.init"
        )


def _names(model: nn.Module, field: str, parts: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return names(model, parts)
    except ValueError as error:
        raise ConfigError(f"transfer.{field}: {error}") from error
