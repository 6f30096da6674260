"""Sliced quantiles of the probes' activations at one hook point and position."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechgrok.config import ConfigError, FingerprintRecord
from mechgrok.maths.quantiles import LEVELS, directions, sliced_quantiles
from mechgrok.models.hooked import HookError
from mechgrok.training.evaluation import evaluating

NOT_OF_A_POSITION = ("hook_attn_scores", "hook_pattern")
"""Hook points whose second axis is heads."""


@dataclass(frozen=True)
class HiddenQuantiles:
    """One vector per snapshot: all levels of the first direction first; one split after another."""

    asked: FingerprintRecord
    """Hook, position, splits and number of directions."""
    seed: int
    """Of the directions."""
    tokens: Int[Tensor, "probes n_ctx"]
    """The probes, split by split."""
    directions: Float[np.ndarray, "directions d"]
    """Uniform on the unit sphere, from a generator of their own."""

    @classmethod
    def at(
        cls,
        asked: FingerprintRecord,
        seed: int,
        model: nn.Module,
        tokens: Int[Tensor, "probes n_ctx"],
    ) -> "HiddenQuantiles":
        """Read the hook once to learn its width.

        Raises ConfigError for a hook or position that does not exist, a hook that never fires or
        has no positions, and fewer than one direction.
        """
        n_ctx = tokens.shape[1]
        if not -n_ctx <= asked.position < n_ctx:
            raise ConfigError(
                f"record.fingerprint.position = {asked.position}; expected {-n_ctx} to {n_ctx - 1}"
            )
        if asked.directions < 1:
            raise ConfigError(
                f"record.fingerprint.directions = {asked.directions}; expected at least 1"
            )
        try:
            states = read(model, tokens, str(asked.hook), asked.position)
        except (HookError, ValueError) as error:
            raise ConfigError(f"record.fingerprint.hook = {asked.hook!r}: {error}") from error
        drawn = directions(asked.directions, states.shape[1], np.random.default_rng(seed))
        return cls(asked, seed, tokens, drawn)

    @property
    def size(self) -> int:
        """Length of one snapshot."""
        return len(self.asked.splits) * self.asked.directions * len(LEVELS)

    def of(self, model: nn.Module) -> Float[np.ndarray, " fingerprint"]:
        """The snapshot of a model."""
        states = read(model, self.tokens, str(self.asked.hook), self.asked.position)
        parts: Sequence[Any] = np.split(states, len(self.asked.splits))
        return np.concatenate([sliced_quantiles(part, self.directions) for part in parts])

    def description(self) -> dict[str, Any]:
        """What makes the directions again, and where they were applied."""
        return {
            "hook": self.asked.hook,
            "position": self.asked.position,
            "directions": self.asked.directions,
            "width": self.directions.shape[1],
        }


def read(
    model: Any, tokens: Int[Tensor, "probes n_ctx"], hook: str, position: int
) -> Float[np.ndarray, "probes d"]:
    """Activations at a hook and position, the axes after the position flattened.

    Raises HookError for an unknown or silent hook, ValueError for one without a position axis.
    """
    with evaluating(model), torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=hook, return_cache_object=False)
    found = cache[hook]
    if hook.endswith(NOT_OF_A_POSITION) or found.shape[:2] != tokens.shape:
        raise ValueError(
            f"it has shape {list(found.shape)}, expected [probes, position, ...]; choose another "
            f"of `mechgrok hooks`"
        )
    return rearrange(found[:, position], "probes ... -> probes (...)").cpu().numpy()
