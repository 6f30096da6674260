"""The rows that are looked at again and again, chosen once and without any global generator."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from mechgrok.config import ConfigError


@dataclass(frozen=True)
class Probes:
    """Rows of a task, split by split."""

    rows: Int[Tensor, " probes"]
    """Rows of the task."""
    splits: tuple[str, ...]
    """Split of each."""
    places: Int[np.ndarray, " probes"]
    """Where each stands in its split: what the published code calls probe indices."""


def choose(task: Any, splits: tuple[str, ...], count: int, seed: int) -> Probes:
    """`count` rows of every split, sorted by their place in it.

    Each split is drawn from `RandomState(seed)` anew, as arXiv 2605.08237's code draws from the
    training rows, so a split's probes do not depend on what else is recorded.

    Raises ConfigError for an unknown, repeated or missing split and for more rows than there are.
    """
    known = sorted(task.splits)
    if not splits or len(set(splits)) < len(splits) or set(splits) - set(known):
        raise ConfigError(
            f"record.fingerprint.splits = {list(splits)}; expected some of {known}, each once"
        )
    smallest = min(len(task.splits[name]) for name in splits)
    if not 0 < count <= smallest:
        raise ConfigError(
            f"record.fingerprint.probes = {count}; expected 1 to {smallest}, the rows of the "
            f"smallest of the splits {list(splits)}"
        )
    places = [_places(len(task.splits[name]), count, seed) for name in splits]
    rows = [task.splits[n][torch.from_numpy(p)] for n, p in zip(splits, places, strict=True)]
    names = tuple(name for name in splits for _ in range(count))
    return Probes(torch.cat(rows), names, np.concatenate(places))


def _places(rows: int, count: int, seed: int) -> Int[np.ndarray, " count"]:
    drawn = np.random.RandomState(seed).choice(rows, count, replace=False)
    return np.sort(drawn).astype(np.int64)
