"""Reading and changing configs strictly: an unknown field or a wrong type is an error.

One code path serves YAML files, `--set a.b=c` and Python: dicts in, frozen dataclasses out.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from difflib import get_close_matches
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from mechgrok.config import ConfigError, RunConfig

C = TypeVar("C")

UNIONS = (UnionType, get_origin(Literal["a"] | None))
"""`X | Y` has one of two origins, depending on X."""


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain dicts, lists and scalars, ready for YAML or JSON."""
    return json.loads(json.dumps(asdict(config)))


def from_dict(kind: type[C], data: Any, path: str = "") -> C:
    """Build a config strictly: an unknown field or a wrong type is a ConfigError."""
    if not isinstance(data, Mapping):
        where = path.rstrip(".") or "the config"
        raise ConfigError(f"{where} is {data!r}; expected the fields of {kind.__name__}")
    hints = get_type_hints(kind)
    for name in data:
        if name not in hints:
            raise ConfigError(unknown(path + str(name), [path + h for h in hints]))
    values = {n: _coerce(hints[n], v, path + n) for n, v in data.items()}
    return kind(**values)


def override(config: C, changes: Mapping[str, Any]) -> C:
    """A config with dotted fields replaced, e.g. `{"optim.weight_decay": 0.3}`.

    A `name` that belongs to another class of settings (`{"task.name": "equation"}`) starts that
    part anew from the class's defaults; the other changes are then made to it.
    """
    data = to_dict(_with_named_parts(config, changes))
    for name, value in changes.items():
        *parents, last = name.split(".")
        node = data
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if not isinstance(node, dict) or last not in node:
            raise ConfigError(unknown(name, list(dotted(config))))
        if isinstance(node[last], dict):
            raise ConfigError(f"{name} is a group of settings; set one of {list(node[last])}")
        node[last] = value
    return from_dict(type(config), data)


def _with_named_parts(config: C, changes: Mapping[str, Any]) -> C:
    """`config` with every part replaced whose new name belongs to another class."""
    parts: dict[str, Any] = {}
    for part, hint in get_type_hints(type(config)).items():
        name = changes.get(f"{part}.name")
        chosen = _named(_members(hint), name)
        if chosen is not None and type(getattr(config, part)) is not chosen:
            parts[part] = chosen(name=name)
    return replace(config, **parts) if parts else config  # pyright: ignore[reportArgumentType]


def differences(old: RunConfig, new: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Dotted fields in which two configs differ, with both values."""
    left, right = dotted(old), dotted(new)
    names = sorted({*left, *right})
    return {n: (left.get(n), right.get(n)) for n in names if left.get(n) != right.get(n)}


def dotted(config: Any) -> dict[str, Any]:
    """Every setting by its dotted name."""
    return dict(_leaves(to_dict(config), ""))


def _leaves(data: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield path + name, value


def unknown(name: str, known: list[str]) -> str:
    """The message for a setting that does not exist."""
    near = get_close_matches(name, known, n=3) or known
    return f"unknown option {name!r}; did you mean one of {near}?"


def _coerce(hint: Any, value: Any, path: str) -> Any:
    if is_dataclass(hint) and isinstance(hint, type):
        return from_dict(hint, value, path + ".")
    if get_origin(hint) is tuple and isinstance(value, list | tuple):
        return _coerce_tuple(get_args(hint), value, path)
    if get_origin(hint) in UNIONS:
        return _coerce_union(get_args(hint), value, path)
    if get_origin(hint) is Literal and value in get_args(hint):
        return value
    if hint is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        return _number(value, path)  # YAML reads 1e-3 as a string
    if isinstance(hint, type) and isinstance(value, hint) and type(value) is hint:
        return value
    raise ConfigError(f"{path} = {value!r}; expected {_spell(hint)}")


def _coerce_tuple(hints: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if hints[-1] is Ellipsis:
        hints = (hints[0],) * len(value)
    if len(hints) != len(value):
        raise ConfigError(f"{path} = {value!r}; expected {len(hints)} values")
    return tuple(_coerce(h, v, path) for h, v in zip(hints, value, strict=True))


def _coerce_union(hints: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None and type(None) in hints:
        return None
    if kinds := _members(hints):
        return _coerce(_kind_of(kinds, value, path), value, path)
    for hint in hints:
        try:
            return _coerce(hint, value, path)
        except ConfigError:
            continue
    raise ConfigError(f"{path} = {value!r}; expected {' or '.join(map(_spell, hints))}")


def _members(hint: Any) -> tuple[type[Any], ...]:
    """The classes of a union of configs, or of its members; () for anything else."""
    hints = hint if isinstance(hint, tuple) else get_args(hint)
    return tuple(h for h in hints if is_dataclass(h) and isinstance(h, type))


def _named(kinds: tuple[type[Any], ...], name: Any) -> type[Any] | None:
    """The class of settings whose own name this is."""
    return next((kind for kind in kinds if kind().name == name), None)


def _kind_of(kinds: tuple[type[Any], ...], value: Any, path: str) -> type[Any]:
    """The class a part's `name` asks for; a dotted path takes the class whose fields it has."""
    names = [kind().name for kind in kinds]
    if not isinstance(value, Mapping):
        raise ConfigError(f"{path} is {value!r}; expected settings with a name, one of {names}")
    name = value.get("name", names[0])
    if chosen := _named(kinds, name):
        return chosen
    if not isinstance(name, str) or "." not in name:
        raise ConfigError(f"{path}.name = {name!r}; expected one of {names}, or a dotted path")
    fitting = [kind for kind in kinds if set(value) <= {f.name for f in fields(kind)}]
    if not fitting:
        raise ConfigError(f"the fields of {path} = {dict(value)!r} are those of none of {names}")
    return fitting[0]


def _number(value: float | str, path: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ConfigError(f"{path} = {value!r}; expected a number") from None


def _spell(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return f"one of {list(get_args(hint))}"
    return getattr(hint, "__name__", str(hint)) if hint is not type(None) else "null"
