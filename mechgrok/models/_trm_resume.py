"""The rest of a Tiny Recursive Model's forward pass, from a state that was changed.

What was computed before that state is the same as in the run it is taken from, so a patch of a late
state costs little.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from mechgrok.models.trm import HookedTRM


def needed(model: HookedTRM) -> list[str]:
    """Hook names of what `resume` reads of the run."""
    states = [name for name in model.hook_dict if name.endswith(("hook_z_H", "hook_z_L"))]
    return ["hook_input", *states]


def resume(
    model: HookedTRM,
    hook: str,
    state: Float[Tensor, "batch length d_model"],
    run: Any,
) -> Float[Tensor, "batch pos d_vocab_out"]:
    """Logits of a run whose state at `hook` (`cycle.{h}.{l}.hook_z_L`, `cycle.{h}.hook_z_H`, or the
    initial `hook_z_H`) is set to `state`, puzzle positions included; in eval mode.

    `run` is the cache of the run, at least of the names `needed`.
    """
    x, L_cycles = run["hook_input"], model.cfg.L_cycles
    path = [int(word) for word in hook.split(".") if word.isdigit()]
    cycle = path[0] if path else 0
    z_H = run["hook_z_H" if cycle == 0 else f"cycle.{cycle - 1}.hook_z_H"]
    z_L = run["hook_z_L"]
    if len(path) == 2:
        z_L, step = state, path[1] + 1
    else:
        z_H, step = state, 0
        cycle = path[0] + 1 if path else 0
    if cycle > 0 and step == 0:
        z_L = run[f"cycle.{cycle - 1}.{L_cycles - 1}.hook_z_L"]
    for h in range(cycle, model.cfg.cycles):
        points: Any = model.cycle[h]
        for i in range(step, L_cycles):
            z_L = model._network(z_L, z_H + x, points.get_submodule(str(i)))
        z_H, step = model._network(z_H, z_L, points), 0
    return model.unembed(z_H[:, model.cfg.puzzle_positions :])
