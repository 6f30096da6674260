"""openai/grok's post-LN decoder in plain torch, by the original's parameter names: no hook, no code
of the package. Written from the description of the model, for tests to compare with."""

import math
from collections.abc import Mapping
from typing import Any

import torch
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
            scores = torch.stack(
                [(q[:, query] * k[:, key]).sum(-1) for key in range(query + 1)], dim=1
            ) / math.sqrt(q.shape[-1])
            shares = scores.exp() / scores.exp().sum(1, keepdim=True)
            of_query.append(sum(shares[:, [key]] * v[:, key] for key in range(query + 1)))
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


def our_names(theirs: Mapping[str, Tensor], model: Any) -> dict[str, Tensor]:
    """The other way: for gradients."""
    found = {"embed.W_E": theirs["embedding.weight"], "unembed.W_U": theirs["linear.weight"].T}
    for layer in range(model.cfg.n_layers):
        block, own = f"decoder.blocks.{layer}.", f"blocks.{layer}."
        for ours, name in (("W_Q", "Wq"), ("W_K", "Wk"), ("W_V", "Wv")):
            heads = [
                theirs[f"{block}self_attn.attn_heads.{head}.{name}.weight"].T
                for head in range(model.cfg.n_heads)
            ]
            found[f"{own}attn.{ours}"] = torch.stack(heads)
        joint = theirs[f"{block}self_attn.Wo.weight"].T
        found[f"{own}attn.W_O"] = joint.unflatten(0, (model.cfg.n_heads, -1))
        found[f"{own}mlp.W_in"] = theirs[f"{block}ffn.ffn.0.weight"].T
        found[f"{own}mlp.W_out"] = theirs[f"{block}ffn.ffn.2.weight"].T
        for ours, name in (("ln1", "self_attn_norm"), ("ln2", "ffn_norm")):
            found[f"{own}{ours}.w"] = theirs[f"{block}{name}.weight"]
            found[f"{own}{ours}.b"] = theirs[f"{block}{name}.bias"]
    return found
