"""The Tiny Recursive Model in plain torch, written from its formulas under the original's names.

One row, one head and one neuron vector at a time where that is plainest; no code of the package.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def logits(weights: Mapping[str, Tensor], rows: Tensor, config: Mapping[str, Any]) -> Tensor:
    """Logits of one pass at every token, [rows, tokens, vocabulary]."""
    return torch.stack([answer(weights, row, config)[0] for row in rows])


def halting(weights: Mapping[str, Tensor], rows: Tensor, config: Mapping[str, Any]) -> Tensor:
    """Both halting logits of every row."""
    return torch.stack([answer(weights, row, config)[1] for row in rows])


def answer(
    w: Mapping[str, Tensor], row: Tensor, config: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    x = entering(w, row, config)
    high, low = (w[f"{name}_init"].repeat(len(x), 1) for name in ("H", "L"))
    for cycle in range(config["H_cycles"]):
        last = cycle == config["H_cycles"] - 1
        with torch.set_grad_enabled(last and torch.is_grad_enabled()):
            for _ in range(config["L_cycles"]):
                low = network(w, low + (high + x), config)
            high = network(w, high + low, config)
    words = high[len(x) - len(row) :]
    return words @ w["lm_head.weight"].T, w["q_head.weight"] @ high[0] + w["q_head.bias"]


def entering(w: Mapping[str, Tensor], row: Tensor, config: Mapping[str, Any]) -> Tensor:
    x = w["embed_tokens.embedding_weight"][row]
    width = x.shape[1]
    if config.get("puzzle_emb_ndim", 0):
        blank = torch.zeros(config["puzzle_emb_len"] - 1, width, dtype=x.dtype)
        x = torch.cat([w["puzzle_emb.weights"], blank, x])
    if config["pos_encodings"] == "learned":
        x = (x + w["embed_pos.embedding_weight"]) / math.sqrt(2)
    return x * math.sqrt(width)


def network(w: Mapping[str, Tensor], u: Tensor, config: Mapping[str, Any]) -> Tensor:
    for layer in range(config["L_layers"]):
        own = f"L_level.layers.{layer}."
        if config["mlp_t"]:
            columns = [u[:, d] for d in range(u.shape[1])]
            mixed = [c + gated(w, own + "mlp_t.", c) for c in columns]
            u = torch.stack([unit(c) for c in mixed], dim=1)
        else:
            added = attention(w, own + "self_attn.", u, config)
            u = torch.stack([unit(v) for v in u + added])
        u = torch.stack([unit(v + gated(w, own + "mlp.", v)) for v in u])
    return u


def unit(v: Tensor) -> Tensor:
    """A vector divided by its root mean square."""
    return v / torch.sqrt((v * v).sum() / len(v) + 1e-5)


def gated(w: Mapping[str, Tensor], name: str, v: Tensor) -> Tensor:
    both = w[name + "gate_up_proj.weight"] @ v
    gate, up = both[: len(both) // 2], both[len(both) // 2 :]
    return w[name + "down_proj.weight"] @ (gate / (1 + torch.exp(-gate)) * up)


def attention(w: Mapping[str, Tensor], name: str, u: Tensor, config: Mapping[str, Any]) -> Tensor:
    heads, width = config["num_heads"], u.shape[1] // config["num_heads"]
    joint = u @ w[name + "qkv_proj.weight"].T
    found = []
    for head in range(heads):
        q, k, v = (
            joint[:, (kind * heads + head) * width : (kind * heads + head + 1) * width]
            for kind in range(3)
        )
        if config["pos_encodings"] == "rope":
            q, k = turned(q), turned(k)
        scores = torch.exp(q @ k.T / math.sqrt(width))
        found.append(scores / scores.sum(1, keepdim=True) @ v)
    return torch.cat(found, dim=1) @ w[name + "o_proj.weight"].T


def turned(x: Tensor) -> Tensor:
    """Rotate the pairs (i, i + width/2) of row p by p * 10000^(-2i / width)."""
    half = x.shape[1] // 2
    rows = []
    for p, row in enumerate(x):
        rates = [10000 ** (-2 * i / x.shape[1]) for i in range(half)]
        angle = p * torch.tensor(rates, dtype=torch.float64)
        a, b = row[:half], row[half:]
        turn = torch.complex(angle.cos(), angle.sin()) * torch.complex(a.double(), b.double())
        rows.append(torch.cat([turn.real, turn.imag]).to(x.dtype))
    return torch.stack(rows)


def their_names(model: Any) -> dict[str, Tensor]:
    """Copies of a HookedTRM's weights under the original's names, [out, in] as torch.nn.Linear."""
    cfg, own = model.cfg, {**dict(model.named_parameters()), **dict(model.named_buffers())}
    found = {
        "embed_tokens.embedding_weight": own["embed.W_E"],
        "lm_head.weight": own["unembed.W_U"].T,
        "q_head.weight": own["halt.w"].T,
        "q_head.bias": own["halt.b"],
        "H_init": own["z_H_init"],
        "L_init": own["z_L_init"],
    }
    if cfg.positions == "learned":
        found["embed_pos.embedding_weight"] = own["pos_embed.W_pos"]
    if cfg.puzzle_positions:
        found["puzzle_emb.weights"] = own["puzzle"][None]
    for layer in range(cfg.n_layers):
        block, theirs = f"blocks.{layer}.", f"L_level.layers.{layer}."
        for part, name in (("mix", "mlp_t"), ("mlp", "mlp")):
            if part == "mlp" or cfg.mlp_t:
                both = [own[f"{block}{part}.{which}"].T for which in ("W_gate", "W_in")]
                found[f"{theirs}{name}.gate_up_proj.weight"] = torch.cat(both)
                found[f"{theirs}{name}.down_proj.weight"] = own[f"{block}{part}.W_out"].T
        if not cfg.mlp_t:
            heads = [
                own[f"{block}attn.{which}"].mT.flatten(0, 1) for which in ("W_Q", "W_K", "W_V")
            ]
            found[f"{theirs}self_attn.qkv_proj.weight"] = torch.cat(heads)
            found[f"{theirs}self_attn.o_proj.weight"] = own[f"{block}attn.W_O"].flatten(0, 1).T
    return {name: x.detach().clone() for name, x in found.items()}


def config_of(model: Any) -> dict[str, Any]:
    """A model's sizes as the original's config has them."""
    cfg = model.cfg
    return {
        "batch_size": 1, "seq_len": cfg.n_ctx, "num_puzzle_identifiers": 1,
        "puzzle_emb_ndim": cfg.d_model if cfg.puzzle_positions else 0,
        "puzzle_emb_len": cfg.puzzle_positions, "vocab_size": cfg.d_vocab,
        "H_cycles": cfg.H_cycles, "L_cycles": cfg.L_cycles, "H_layers": 0,
        "L_layers": cfg.n_layers, "hidden_size": cfg.d_model, "expansion": cfg.expansion,
        "num_heads": cfg.n_heads, "pos_encodings": cfg.positions, "mlp_t": cfg.mlp_t,
        "halt_max_steps": cfg.halt_max_steps, "halt_exploration_prob": cfg.halt_exploration,
    }  # fmt: skip
