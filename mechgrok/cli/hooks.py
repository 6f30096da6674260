"""`mechgrok hooks`."""

from pathlib import Path
from typing import Any


def command(run: str = "nanda2023_mainline", /) -> None:
    """List every hook point of a model with its shape and meaning.

    Args:
        run: A run directory, or a preset's name.
    """
    from mechgrok.models.hooked import hook_table

    for name, shape, meaning in hook_table(*_model_and_rows(run)):
        print(f"{name:<34} {shape:<34} {meaning}")


def _model_and_rows(name: str) -> tuple[Any, Any]:
    from mechgrok import discovery
    from mechgrok.presets import NAMES, preset
    from mechgrok.runs.checkpoint import build_model
    from mechgrok.runs.run import Run

    if name in NAMES and not Path(name).exists():
        config = preset(name)
        task = discovery.load("tasks", config.task.name).make(config.task, config.seeds)
        return build_model(config, task), task.tokens[:2]
    checkpoint = Run(name)[-1]
    return checkpoint.model, checkpoint.task.tokens[:2]
