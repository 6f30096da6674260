"""The one dynamic import: a task, model, measure, figure or command by file name or dotted path.

`load("measures", "gini")` imports `mechgrok/measures/gini.py`; `load("measures", "lab.my_measure")`
imports another package's module. A module without the member its kind names is an error.
"""

import importlib
import pkgutil
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from mechgrok.config import ConfigError

MEMBERS = {
    "tasks": "Task",
    "models": "build",
    "runs": "Checkpoint",
    "measures": "measure",
    "plots": "plot",
    "cli": "command",
}
"""The named member a file of each kind must have."""


def load(kind: str, name: str) -> Any:
    """The named member of a task, model, measure or figure.

    Raises ConfigError for an unknown kind or name (with the nearest names) and for a module without
    the member.
    """
    found = module(kind, name)
    member = MEMBERS[kind]
    if not hasattr(found, member):
        raise ConfigError(f"{found.__name__} has no {member!r}; a file of {kind} must define it")
    return getattr(found, member)


def module(kind: str, name: str) -> ModuleType:
    """The module behind a name; errors as `load`."""
    if kind not in MEMBERS:
        raise ConfigError(f"unknown kind {kind!r}; expected one of {sorted(MEMBERS)}")
    known = names(kind)
    if "." not in name and name not in known:
        near = get_close_matches(name, known, n=3) or known
        raise ConfigError(f"unknown name {name!r} in {kind}; did you mean one of {near}?")
    path = name if "." in name else f"mechgrok.{kind}.{name}"
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not path.startswith(error.name):
            raise  # a dependency of the module is missing, not the module
        raise ConfigError(f"no module {path!r} for {kind}; give its dotted import path") from error


def names(kind: str) -> list[str]:
    """File names of a kind inside this package that have the kind's member."""
    package = importlib.import_module(f"mechgrok.{kind}")
    public = [m.name for m in pkgutil.iter_modules(package.__path__) if m.name[0] != "_"]
    return sorted(set(public) - _HELPERS.get(kind, set()))


_HELPERS = {
    "models": {
        *("fixed_rows", "hooked", "published", "shared_prefix"),
        *("prefix_plan", "prefix_rows", "pre_ln_prefix", "post_ln_prefix", "trm_fast"),
    },
    "runs": {
        *("analysis", "checksums", "fingerprints", "layout", "lineage", "published_fingerprints"),
        *("result", "row_file", "run", "runs", "saved_circuit", "series", "series_set"),
        *("snapshots", "storage", "table", "times", "training_spectrum"),
    },
}
"""Files of a kind's folder that are not named things themselves."""
