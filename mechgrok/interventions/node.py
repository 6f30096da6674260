"""Addresses in a hooked model: a hook point and the part of its activation that is meant.

    nodes("head,mlp")                      every head of every layer, and every MLP output
    nodes("resid_pre", position="each")    one node per position
    nodes("mlp", position=-1, freq=keys)   one node per frequency of the MLP output at the answer

A component is the end of a hook name without `hook_`: `resid_pre`, `mlp_out`, `attn.z`, `z`, or one
of the words in ALIASES. Nothing else is known of a model than `hook_dict`, and `cfg.n_heads` where
heads are taken apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from torch import Tensor

ALIASES: Final[Mapping[str, str]] = {
    "head": "attn.z",
    "attn": "attn_out",
    "mlp": "mlp_out",
    "neuron": "mlp.post",
}
"""Short words; `head` also means one node per head."""

PER_HEAD: Final = frozenset(
    [
        *("q", "k", "v", "z", "result", "pattern", "attn_scores", "rot_q", "rot_k"),
        *("q_input", "k_input", "v_input", "attn_in"),
    ]
)
"""Hook points with a head axis, by the last word of their component."""
BY_QUERY: Final = frozenset(["pattern", "attn_scores"])
"""Of these, the ones laid out [batch, head, query, key]; a position is the query's."""
PER_NEURON: Final = frozenset(["pre", "post", "pre_linear"])
"""Hook points whose last axis is neurons."""


@dataclass(frozen=True)
class Node:
    """A hook point and a slice of its activation [batch, pos, ...]; None means all of an axis."""

    hook: str
    """Full hook name."""
    component: str
    """End of the hook name without `hook_`: mlp_out, attn.z."""
    layer: int | None = None
    """Block, or None outside the blocks."""
    cycle: tuple[int, ...] = ()
    """Iteration numbers of a recursive model, outermost first."""
    head: int | None = None
    """Head."""
    position: int | None = None
    """Token position, counted from the left."""
    neurons: tuple[int, ...] | None = None
    """A set of neurons."""
    freq: int | None = None
    """Frequency along the grid of inputs (a, b): only that part of the slice is meant."""

    @property
    def name(self) -> str:
        """Short name for tables: L0H2, L0 mlp_out @2, cycle 1.0 z_L, L0 mlp_out k=14."""
        layer = "" if self.layer is None else f"L{self.layer}"
        if self.head is not None:
            only = "" if self.component == ALIASES["head"] else f" {self.component}"
            text = f"{layer}H{self.head}{only}"
        else:
            text = f"{layer} {self.component}".strip()
        if self.cycle:
            text = f"cycle {'.'.join(map(str, self.cycle))} {text}"
        if self.neurons is not None:
            shown = ",".join(map(str, self.neurons[:3])) + (",.." if len(self.neurons) > 3 else "")
            text += f"[{shown}]"
        text += "" if self.position is None else f" @{self.position}"
        return text + ("" if self.freq is None else f" k={self.freq}")

    @property
    def by_query(self) -> bool:
        """Whether the activation is [batch, head, query, key]."""
        return _last(self.component) in BY_QUERY

    @property
    def index(self) -> tuple[Any, ...]:
        """Index of the slice into the activation."""
        every = slice(None)
        position = every if self.position is None else self.position
        head = every if self.head is None else self.head
        if self.by_query:
            return (every, head, position)
        if _last(self.component) in PER_HEAD:
            return (every, position, head)
        if self.neurons is not None:
            return (every, position, list(self.neurons))
        return (every,) if self.position is None else (every, position)

    def read(self, activation: Tensor) -> Tensor:
        """The slice [batch, ...]. Raises ValueError where the activation has no such place."""
        try:
            return activation[self.index]
        except IndexError as error:
            shape = list(activation.shape)
            raise ValueError(
                f"{self.name} does not exist: {self.hook} has shape {shape}"
            ) from error


