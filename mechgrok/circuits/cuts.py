"""The logits of a run in which some edges carry what they carry in another run.

Everything downstream of a cut edge runs on as it would: with one edge cut this is a path patch,
with all edges but a circuit's it is the circuit alone. Edges that are not cut carry what their
source gives in this run.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechgrok.circuits.graph import (
    HEAD,
    LETTERS,
    LOGITS,
    MLP,
    MLP_IN,
    Component,
    Edge,
    Graph,
)
from mechgrok.circuits.parts import at_position, project
from mechgrok.circuits.streams import ANSWER, Modules, Stream, Streams

Changes = dict[Component, Stream]
"""By output: what it is now minus what it is in the run itself."""


class Cuts:
    """One run (base) with another one's values (other) for whatever is cut."""

    def __init__(self, modules: Modules, graph: Graph, base: Streams, other: Streams) -> None:
        self.modules, self.graph, self.base, self.other = modules, graph, base, other
        self._heads_kept: tuple[Any, Tensor] | None = None
        self._inputs_kept: dict[Any, Stream] = {}
        self._mlps_kept: dict[Any, Stream] = {}

    def logits(self, cut: Collection[Edge]) -> Float[Tensor, "rows classes"]:
        """Logits at the answer with these edges cut."""
        by_target: dict[Component, list[Edge]] = {}
        inner: dict[int, list[Edge]] = {}
        for edge in cut:
            if edge.inner:
                inner.setdefault(edge.target.component.layer, []).append(edge)
            else:
                by_target.setdefault(edge.target.component, []).append(edge)
        now: Changes = {}
        for layer in range(self.graph.n_layers):
            now |= self._attention(layer, now, by_target)
            if self.modules.has_mlp:
                now |= self._mlp(layer, now, by_target, inner.get(layer, []))
        end = self._moved(Component(LOGITS), now, by_target)
        return self.modules.logits(self.base.end if end is None else self.base.end + end)

    def gap(self, component: Component) -> Stream:
        """What an output is in the other run minus what it is in this one."""
        return self.other.outputs[component] - self.base.outputs[component]

    def _moved(
        self, target: Component, now: Changes, cut: Mapping[Component, Sequence[Edge]]
    ) -> Stream | None:
        """How far an input is moved; None for not at all."""
        found = None
        for x in now.values():
            found = _plus(found, self._fit(x, target))
        edges = sorted(cut.get(target, []))
        for (source, position), some in groupby(
            edges, key=lambda e: (e.source.component, e.source.position)
        ):
            names = [e.source.part for e in some]
            if source.layer < 0 and target.kind in LETTERS:
                found = _plus(found, self._of_input(source, position, names))
                continue
            apart = self.gap(source)
            apart = apart - now[source] if source in now else apart
            found = _plus(found, self._part(self._fit(apart, target), position, names))
        return found

    def _of_input(self, source: Component, position: int, names: Sequence[str]) -> Stream:
        """What a cut embedding moves a head's input by: embeddings are the same whatever is cut, so
        that all heads share it."""
        key = (source, position, tuple(names))
        if key not in self._inputs_kept:
            self._inputs_kept[key] = self._part(self.gap(source), position, names)
        return self._inputs_kept[key]

    def _fit(self, x: Stream, target: Component) -> Stream:
        """x at the positions an input has."""
        last = target.layer == self.graph.n_layers - 1
        return x[:, ANSWER] if target.kind == LOGITS or (target.kind == MLP_IN and last) else x

    def _part(self, x: Stream, position: int, names: Sequence[str]) -> Stream:
        x = at_position(x, position)
        return x if names == [""] else project(x, self.graph.p, self.graph.keys, names)

    def _attention(
        self, layer: int, now: Changes, cut: Mapping[Component, Sequence[Edge]]
    ) -> Changes:
        """Changes of the heads that read something else than in the run itself."""
        inputs = {
            (head, letter): Component(letter, layer, head)
            for head in range(self.graph.n_heads)
            for letter in LETTERS
        }
        if not now:
            targets = [place for place, target in inputs.items() if target in cut]
            if not targets:
                return {}
            if len(targets) == 1:
                [(head, letter)] = targets
                moved = self._one_input(layer, letter, cut[inputs[head, letter]])
                return {Component(HEAD, layer, head): moved[:, :, head]}
        change = {at: self._moved(target, now, cut) for at, target in inputs.items()}
        moved = {at: x for at, x in change.items() if x is not None}
        found = self.modules.heads(layer, self.base.pre[layer], moved)
        changed = {Component(HEAD, layer, head): found[:, :, head] for head, _ in moved}
        return {c: x - self.base.outputs[c] for c, x in changed.items()}

    def _one_input(self, layer: int, letter: str, edges: Sequence[Edge]) -> Tensor:
        """Changes of every head if it alone had this cut: heads do not read each other, so one pass
        serves the same cut of all of them."""
        key = (layer, letter, tuple(sorted(e.source for e in edges)))
        if self._heads_kept is None or self._heads_kept[0] != key:
            target = Component(letter, layer, 0)
            x = self._moved(target, {}, {target: edges})
            assert x is not None
            change = {(head, letter): x for head in range(self.graph.n_heads)}
            found = self.modules.heads(layer, self.base.pre[layer], change)
            own = [self.base.outputs[Component(HEAD, layer, h)] for h in range(found.shape[2])]
            self._heads_kept = (key, found - torch.stack(own, dim=2))
        return self._heads_kept[1]

    def _mlp(
        self,
        layer: int,
        now: Changes,
        cut: Mapping[Component, Sequence[Edge]],
        inner: Sequence[Edge],
    ) -> Changes:
        """Change of an MLP; with inner edges cut, each part of the output has its own input."""
        moved = self._moved(Component(MLP_IN, layer), now, cut)
        if moved is None and not inner:
            return {}
        output, stream = Component(MLP, layer), self.base.mid[layer]
        own = self.base.outputs[output]
        change = torch.zeros_like(own)
        if moved is not None:
            stream = stream + moved
            change = self.modules.mlp(layer, stream) - own
        total = change
        apart = self.other.mid[layer] - stream
        for (position, sources), parts in _by_input(inner).items():
            key = None if moved is not None else (layer, position, sources)
            found = self._mlps_kept.get(key) if key else None
            if found is None:
                x = stream + self._part(apart, position, sources)
                found = self.modules.mlp(layer, x) - own
                if key and len(sources) == 1:
                    self._mlps_kept[key] = found
            total = total + self._part(found - change, position, parts)
        return {output: total}


def _by_input(inner: Sequence[Edge]) -> dict[tuple[int, tuple[str, ...]], list[str]]:
    """(position, parts of the input that are cut) -> the parts of the output that see this."""
    sources: dict[tuple[int, str], list[str]] = {}
    for edge in sorted(inner):
        place = (edge.target.position, edge.target.part)
        sources.setdefault(place, []).append(edge.source.part)
    found: dict[tuple[int, tuple[str, ...]], list[str]] = {}
    for (position, part), cut in sources.items():
        found.setdefault((position, tuple(cut)), []).append(part)
    return found


def _plus(x: Stream | None, y: Stream) -> Stream:
    return y if x is None else x + y
