"""A model as a graph of nodes (component, position, frequency), with an edge for every direct path.

Edges run from every earlier output to every later input of a residual model (Elhage et al. 2021;
Conmy et al. 2023, arXiv 2304.14997, section 3). Heads have three inputs. With key frequencies the
outputs, the MLP's input and the final stream are taken apart into the parts of
`maths/pair_terms.py`, and an MLP has inner edges from each part of its input to each of its output.
The constant is the same in two runs whose rows are the same pairs, so no edge carries it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from mechgrok.interventions.node import Node
from mechgrok.maths.pair_terms import NON_KEY, OTHER_KEY, sum_name

INPUT: Final = "input"
"""Token and position embedding as one."""
EMBED: Final = "embed"
POS_EMBED: Final = "pos_embed"
HEAD: Final = "head"
MLP: Final = "mlp"
"""Output of an MLP."""
MLP_IN: Final = "mlp_in"
LOGITS: Final = "logits"
"""The final stream, which the unembedding reads at the answer."""
LETTERS: Final = ("q", "k", "v")
"""Inputs of a head."""


class NotResidual(ValueError):
    """The model's components do not sum to the residual stream, so that edges have no meaning."""


@dataclass(frozen=True, order=True)
class Component:
    """An output (input, embed, pos_embed, head, mlp) or an input (q, k, v, mlp_in, logits)."""

    kind: str
    layer: int = -1
    """Block, or -1 outside the blocks."""
    head: int = -1

    @property
    def name(self) -> str:
        """Short name for tables: L0H2, L0H2.k, L0 mlp."""
        if self.kind == HEAD or self.kind in LETTERS:
            suffix = "" if self.kind == HEAD else f".{self.kind}"
            return f"L{self.layer}H{self.head}{suffix}"
        return self.kind if self.layer < 0 else f"L{self.layer} {self.kind}"


@dataclass(frozen=True, order=True)
class Place:
    """A node: a component, at one position or all (-1), whole or one frequency part ("")."""

    component: Component
    position: int = -1
    part: str = ""

    @property
    def name(self) -> str:
        """Name for tables: L0 mlp @2 [sum 14]."""
        at = "" if self.position < 0 else f" @{self.position}"
        return self.component.name + at + (f" [{self.part}]" if self.part else "")


@dataclass(frozen=True, order=True)
class Edge:
    """A direct path between two nodes: along the residual stream, or inside one MLP."""

    source: Place
    target: Place

    @property
    def name(self) -> str:
        """Name for tables."""
        return f"{self.source.name} -> {self.target.name}"

    @property
    def inner(self) -> bool:
        """Whether it runs from an MLP's input to its own output."""
        return self.source.component.kind == MLP_IN

    @property
    def kind(self) -> str:
        """What it joins, for controls of one make: head > mlp_in."""
        return f"{self.source.component.kind} > {self.target.component.kind}"


@dataclass(frozen=True)
class Graph:
    """All edges of a model, in the order of the forward pass."""

    edges: tuple[Edge, ...]
    n_layers: int
    n_heads: int
    p: int = 0
    """Modulus, or 0 where nothing is taken apart by frequency."""
    keys: tuple[int, ...] = ()
    """Frequencies that have a part of their own."""

    @property
    def places(self) -> tuple[Place, ...]:
        """Every node that an edge touches, once."""
        return tuple(dict.fromkeys(x for e in self.edges for x in (e.source, e.target)))

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts that edges carry; the constant is none."""
        return carried(self.keys) if self.p else ()


def carried(keys: Sequence[int]) -> tuple[str, ...]:
    """Parts that differ between two runs: each key's sum directions, other key terms, the rest."""
    return (*(sum_name(k) for k in keys), OTHER_KEY, NON_KEY)


