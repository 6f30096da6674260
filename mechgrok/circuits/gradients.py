"""First-order scores of every edge: EAP and EAP-IG, and attribution patching of every node.

EAP (Syed et al. 2023, arXiv 2310.10348): (corrupted - clean output of the source) . gradient of the
metric at the target's input on the clean run. EAP-IG (Hanna et al. 2024, arXiv 2403.17806): that
gradient averaged over embeddings between corrupted and clean; here at midpoints of equal steps.
Inside an MLP the gradient is that of one part of its output. Scores of a saturated metric vanish,
and are warned about (SaturatedMetric).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from mechgrok.circuits.contrast import Contrast, some_rows
from mechgrok.circuits.graph import LETTERS, LOGITS, MLP, MLP_IN, Component, Edge, Place
from mechgrok.circuits.parts import project
from mechgrok.circuits.streams import CHUNK, Stream
from mechgrok.interventions.node import Node
from mechgrok.interventions.paths import flags_on


def eap(contrast: Contrast) -> Float[Tensor, " edges"]:
    """EAP score of every edge, in units of the metric: the predicted change by corrupting it."""
    return _scores(contrast, [1.0])


def eap_ig(contrast: Contrast, steps: int = 8) -> Float[Tensor, " edges"]:
    """EAP-IG score of every edge; those of the input edges sum to corrupted minus clean metric, up
    to the error of `steps` midpoints. Raises ValueError for no step."""
    if steps < 1:
        raise ValueError(f"got {steps} steps, expected at least 1")
    return _scores(contrast, [(i + 0.5) / steps for i in range(steps)])


def by_source(edges: Sequence[Edge], scores: Float[Tensor, " edges"]) -> dict[Place, float]:
    """Attribution patching: a node's score is the sum over the edges that leave it, because the
    gradient at its output is the sum of those at the inputs that read it."""
    found: dict[Place, float] = {}
    for edge, score in zip(edges, scores.tolist(), strict=True):
        found[edge.source] = found.get(edge.source, 0.0) + score
    return found


def _scores(contrast: Contrast, shares: Sequence[float]) -> Float[Tensor, " edges"]:
    """Scores with gradients averaged over embeddings that are clean by these shares."""
    work = _Work(contrast)
    edges = contrast.graph.edges
    total = torch.zeros(len(edges), dtype=torch.float64, device=contrast.tokens.device)
    for share in tqdm(shares, desc="gradients", unit="pass", disable=None, leave=False):
        total += work.at(share) / len(shares)
    return total


class _Work:
    """What each edge carries, and the gradients it meets."""

    def __init__(self, contrast: Contrast) -> None:
        self.contrast, self.graph = contrast, contrast.graph
        self.cuts, self.blocks = contrast.noising, contrast.model.blocks
        self.carried = {
            p: self._carried(p) for p in dict.fromkeys(e.source for e in self.graph.edges)
        }
        self.inner = [e for e in self.graph.edges if e.inner]

    def _carried(self, place: Place) -> Stream:
        """Corrupted minus clean, of one node."""
        c = place.component
        if c.kind == MLP_IN:
            x = self.cuts.other.mid[c.layer] - self.cuts.base.mid[c.layer]
        else:
            x = self.cuts.gap(c)
        x = _slice(x, place.position, x.shape[1])
        if not place.part:
            return x
        return project(x, self.graph.p, self.graph.keys, [place.part])

    def at(self, share: float) -> Float[Tensor, " edges"]:
        """Scores with the gradients at one embedding."""
        scores: dict[Edge, Tensor] = {}
        kept: dict[int, list[tuple[Tensor, Tensor]]] = {}
        n = len(self.contrast.tokens)
        for start in range(0, n, CHUNK):
            rows = slice(start, min(start + CHUNK, n))
            inputs, gradients = self._gradients(rows, share)
            for edge in self.graph.edges:
                if not edge.inner:
                    score = self._along(edge, rows, gradients)
                    scores[edge] = scores.get(edge, 0.0) + score
            for layer in {e.target.component.layer for e in self.inner}:
                pair = (inputs[layer], gradients[Component(MLP, layer)])
                kept.setdefault(layer, []).append(pair)
        for layer, found in kept.items():
            stream, gradient = (torch.cat([pair[i] for pair in found]) for i in (0, 1))
            scores |= self._inside(layer, stream, gradient)
        return torch.stack([scores[edge] for edge in self.graph.edges]).double()

    def _along(self, edge: Edge, rows: slice, gradients: Mapping[Component, Tensor]) -> Tensor:
        carried = self.carried[edge.source][rows]
        gradient = _slice(gradients[edge.target.component], edge.source.position, carried.shape[1])
        return (carried * gradient).sum()

    def _inside(self, layer: int, stream: Tensor, gradient: Tensor) -> dict[Edge, Tensor]:
        """Scores of an MLP's inner edges: each part of its output pulls the gradient back alone."""
        edges = [e for e in self.inner if e.target.component.layer == layer]
        found: dict[Edge, Tensor] = {}
        for place in dict.fromkeys(e.target for e in edges):
            own = _slice(gradient, place.position, 1)
            wanted = project(own, self.graph.p, self.graph.keys, [place.part])
            pulled = self._pulled(layer, _slice(stream, place.position, 1), wanted)
            for edge in edges:
                if edge.target == place:
                    found[edge] = (self.carried[edge.source] * pulled).sum()
        return found

    def _pulled(self, layer: int, stream: Tensor, wanted: Tensor) -> Tensor:
        """The gradient `wanted` at an MLP's output, at its input."""
        block, found = self.blocks[layer], []
        for x, y in zip(stream.split(CHUNK), wanted.split(CHUNK), strict=True):
            x = x.detach().requires_grad_()
            found.append(torch.autograd.grad(block.mlp(block.ln2(x)), x, grad_outputs=y)[0])
        return torch.cat(found)

    def _gradients(
        self, rows: slice, share: float
    ) -> tuple[dict[int, Tensor], dict[Component, Tensor]]:
        """Streams entering the MLPs, and the metric's gradient at every input and MLP output."""
        contrast, model = self.contrast, self.contrast.model
        embed = Component("embed")
        start = self.cuts.base.outputs[embed][rows] + (1 - share) * self.cuts.gap(embed)[rows]
        seen: dict[str, Tensor] = {}

        def begin(activation: Tensor, hook: Any) -> Tensor:
            return start.detach().requires_grad_()

        def keep(name: str) -> Callable[..., None]:
            def hooked(activation: Tensor, hook: Any) -> None:
                seen[name] = activation

            return hooked

        names = [name for layer in range(self.graph.n_layers) for name in self._hooks(layer)]
        names.append(f"blocks.{self.graph.n_layers - 1}.hook_resid_post")
        needed = [Node("", "q_input"), Node("", "mlp_in")]
        hooks = [("hook_embed", begin), *((name, keep(name)) for name in names)]
        metric = some_rows(contrast.metric, rows)
        with torch.enable_grad(), flags_on(model, needed), model.hooks(fwd_hooks=hooks):
            logits = model(contrast.tokens[rows])
            value = metric(logits) * (logits.shape[0] / len(contrast.tokens))
            found = torch.autograd.grad(value, [seen[name] for name in names])
        gradients = dict(zip(names, found, strict=True))
        streams = {
            layer: seen[f"blocks.{layer}.hook_mlp_in"].detach()
            for layer in range(self.graph.n_layers)
            if f"blocks.{layer}.hook_mlp_in" in seen
        }
        return streams, self._by_component(gradients)

    def _hooks(self, layer: int) -> list[str]:
        found = [f"blocks.{layer}.hook_{x}_input" for x in LETTERS]
        if self.cuts.modules.has_mlp:
            found += [f"blocks.{layer}.hook_{x}" for x in ("mlp_in", "mlp_out")]
        return found

    def _by_component(self, gradients: Mapping[str, Tensor]) -> dict[Component, Tensor]:
        last = self.graph.n_layers - 1
        found = {Component(LOGITS): gradients[f"blocks.{last}.hook_resid_post"]}
        for layer in range(self.graph.n_layers):
            for letter in LETTERS:
                own = gradients[f"blocks.{layer}.hook_{letter}_input"]
                found |= {
                    Component(letter, layer, h): own[:, :, h] for h in range(self.graph.n_heads)
                }
            if self.cuts.modules.has_mlp:
                found[Component(MLP_IN, layer)] = gradients[f"blocks.{layer}.hook_mlp_in"]
                found[Component(MLP, layer)] = gradients[f"blocks.{layer}.hook_mlp_out"]
        return found


def _slice(x: Tensor, position: int, length: int) -> Tensor:
    """x at a position; at the answer where only that is wanted; otherwise all of it."""
    if x.shape[1] == 1 or (position < 0 and x.shape[1] == length):
        return x
    return x[:, -1:] if position < 0 else x[:, position : position + 1]
