"""Measures: `mechgrok.measures.X(arrays, ...)` is the pure function of the file X.py.

Every file also has `measure(subject, **options) -> Result`, the wrapper for a checkpoint, a pair of
checkpoints or a run. Adding a measure is adding a file; files that start with _ are helpers.
"""

import importlib
import pkgutil


class MeasureError(ImportError):
    """A file in this folder lacks a member that every measure must have."""


def _pure_function(name: str) -> object:
    module = importlib.import_module(f"{__name__}.{name}")
    for member in (name, "measure", "SUBJECT"):
        if member not in vars(module):
            raise MeasureError(
                f"mechgrok/measures/{name}.py has no {member!r}; a measure's file defines a pure "
                f"function {name!r}, its wrapper 'measure' and the constant 'SUBJECT'"
            )
    return vars(module)[name]


__all__ = sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))
for _name in __all__:
    globals()[_name] = _pure_function(_name)
