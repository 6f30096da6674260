"""openai/grok's post-LN decoder, its S_5 equations and its training loop in plain torch.

By the original's parameter names, with no hook and no code of the package: written from the
description of the model, for the package to be compared with.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def forward(weights: Mapping[str, Tensor], tokens: Tensor, act_fn: str = "relu") -> Tensor:
    """Logits at every position; one row and head at a time where that is plainest."""
    x = weights["embedding.weight"][tokens]
    x = x + positions(tokens.shape[1], x.shape[-1]).to(x.dtype)
    layer = 0
    while f"decoder.blocks.{layer}.self_attn.Wo.weight" in weights:
        own = f"decoder.blocks.{layer}."
        w = {n.removeprefix(own): t for n, t in weights.items() if n.startswith(own)}
        x = norm(x + attention(w, x), w, "self_attn_norm")
        hidden = x @ w["ffn.ffn.0.weight"].T
        if act_fn == "relu":
            hidden = hidden.clamp(min=0)
        else:  # the exact Gaussian error linear unit
            hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
        x = norm(x + hidden @ w["ffn.ffn.2.weight"].T, w, "ffn_norm")
        layer += 1
    return x @ weights["linear.weight"].T


def attention(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    heads = [n for n in w if n.startswith("self_attn.attn_heads") and n.endswith("Wq.weight")]
    mixed = []
    for head in range(len(heads)):
        own = f"self_attn.attn_heads.{head}."
        q, k, v = (x @ w[f"{own}{name}.weight"].T for name in ("Wq", "Wk", "Wv"))
        of_query = []
        for query in range(x.shape[1]):
            seen = slice(query + 1)  # itself and what came before
            scores = (q[:, [query]] * k[:, seen]).sum(-1) / math.sqrt(q.shape[-1])
            shares = scores.exp() / scores.exp().sum(1, keepdim=True)
            of_query.append((shares[:, :, None] * v[:, seen]).sum(1))
        mixed.append(torch.stack(of_query, dim=1))
    return torch.cat(mixed, dim=-1) @ w["self_attn.Wo.weight"].T


def norm(x: Tensor, w: Mapping[str, Tensor], name: str) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scale = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return centred / scale * w[f"{name}.weight"] + w[f"{name}.bias"]


def positions(n: int, width: int) -> Tensor:
    def entry(pos: int, i: int) -> float:
        if i % 2 == 0:
            return math.sin(pos / 10_000 ** (i / width))
        return math.cos(pos / 10_000 ** ((i - 1) / width))

    rows = [[entry(pos, i) for i in range(width)] for pos in range(n)]
    return torch.tensor(rows, dtype=torch.float64)


def their_names(model: Any) -> dict[str, Tensor]:
    """A post-LN model's weights under the original's names, as new leaves."""
    w = {name: p.detach() for name, p in model.named_parameters()}
    found = {"embedding.weight": w["embed.W_E"], "linear.weight": w["unembed.W_U"].T}
    for layer in range(model.cfg.n_layers):
        block, own = f"decoder.blocks.{layer}.", f"blocks.{layer}."
        for head in range(model.cfg.n_heads):
            for ours, theirs in (("W_Q", "Wq"), ("W_K", "Wk"), ("W_V", "Wv")):
                name = f"{block}self_attn.attn_heads.{head}.{theirs}.weight"
                found[name] = w[f"{own}attn.{ours}"][head].T
        found[f"{block}self_attn.Wo.weight"] = w[f"{own}attn.W_O"].flatten(0, 1).T
        found[f"{block}ffn.ffn.0.weight"] = w[f"{own}mlp.W_in"].T
        found[f"{block}ffn.ffn.2.weight"] = w[f"{own}mlp.W_out"].T
        for ours, theirs in (("ln1", "self_attn_norm"), ("ln2", "ffn_norm")):
            found[f"{block}{theirs}.weight"] = w[f"{own}{ours}.w"]
            found[f"{block}{theirs}.bias"] = w[f"{own}{ours}.b"]
    return {name: tensor.clone() for name, tensor in found.items()}


EOS, EQUALS, S5, FIRST = 0, 1, 13, 119
"""Token ids: the closing and opening token, "=", the operation, and 01234."""


def s5_equations() -> list[list[int]]:
    """`<|eos|> a s5 b = c <|eos|>` for all pairs, shuffled as published: c is first a, then b."""
    elements = list(itertools.permutations(range(5)))
    number = {element: FIRST + k for k, element in enumerate(elements)}
    rows = [
        [EOS, number[a], S5, number[b], EQUALS, number[tuple(b[i] for i in a)], EOS]
        for a in elements
        for b in elements
    ]
    np.random.RandomState(0).shuffle(rows)
    return rows


@dataclass(frozen=True)
class Settings:
    """The published optimiser."""

    lr: float = 1e-3
    weight_decay: float = 1.0
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    warmup_steps: int = 10
    batch_size: int = 512

    def rate(self, step: int) -> float:
        """Linear warm-up from 0: the first update has rate 0."""
        return self.lr * min(step / self.warmup_steps, 1)


def train(
    weights: Mapping[str, Tensor],
    steps: int,
    look_every: int,
    seed: int,
    settings: Settings | None = None,
) -> Iterator[dict[str, float]]:
    """Losses on all training and validation rows every `look_every` updates, from step 0 on.

    `weights` change in place; `seed` orders the minibatches.
    """
    settings = settings or Settings()
    rows = torch.tensor(s5_equations())
    known, held_out = rows.split([round(len(rows) * 0.5), len(rows) - round(len(rows) * 0.5)])
    chance = torch.Generator().manual_seed(seed)
    first = {name: torch.zeros_like(w) for name, w in weights.items()}
    second = {name: torch.zeros_like(w) for name, w in weights.items()}
    waiting: list[Tensor] = []
    for step in range(steps + 1):
        if step % look_every == 0:
            losses = (mean_loss(weights, known), mean_loss(weights, held_out))
            yield {"step": step, "train_loss": losses[0], "test_loss": losses[1]}
        if step == steps:
            return
        waiting = waiting or list(
            torch.randperm(len(known), generator=chance).split(settings.batch_size)
        )
        leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
        own = loss(leaves, known[waiting.pop(0)])
        gradients = torch.autograd.grad(own, list(leaves.values()))
        for (name, w), gradient in zip(weights.items(), gradients, strict=True):
            update(w, gradient, first[name], second[name], step, settings)


def update(w: Tensor, g: Tensor, m: Tensor, v: Tensor, step: int, settings: Settings) -> None:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2), in place."""
    rate, (beta1, beta2) = settings.rate(step), settings.betas
    w.mul_(1 - rate * settings.weight_decay)
    m.copy_(beta1 * m + (1 - beta1) * g)
    v.copy_(beta2 * v + (1 - beta2) * g * g)
    m_hat, v_hat = m / (1 - beta1 ** (step + 1)), v / (1 - beta2 ** (step + 1))
    w.sub_(rate * m_hat / (v_hat.sqrt() + settings.eps))


def loss(weights: Mapping[str, Tensor], rows: Tensor) -> Tensor:
    """Mean cross-entropy over the answer and the closing token."""
    logits = forward(weights, rows[:, :-1])[:, -2:]
    return F.cross_entropy(logits.flatten(0, 1), rows[:, -2:].flatten())


def mean_loss(weights: Mapping[str, Tensor], rows: Tensor) -> float:
    """The same over many rows, in pieces."""
    with torch.no_grad():
        pieces = [(float(loss(weights, piece)), len(piece)) for piece in rows.split(2400)]
    return sum(mean * n for mean, n in pieces) / len(rows)
