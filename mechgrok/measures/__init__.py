"""Measures: `mechgrok.measures.X(arrays, ...)` is the pure function of the file X.py.

They take torch tensors or numpy arrays. Every file also has `measure(subject, **options)`, the
wrapper for a checkpoint, a pair of checkpoints, a run or a set of runs. Adding a measure is adding
a file; files that start with _ are helpers.
"""

import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch


class MeasureError(ImportError):
    """A file in this folder lacks a member that every measure must have."""


def _pure_function(name: str) -> Callable[..., Any]:
    module = importlib.import_module(f"{__name__}.{name}")
    for member in (name, "measure", "SUBJECT"):
        if member not in vars(module):
            raise MeasureError(
                f"mechgrok/measures/{name}.py has no {member!r}; a measure's file defines a pure "
                f"function {name!r}, its wrapper 'measure' and the constant 'SUBJECT'"
            )
    return _accepting_arrays(vars(module)[name])


def _accepting_arrays(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with numpy arrays (also inside mappings) taken as tensors."""

    @functools.wraps(function)
    def accepting(*args: Any, **options: Any) -> Any:
        return function(*map(_tensor, args), **{k: _tensor(v) for k, v in options.items()})

    return accepting


def _tensor(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, Mapping):
        return {key: _tensor(item) for key, item in value.items()}
    return value


__all__ = sorted(  # pyright: ignore[reportUnsupportedDunderAll]
    m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")
)
for _name in __all__:
    globals()[_name] = _pure_function(_name)
