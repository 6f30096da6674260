"""Parts of a model's weights by name: closed units of its gauges, and the two named groups.

Each head computes the same with (W_Q G, W_K G^-T) and with (W_V G, G^-1 W_O), each ReLU neuron with
(c W_in column, c b_in, W_out row / c): a part of such a unit means nothing without the rest, so it
is refused. Everything else is written in the basis of the residual stream.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from torch import Tensor, nn

GROUPS: Final = ("embedding", "body", "everything")
UNITS: Final[Mapping[str, Mapping[str, int]]] = {
    "QK": {"W_Q": 0, "W_K": 0, "b_Q": 0, "b_K": 0},
    "OV": {"W_V": 0, "W_O": 0, "b_V": 0},
    "neuron": {"W_in": 1, "b_in": 0, "W_out": 0, "W_gate": 1},
}
"""The weights of each closed unit, and the axis along which heads or neurons are numbered."""
CLOSED_BY: Final[Mapping[str, str]] = {name: unit for unit in UNITS for name in UNITS[unit]}


@dataclass(frozen=True)
class Part:
    """A group, a closed unit, or a single weight in the basis of the residual stream."""

    kind: str
    """embedding (W_E, W_U, b_U), body (all else), everything, QK, OV, head (both), neuron, or a
    weight such as W_E."""
    layer: tuple[int, ...] | None = None
    """Layers; None for all."""
    heads: tuple[int, ...] | None = None
    """Of QK, OV and head; None for all."""
    neurons: tuple[int, ...] | None = None
    """Of neuron; None for all."""


Parts = str | Part | Sequence[str | Part]
"""A word, several divided by commas, or parts."""


@dataclass(frozen=True)
class Slice:
    """Some rows or columns of one weight."""

    name: str
    """Full name of the parameter."""
    axis: int = 0
    index: tuple[int, ...] | None = None
    """Entries along the axis; None for the whole weight."""

    @property
    def place(self) -> tuple[Any, ...]:
        """The index into the tensor."""
        if self.index is None:
            return (...,)
        return (*(slice(None),) * self.axis, list(self.index))


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter, and the buffers a model counts as weights by naming them in `kept`."""
    kept: Sequence[str] = getattr(model, "kept", ())
    return {**dict(model.named_parameters()), **{name: model.get_buffer(name) for name in kept}}


def slices(model: nn.Module, parts: Parts, whole: bool = False) -> tuple[Slice, ...]:
    """The weights that parts mean in a model; `whole` says that a weight's name means all of it,
    whatever its gauge (for freezing and counting).

    Raises ValueError for an unknown part (with the nearest names), an empty selection, a layer,
    head or neuron that does not exist, and a part of a head or neuron that its gauge does not close
    (with what would).
    """
    own = weights(model)
    given = parts.split(",") if isinstance(parts, str) else parts
    listed = [given] if isinstance(given, Part) else list(given)
    asked = [Part(part.strip()) if isinstance(part, str) else part for part in listed]
    if not asked or any(not part.kind for part in asked):
        raise ValueError(f"got parts {parts!r}; expected some of {_words(own)}")
    found = [one for part in asked for one in _of(own, part, whole)]
    return tuple(dict.fromkeys(found))


def names(model: nn.Module, parts: Parts) -> tuple[str, ...]:
    """Full names of the weights that parts touch; a weight's name means all of it."""
    return tuple(dict.fromkeys(one.name for one in slices(model, parts, whole=True)))


def group_of(name: str) -> str:
    """`embedding` or `body`, by a parameter's full name."""
    return "embedding" if name.startswith(("embed.", "unembed.")) else "body"


def _of(own: Mapping[str, Tensor], part: Part, whole: bool) -> list[Slice]:
    if part.kind in GROUPS:
        chosen = [n for n in own if part.kind in ("everything", group_of(n))]
    elif part.kind in (*UNITS, "head"):
        units = ("QK", "OV") if part.kind == "head" else (part.kind,)
        return [one for unit in units for one in _unit(own, unit, part)]
    else:
        chosen = [n for n in own if n == part.kind or n.rsplit(".", 1)[-1] == part.kind]
        last = part.kind.rsplit(".", 1)[-1]
        if chosen and last in CLOSED_BY and not whole:
            unit = CLOSED_BY[last]
            raise ValueError(
                f"{part.kind} alone is not closed under the gauge of its {_thing(unit)}: the same "
                f"model can be written with another one; take {_members(own, unit)} together, "
                f"Part({unit!r}, ...)"
            )
    _refuse_numbers(part)
    if not chosen:
        near = get_close_matches(part.kind, _words(own), n=3, cutoff=0.4) or _words(own)
        raise ValueError(f"unknown part {part.kind!r}; nearest: {near}")
    in_layer = [n for n in chosen if part.layer is None or _layer(n) in part.layer]
    if not in_layer:
        raise ValueError(f"{part} selects nothing; the model has layers {_layers(own)}")
    return [Slice(n) for n in in_layer]


def _unit(own: Mapping[str, Tensor], unit: str, part: Part) -> list[Slice]:
    numbers, other = part.heads, part.neurons
    if unit == "neuron":
        numbers, other = other, numbers
    if other is not None:
        raise ValueError(f"{part}: {unit} is numbered by {_thing(unit)}s alone")
    found = []
    for name, weight in own.items():
        axis = UNITS[unit].get(name.rsplit(".", 1)[-1])
        if axis is None or not (part.layer is None or _layer(name) in part.layer):
            continue
        outside = [i for i in numbers or () if not 0 <= i < weight.shape[axis]]
        if outside:
            raise ValueError(f"{name} has {weight.shape[axis]} {_thing(unit)}s, no {outside}")
        found.append(Slice(name, axis, numbers))
    if not found or numbers == ():
        raise ValueError(f"{part} selects nothing; the model has layers {_layers(own)}")
    return found


def _refuse_numbers(part: Part) -> None:
    if part.heads is not None or part.neurons is not None:
        raise ValueError(f"{part}: only QK, OV and head have heads, and only neuron has neurons")


def _members(own: Mapping[str, Tensor], unit: str) -> str:
    here = {name.rsplit(".", 1)[-1] for name in own}
    return "(" + ", ".join(name for name in UNITS[unit] if name in here) + ")"


def _thing(unit: str) -> str:
    return "neuron" if unit == "neuron" else "head"


def _layer(name: str) -> int | None:
    return next((int(part) for part in name.split(".") if part.isdigit()), None)


def _layers(own: Mapping[str, Tensor]) -> list[int]:
    return sorted({layer for name in own if (layer := _layer(name)) is not None})


def _words(own: Mapping[str, Tensor]) -> list[str]:
    free = {n.rsplit(".", 1)[-1] for n in own} - set(CLOSED_BY)
    return [*GROUPS, *UNITS, "head", *sorted(free)]
