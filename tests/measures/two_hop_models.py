"""Two-hop models written by hand, whose every state and use of the bridge is known.

Their states are those of a Tiny Recursive Model with one cycle: z_L holds the bridge at the
position of r1, z_H the whole answer. They differ in the basis of the bridge and in whether the
answer is read from it.
"""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from measures.stand_in import StandIn
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from mechgrok.config import CompositionTask, Seeds
from mechgrok.measures._two_hop import Facts, facts
from mechgrok.models.hooked import StrictHooks
from mechgrok.tasks.composition import Task

SMALL = CompositionTask(
    entities=14, relations=7, out_degree=5, ood_share=0.2, iid_share=0.05, phi=3.0
)


@dataclass(frozen=True)
class Kind:
    """What a hand-written model does with the bridge."""

    holds: bool = True
    """z_L has the bridge at r1."""
    rotated: bool = False
    """In a random basis, which the unembedding does not read."""
    uses: bool = True
    """The answer is read from that state; otherwise from the tokens."""


KINDS = {
    "sequential": Kind(),
    "rotated": Kind(rotated=True),
    "unused": Kind(uses=False),
    "blind": Kind(holds=False, uses=False),
}


class ByHand(StrictHooks):
    """Knows every fact of a task in the layout trm, or other facts, and answers all queries."""

    def __init__(self, task: Task, kind: Kind, known: Facts | None = None) -> None:
        super().__init__()
        size = task.d_vocab
        self.cfg: Any = SimpleNamespace(d_model=size, n_ctx=task.n_ctx, d_vocab=size, n_heads=1)
        self.kind, self.facts = kind, facts(task) if known is None else known
        self.end = task.vocabulary.index("</a>")
        self.unembed = nn.Linear(size, size, bias=False)
        chance = torch.Generator().manual_seed(0)
        basis = torch.linalg.qr(torch.randn(size, size, generator=chance))[0]
        self.register_buffer("basis", basis if kind.rotated else torch.eye(size))
        nn.init.eye_(self.unembed.weight)
        self.hook_z_H = HookPoint()
        self.cycle = nn.ModuleList([nn.ModuleDict({"0": nn.ModuleDict({"hook_z_L": HookPoint()})})])
        self.cycle[0]["hook_z_H"] = HookPoint()
        self.setup()

    def forward(self, tokens: Tensor) -> Tensor:
        """Ten times the one-hot answers."""
        zeros = torch.zeros(*tokens.shape, self.cfg.d_model)
        self.hook_z_H(zeros)
        bridge = self._tail(tokens[:, 0], tokens[:, 1])
        z_L = zeros.clone()
        if self.kind.holds:
            z_L[:, 1] = self._one_hot(bridge) @ self.basis.T
        cycle: Any = self.cycle[0]
        z_L = cycle["0"]["hook_z_L"](z_L)
        read = z_L[:, 1] @ self.basis
        held = torch.where(read.amax(dim=1) > 0.5, read.argmax(dim=1), 0)
        target = self._tail(held if self.kind.uses else bridge, tokens[:, 2])
        return self.unembed(10 * cycle["hook_z_H"](self._written(tokens, bridge, target)))

    def _written(self, tokens: Tensor, bridge: Tensor, target: Tensor) -> Tensor:
        """One-hot states of the rows h r1 r2 t </a>, and h r1 t </a> of atomic queries."""
        end, two = torch.full_like(target, self.end), tokens[:, 2] != 0
        of_two = [*tokens[:, :3].T, target, end]
        of_one = [*tokens[:, :2].T, bridge, end, end]
        columns = [torch.where(two, x, y) for x, y in zip(of_two, of_one, strict=True)]
        return self._one_hot(torch.stack(columns, dim=1))

    def _tail(self, head: Tensor, relation: Tensor) -> Tensor:
        """Token of the tail; 0 (padding) without a head, relation or fact."""
        h, r = head - self.facts.entity, relation - self.facts.relation
        there = (h >= 0) & (r >= 0)
        tail = self.facts.table[h.clamp(min=0), r.clamp(min=0)]
        return torch.where(there & (tail >= 0), tail + self.facts.entity, 0)

    def _one_hot(self, token: Tensor) -> Tensor:
        """Nothing for padding."""
        vectors = nn.functional.one_hot(token, self.cfg.d_model).float()
        return vectors * (token != 0)[..., None]


def task(**changes: Any) -> Task:
    """A small two-hop task."""
    return Task.make(CompositionTask(**{**vars(SMALL), **changes}), Seeds())


def by_hand(kind: str, of: Task | None = None) -> StandIn:
    """A hand-written model as a checkpoint."""
    of = task() if of is None else of
    return StandIn(task=of, model=ByHand(of, KINDS[kind]).eval())
