"""What every component adds to the residual stream of a batch, and the modules that read it.

Only the answer position is kept where only it reaches the answer: in the last layer, after
attention. Outputs of heads are z W_O; biases stay in the recorded streams.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechgrok.circuits.graph import (
    EMBED,
    HEAD,
    INPUT,
    LETTERS,
    MLP,
    POS_EMBED,
    Component,
    Graph,
    NotResidual,
)
from mechgrok.interventions.node import Node
from mechgrok.interventions.paths import flags_on

CHUNK: Final = 2048
"""Rows per call of a module; bounds memory, changes no number."""
TOLERANCE: Final = 1e-4
"""Parts sum to the stream when they miss it by less than this share of its largest value."""
ANSWER: Final = slice(-1, None)

Stream = Float[Tensor, "rows _ d_model"]


@dataclass(frozen=True, eq=False)
class Streams:
    """Outputs and streams of one run."""

    outputs: Mapping[Component, Stream]
    """By component: embeddings, heads, MLPs."""
    pre: Sequence[Stream]
    """Stream entering each block."""
    mid: Sequence[Stream]
    """Stream entering each MLP; empty without MLPs."""
    end: Stream
    """Final stream, at the answer."""

    def take(self, rows: Int[Tensor, " rows"]) -> "Streams":
        """The same of other rows."""
        outputs = {name: x[rows] for name, x in self.outputs.items()}
        mid = [x[rows] for x in self.mid]
        return Streams(outputs, [x[rows] for x in self.pre], mid, self.end[rows])


class Modules:
    """The parts of a model that read the stream, row by row, in chunks."""

    def __init__(self, model: Any, graph: Graph) -> None:
        self.model, self.layers = model, graph.n_layers
        self.sources = {e.source.component for e in graph.edges}
        self.has_mlp = any(e.target.component.kind == "mlp_in" for e in graph.edges)

    def streams(self, tokens: Int[Tensor, "rows pos"]) -> Streams:
        """Everything of a run. Raises NotResidual unless the parts sum to the streams."""
        chunks = [self._record(part) for part in tokens.split(CHUNK)]
        first = chunks[0]
        return Streams(
            {c: torch.cat([x.outputs[c] for x in chunks]) for c in first.outputs},
            [torch.cat([x.pre[i] for x in chunks]) for i in range(len(first.pre))],
            [torch.cat([x.mid[i] for x in chunks]) for i in range(len(first.mid))],
            torch.cat([x.end for x in chunks]),
        )

    def _record(self, tokens: Int[Tensor, "rows pos"]) -> Streams:
        names = ["hook_embed", f"blocks.{self.layers - 1}.hook_resid_post"]
        names += ["hook_pos_embed"] if "hook_pos_embed" in self.model.hook_dict else []
        for i in range(self.layers):
            names += [f"blocks.{i}.hook_resid_pre", f"blocks.{i}.attn.hook_z"]
            names += [f"blocks.{i}.hook_{x}" for x in ("resid_mid", "mlp_out") if self.has_mlp]
        with torch.no_grad():
            _, seen = self.model.run_with_cache(tokens, names_filter=names)
        embed, end = seen["hook_embed"], seen[f"blocks.{self.layers - 1}.hook_resid_post"]
        place = seen["hook_pos_embed"] if "hook_pos_embed" in seen.keys() else 0 * embed  # noqa: SIM118
        place = place.expand_as(embed)
        stream = embed + place
        both = {Component(POS_EMBED): place, Component(INPUT): stream}
        # gradients start at the embedding; of the others only what an edge leaves is kept
        outputs = {Component(EMBED): embed} | {c: x for c, x in both.items() if c in self.sources}
        pre, mid = [], []
        for i in range(self.layers):
            kept = ANSWER if i == self.layers - 1 else slice(None)
            pre.append(self._summed(stream, seen[f"blocks.{i}.hook_resid_pre"], i))
            heads = self._results(i, seen[f"blocks.{i}.attn.hook_z"][:, kept])
            outputs |= {Component(HEAD, i, h): heads[:, :, h] for h in range(heads.shape[2])}
            stream = pre[-1][:, kept] + heads.sum(dim=2) + self.model.blocks[i].attn.b_O.detach()
            if self.has_mlp:
                mid.append(self._summed(stream, seen[f"blocks.{i}.hook_resid_mid"][:, kept], i))
                outputs[Component(MLP, i)] = seen[f"blocks.{i}.hook_mlp_out"][:, kept]
                stream = stream + outputs[Component(MLP, i)]
        return Streams(outputs, pre, mid, self._summed(stream, end[:, ANSWER], self.layers - 1))

    def _summed(self, found: Stream, stream: Stream, layer: int) -> Stream:
        """The stream itself, if the parts found sum to it."""
        off, size = float((found - stream).abs().max()), float(stream.abs().max())
        if off > TOLERANCE * size:
            raise NotResidual(
                f"at layer {layer} the components miss the residual stream by {off:.3g} of "
                f"{size:.3g}: the model normalises after adding (post-LN), so edges have no "
                f"meaning; mg.path_patch follows paths in it"
            )
        return stream

    def _results(self, layer: int, z: Float[Tensor, "rows pos head d"]) -> Tensor:
        W_O = self.model.blocks[layer].attn.W_O
        return torch.einsum("rphe,hed->rphd", z, W_O.detach())

    def heads(
        self, layer: int, pre: Stream, change: Mapping[tuple[int, str], Stream]
    ) -> Float[Tensor, "rows pos head d_model"]:
        """Outputs of all heads with some of their inputs moved by `change` (head, letter)."""
        block, found = self.model.blocks[layer], []
        kept = ANSWER if layer == self.layers - 1 else slice(None)

        def keep(z: Tensor, hook: Any) -> None:
            found.append(self._results(layer, z[:, kept]))

        name = f"blocks.{layer}.attn.hook_z"
        with torch.no_grad(), self._split(), self.model.hooks(fwd_hooks=[(name, keep)]):
            for start in range(0, len(pre), CHUNK):
                rows = slice(start, start + CHUNK)
                inputs = [block.ln1(self._input(pre, change, x, rows)) for x in LETTERS]
                block.attn(*inputs)
        return torch.cat(found)

    def _split(self) -> Any:
        """Heads with inputs of their own."""
        return flags_on(self.model, [Node("", "q_input")])

    def _input(
        self, pre: Stream, change: Mapping[tuple[int, str], Stream], letter: str, rows: slice
    ) -> Float[Tensor, "chunk pos head d_model"]:
        n_heads = int(self.model.cfg.n_heads)
        stacked = pre[rows][:, :, None].repeat(1, 1, n_heads, 1)
        for (head, changed), x in change.items():
            if changed == letter:
                stacked[:, :, head] += x[rows]
        return stacked

    def mlp(self, layer: int, mid: Stream) -> Stream:
        """Output of an MLP on a stream."""
        block = self.model.blocks[layer]
        return self._by_chunks(lambda x: block.mlp(block.ln2(x)), mid)

    def logits(self, end: Stream) -> Float[Tensor, "rows classes"]:
        """Logits of a final stream at the answer."""
        norm = getattr(self.model, "ln_final", lambda x: x)
        return self._by_chunks(lambda x: self.model.unembed(norm(x)), end)[:, -1]

    def _by_chunks(self, module: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([module(part) for part in x.split(CHUNK)])