def graph(
    model: Any,
    *,
    length: int | None = None,
    apart: bool = False,
    positions: bool = False,
    p: int = 0,
    keys: Sequence[int] = (),
    operands: Sequence[int] = (0, 1),
) -> Graph:
    """The graph of a pre-LN or norm-free model with TransformerLens's hook names.

        circuits.graph(model)                       # 23 edges for one layer of four heads
        circuits.graph(model, p=113, keys=(14, 35)) # by position and frequency

    `apart` takes token and position embedding as two nodes, `positions` every position as a node.
    With `p` and `keys` positions are apart too, and embeddings send from the `operands` alone: at
    other positions they are the same in every row. Raises NotResidual for a model without blocks of
    that kind, and ValueError for keys without p.
    """
    if keys and not p:
        raise ValueError("got keys without p, expected the modulus too: p=113")
    layers, attn_only = _layout(model)
    heads = int(model.cfg.n_heads)
    every = list(range(model.cfg.n_ctx if length is None else length))
    drawn = _Drawing(model, every if positions or p else [-1], carried(keys) if p else ("",))
    senders = drawn.inputs(apart, operands)
    edges: list[Edge] = []
    for layer in range(layers):
        last = layer == layers - 1
        for head in range(heads):
            for letter in LETTERS:
                at = drawn.read(last and letter == "q")
                edges += drawn.into(senders, Component(letter, layer, head), at)
        senders = [*senders, *drawn.sent([Component(HEAD, layer, h) for h in range(heads)])]
        if attn_only:
            continue
        edges += drawn.into(senders, Component(MLP_IN, layer), drawn.read(last))
        edges += drawn.inside(layer, drawn.read(last))
        senders = [*senders, *drawn.sent([Component(MLP, layer)])]
    edges += drawn.into(senders, Component(LOGITS), drawn.read(True))
    return Graph(tuple(edges), layers, heads, p, tuple(keys))


@dataclass(frozen=True)
class _Drawing:
    """What a graph's nodes are told apart by."""

    model: Any
    positions: Sequence[int]
    parts: Sequence[str]

    def read(self, answer_only: bool) -> Sequence[int]:
        """Positions of an input; in the last layer only the answer's queries and stream count."""
        return self.positions[-1:] if answer_only else self.positions

    def inputs(self, apart: bool, operands: Sequence[int]) -> list[Place]:
        """Embeddings; of one operand each, they have no part in sums of both."""
        if self.parts != ("",):
            parts = [part for part in self.parts if part in (OTHER_KEY, NON_KEY)]
            return [Place(Component(EMBED), s, part) for s in operands for part in parts]
        kinds = [EMBED, POS_EMBED] if apart else [INPUT]
        return [Place(Component(kind), s) for kind in kinds for s in self.positions]

    def sent(self, components: Sequence[Component]) -> list[Place]:
        """An output at every position and part."""
        return [
            Place(c, s, part) for c in components for s in self.positions for part in self.parts
        ]

    def into(
        self, senders: Sequence[Place], target: Component, at: Sequence[int]
    ) -> Iterator[Edge]:
        """Edges along the stream, which keeps positions and parts apart."""
        for source in senders:
            if source.position in at:
                whole = target.kind in LETTERS
                yield Edge(source, Place(target, source.position, "" if whole else source.part))

    def inside(self, layer: int, at: Sequence[int]) -> Iterator[Edge]:
        """Edges from each part of an MLP's input to each of its output."""
        if self.parts == ("",):
            return
        for s in at:
            for f in self.parts:
                for g in self.parts:
                    source = Place(Component(MLP_IN, layer), s, f)
                    yield Edge(source, replace(source, component=Component(MLP, layer), part=g))


def _layout(model: Any) -> tuple[int, bool]:
    """Number of layers, and whether there are no MLPs. Raises NotResidual for other models."""
    names = model.hook_dict
    layers = 0
    while f"blocks.{layers}.attn.hook_z" in names:
        layers += 1
    needed = [f"blocks.{i}.hook_resid_pre" for i in range(layers)] + ["hook_embed"]
    missing = [name for name in needed if name not in names]
    if not layers or missing:
        lacking = missing or ["blocks.0.attn.hook_z"]
        raise NotResidual(
            f"the model has no {lacking}; a circuit needs blocks of attention and MLP that add to "
            f"one residual stream. Nodes can be patched: mg.patch, mg.path_patch"
        )
    cfg = model.cfg
    if getattr(cfg, "parallel_attn_mlp", False):
        raise NotResidual("attention and MLP run in parallel; edges assume one after the other")
    if getattr(cfg, "n_key_value_heads", None) not in (None, cfg.n_heads):
        raise NotResidual("heads share keys and values; edges assume that each has its own")
    return layers, f"blocks.{layers - 1}.hook_mlp_out" not in names or bool(
        getattr(cfg, "attn_only", False)
    )


def address(component: Component) -> Node:
    """The hook point of an input, or the one an output is read from, as interventions name it."""
    kind, layer, head = component.kind, component.layer, component.head
    if kind in LETTERS:
        return Node(f"blocks.{layer}.hook_{kind}_input", f"{kind}_input", layer, head=head)
    if kind == HEAD:
        return Node(f"blocks.{layer}.attn.hook_z", "attn.z", layer, head=head)
    if kind in (MLP, MLP_IN):
        name = "mlp_out" if kind == MLP else "mlp_in"
        return Node(f"blocks.{layer}.hook_{name}", name, layer)
    return Node(f"hook_{kind}", kind)
