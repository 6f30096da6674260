"""The passes of a Tiny Recursive Model without hook points: the same numbers, faster.

States are laid out [length, batch, d_model], where either sub-layer of a block is one matrix
product; the sub-layers are the functions of `_trm_kernels.py`; cycles without gradient keep
nothing; what is injected is added once per cycle; logits are read only where they are asked for.
With a hook attached it is the hooked forward instead.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mechgrok.models import _trm_compiled
from mechgrok.models import _trm_kernels as kernels
from mechgrok.models._trm_parts import Attention, norm, rotate
from mechgrok.models.hooked import has_hooks
from mechgrok.models.trm import Halting, HookedTRM, Segment, check_rows

State = Float[Tensor, "length batch d_model"]


class Mlp(NamedTuple):
    """Both factors' weights side by side, and those of the output."""

    both: Tensor
    out: Tensor


class Weights(NamedTuple):
    """A block's weights as the kernels read them; made once per forward pass."""

    mix: Mlp | Attention
    mlp: Mlp


def segments(
    model: HookedTRM,
    tokens: Int[Tensor, "batch pos"],
    positions: Sequence[int],
    generator: torch.Generator | None = None,
) -> list[Segment]:
    """Every pass, with logits at the given token positions only.

    Raises ValueError for token ids or rows that do not fit.
    """
    at = list(positions)
    if has_hooks(model):
        passes = model.unroll(tokens, generator)
        return [found._replace(logits=found.logits[:, at]) for found in passes]
    check_rows(model.cfg, tokens)
    cfg = model.cfg
    x, blocks = embedded(model, tokens), [weights_of(block) for block in model.blocks]
    z_H = model.z_H_init.expand_as(x)
    z_L = model.z_L_init.expand_as(x)
    halting, found = Halting(model, len(tokens), generator), []
    for _ in range(cfg.halt_max_steps):
        new_H, new_L = run(model, blocks, x, z_H, z_L)
        z_H, z_L = halting.keep(new_H, z_H, 1), halting.keep(new_L, z_L, 1)
        read = z_H[[p + cfg.puzzle_positions for p in at]].transpose(0, 1)
        halt = z_H[0] @ model.halt.w + model.halt.b
        found.append(Segment(read @ model.unembed.W_U, halt, halting.active))
        halting.after(halt)
        z_H, z_L = z_H.detach(), z_L.detach()
    return found


def embedded(model: HookedTRM, tokens: Int[Tensor, "batch pos"]) -> State:
    """The input of the recursion."""
    cfg, scale = model.cfg, model.scale
    x = F.embedding(tokens.T, scale * model.embed.W_E)
    if cfg.puzzle_positions:
        x = torch.cat([model.first(scale)[:, None].expand(-1, len(tokens), -1), x])
    if cfg.positions == "learned":
        x = x + scale * model.pos_embed.W_pos[:, None]
    return x


def weights_of(block: Any) -> Weights:
    """A block's weights, joined: gate and other factor in one matrix."""
    channels = Mlp(torch.cat([block.mlp.W_gate, block.mlp.W_in], dim=1), block.mlp.W_out)
    if not block.cfg.mlp_t:
        return Weights(block.attn, channels)
    both = torch.cat([block.mix.W_gate, block.mix.W_in], dim=1).T.contiguous()
    return Weights(Mlp(both, block.mix.W_out.T.contiguous()), channels)


def run(
    model: HookedTRM, blocks: list[Weights], x: State, z_H: State, z_L: State
) -> tuple[State, State]:
    """One pass: H_cycles cycles, the last of them with gradient."""
    if model.cfg.compile and model.training and torch.is_grad_enabled():
        joined = [(*own.mix, *own.mlp) for own in blocks if isinstance(own.mix, Mlp)]
        found = _trm_compiled.run(x, z_H, z_L, joined, model.cfg)
        if found is not None:
            return found
    for h in range(model.cfg.H_cycles):
        with nullcontext() if h == model.cfg.H_cycles - 1 else torch.no_grad():
            inject = z_H + x
            for _ in range(model.cfg.L_cycles):
                z_L = network(model, blocks, z_L + inject)
            z_H = network(model, blocks, z_H + z_L)
    return z_H, z_L


def network(model: HookedTRM, blocks: list[Weights], u: State) -> State:
    """All blocks, one after the other."""
    length, batch, width = u.shape
    eps = model.cfg.eps
    for block in blocks:
        if isinstance(block.mix, Mlp):
            u = kernels.Mix.apply(u.reshape(length, -1), *block.mix, eps)
        else:
            u = norm(u + attended(block.mix, u, model.rotary), 2, eps)
        u = kernels.Channels.apply(u.view(length * batch, width), *block.mlp, eps)
        u = u.view(length, batch, width)
    return u


def attended(attn: Attention, u: State, rotary: Tensor | None) -> State:
    """What attention adds."""
    weights = torch.stack([attn.W_Q, attn.W_K, attn.W_V])  # [3, heads, d_model, d_head]
    joined = torch.einsum("sbd,khde->kbshe", u, weights)
    q, k, v = joined
    if rotary is not None:
        own = rotary[:, : u.shape[0]]
        q, k = rotate(q, own), rotate(k, own)
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    z = F.scaled_dot_product_attention(q, k, v)
    return torch.einsum("bhse,hed->sbd", z, attn.W_O)