@dataclass(frozen=True)
class Selection:
    """What `nodes` asks for, before a model is known."""

    components: tuple[str, ...]
    layer: tuple[int, ...] | None = None
    head: tuple[int, ...] | None = None
    position: tuple[int, ...] | str | None = None
    neurons: tuple[int, ...] | None = None
    cycle: tuple[int, ...] | None = None
    freq: tuple[int, ...] | None = None

    def of(self, model: Any, n_positions: int | None = None) -> tuple[Node, ...]:
        """The nodes of a model, in the order of its hook points.

        Raises ValueError for an unknown component, for a selection without any node, and for
        heads, neurons or positions that do not exist.
        """
        length = model.cfg.n_ctx if n_positions is None else n_positions
        places = [Node(name, *_parse(name)) for name in model.hook_dict]
        found = [
            node
            for word in self.components
            for place in self._places(word, places)
            for node in self._parts(word, place, model, length)
        ]
        if not found:
            raise ValueError(f"{self} selects no node; {self._hint(places)}")
        return tuple(found)

    def _places(self, word: str, places: Sequence[Node]) -> list[Node]:
        wanted = ALIASES.get(word, word)
        named = [p for p in places if wanted == p.hook or _ends(p.component, wanted)]
        if not named:
            known = sorted({p.component for p in places} | set(ALIASES))
            near = get_close_matches(word, known, n=3, cutoff=0.4) or known
            raise ValueError(f"unknown component {word!r}; nearest: {near}")
        return [
            p
            for p in named
            if (self.layer is None or p.layer in self.layer)
            and (self.cycle is None or p.cycle[: len(self.cycle)] == self.cycle)
        ]

    def _parts(self, word: str, place: Node, model: Any, length: int) -> list[Node]:
        """The place at every head, position and frequency that is asked for."""
        last = _last(place.component)
        heads: Sequence[int | None] = (None,)
        if last in PER_HEAD and (word == "head" or self.head is not None):
            n_heads = int(model.cfg.n_heads)
            heads = _within("heads", self.head or range(n_heads), n_heads)
        neurons = self.neurons if last in PER_NEURON else None
        if neurons is not None and hasattr(model.cfg, "d_mlp"):
            neurons = _within("neurons", neurons, int(model.cfg.d_mlp))
        made = []
        for head in heads:
            for position in self._positions(length):
                for freq in self.freq or (None,):
                    spot = (head, position, neurons, freq)
                    made.append(Node(place.hook, place.component, place.layer, place.cycle, *spot))
        self._check_used(place, heads, neurons)
        return made

    def _positions(self, length: int) -> Sequence[int | None]:
        if self.position is None:
            return (None,)
        if isinstance(self.position, str):
            return range(length)
        return _within("positions", self.position, length)

    def _check_used(
        self, place: Node, heads: Sequence[int | None], neurons: Sequence[int] | None
    ) -> None:
        """Refuse a set of neurons or heads that no chosen component has."""
        alone = len(self.components) == 1
        if alone and self.neurons is not None and neurons is None:
            raise ValueError(f"{place.hook} has no neurons; ask for the component 'neuron'")
        if alone and self.head is not None and None in heads:
            raise ValueError(f"{place.hook} has no heads; ask for the component 'head'")

    def _hint(self, places: Sequence[Node]) -> str:
        layers = sorted({p.layer for p in places if p.layer is not None})
        cycles = sorted({p.cycle for p in places if p.cycle})
        return f"the model has layers {layers} and cycles {cycles}"


Nodes = Selection | Sequence[Node] | Node | str
"""What every function takes: a selection, nodes, one node, or the words of a selection."""


def nodes(
    components: str | Sequence[str],
    *,
    layer: int | Sequence[int] | None = None,
    head: int | Sequence[int] | None = None,
    position: int | Sequence[int] | str | None = None,
    neurons: Sequence[int] | None = None,
    cycle: int | Sequence[int] | None = None,
    freq: int | Sequence[int] | None = None,
) -> Selection:
    """An address for any hooked model: "head,mlp", narrowed by layer, head, position and so on.

    None takes all of an axis as one node, except for `head`, which makes a node per head. Several
    heads, positions or frequencies make a node each; `position="each"` one per position, and
    negative positions count from the end. `neurons` is one set. `cycle` is the outermost iteration
    number of a recursive model, or the first few. Raises ValueError for no component.
    """
    given = components.split(",") if isinstance(components, str) else list(components)
    words = tuple(word.strip() for word in given)
    if not words or not all(words):
        raise ValueError(f"got components {components!r}, expected names like 'head,mlp'")
    if isinstance(position, str) and position != "each":
        raise ValueError(f"got position={position!r}, expected numbers, 'each' or None")
    spot = position if isinstance(position, str) else _tuple("position", position)
    return Selection(
        words,
        _tuple("layer", layer),
        _tuple("head", head),
        spot,
        _tuple("neurons", neurons),
        _tuple("cycle", cycle),
        _tuple("freq", freq),
    )


def resolve(model: Any, given: Nodes, n_positions: int | None = None) -> tuple[Node, ...]:
    """The nodes meant, by a selection, its words, or as they are. An empty list means none."""
    chosen = nodes(given) if isinstance(given, str) else given
    if isinstance(chosen, Selection):
        return chosen.of(model, n_positions)
    chosen = [chosen] if isinstance(chosen, Node) else chosen
    unknown = [node.hook for node in chosen if node.hook not in model.hook_dict]
    if unknown:
        near = get_close_matches(unknown[0], list(model.hook_dict), n=3, cutoff=0.4)
        raise ValueError(f"the model has no hook {unknown[0]!r}; nearest: {near}")
    return tuple(chosen)


def _parse(hook: str) -> tuple[str, int | None, tuple[int, ...]]:
    """Component, layer and cycle of a hook name: numbers after `blocks` count layers, those after
    `cycle` iterations."""
    words: list[str] = []
    layer, cycle, counted = None, [], ""
    for part in hook.split("."):
        if part in ("blocks", "cycle"):
            counted = part
        elif part.isdigit() and counted == "blocks":
            layer = int(part)
        elif part.isdigit() and counted == "cycle":
            cycle.append(int(part))
        else:
            words.append(part.removeprefix("hook_"))
    return ".".join(words), layer, tuple(cycle)


def _last(component: str) -> str:
    return component.rsplit(".", 1)[-1]


def _ends(component: str, word: str) -> bool:
    return component == word or component.endswith(f".{word}")


def _tuple(name: str, given: int | Sequence[int] | None) -> tuple[int, ...] | None:
    if given is None or isinstance(given, int):
        return None if given is None else (given,)
    if not len(given):
        raise ValueError(f"got an empty {name}; leave it out to take all")
    return tuple(given)


def _within(name: str, given: Sequence[int], size: int) -> tuple[int, ...]:
    outside = [x for x in given if not -size <= x < size]
    if outside:
        raise ValueError(f"got {name} {outside}, but the model has {size}")
    return tuple(x % size for x in given)
