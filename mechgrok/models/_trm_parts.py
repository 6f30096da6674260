"""The parts of a Tiny Recursive Model: weights are here once, hook points once per application."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from mechgrok.models._trm_config import HookedTRMConfig


def norm(x: Float[Tensor, "*shape"], axis: int, eps: float) -> Float[Tensor, "*shape"]:
    """RMS norm over one axis, without gain."""
    return x * torch.rsqrt(x.square().mean(axis, keepdim=True) + eps)


class SwiGLU(nn.Module):
    """W_out^T (silu(W_gate^T x) * W_in^T x), without biases."""

    def __init__(self, width: int, neurons: int, cfg: HookedTRMConfig) -> None:
        super().__init__()
        kind = {"dtype": cfg.dtype, "device": cfg.device}
        self.W_gate = nn.Parameter(torch.empty(width, neurons, **kind))
        self.W_in = nn.Parameter(torch.empty(width, neurons, **kind))
        self.W_out = nn.Parameter(torch.empty(neurons, width, **kind))

    def forward(
        self, x: Float[Tensor, "batch rows width"], points: "Neurons"
    ) -> Float[Tensor, "batch rows width"]:
        """Its output, with hook points at the neurons."""
        gate = points.hook_pre(x @ self.W_gate)
        return points.hook_post(F.silu(gate) * points.hook_pre_linear(x @ self.W_in)) @ self.W_out


class Attention(nn.Module):
    """Attention of every position to every position, turned by RoPE if it is given."""

    def __init__(self, cfg: HookedTRMConfig) -> None:
        super().__init__()
        shape = (cfg.n_heads, cfg.d_model, cfg.d_head)
        kind = {"dtype": cfg.dtype, "device": cfg.device}
        self.W_Q, self.W_K, self.W_V = (nn.Parameter(torch.empty(shape, **kind)) for _ in range(3))
        self.W_O = nn.Parameter(torch.empty(cfg.n_heads, cfg.d_head, cfg.d_model, **kind))

    def forward(
        self, x: Float[Tensor, "batch length d_model"], rotary: Tensor | None, points: "Heads"
    ) -> Float[Tensor, "batch length d_model"]:
        """Its output; `rotary` [2, length, d_head] are cosines and sines."""
        q, k, v = (torch.einsum("bsd,hde->bshe", x, w) for w in (self.W_Q, self.W_K, self.W_V))
        q, k, v = points.hook_q(q), points.hook_k(k), points.hook_v(v)
        if rotary is not None:
            own = rotary[:, : x.shape[1]]
            q, k = points.hook_rot_q(rotate(q, own)), points.hook_rot_k(rotate(k, own))
        scores = torch.einsum("bqhe,bkhe->bhqk", q, k) / self.W_Q.shape[-1] ** 0.5
        pattern = points.hook_pattern(points.hook_attn_scores(scores).softmax(-1))
        z = points.hook_z(torch.einsum("bhqk,bkhe->bqhe", pattern, v))
        return torch.einsum("bqhe,hed->bqd", z, self.W_O)


def rotate(
    x: Float[Tensor, "batch length heads d_head"], rotary: Float[Tensor, "2 length d_head"]
) -> Float[Tensor, "batch length heads d_head"]:
    """RoPE in the order of GPT-NeoX: value i is paired with value i + d_head / 2."""
    cos, sin = rotary[:, :, None]
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-right, left], dim=-1) * sin


def rotations(cfg: HookedTRMConfig) -> Float[Tensor, "2 length d_head"]:
    """Cosines and sines of position * theta^(-2i / d_head), for every value of a head."""
    rates = cfg.rope_theta ** -(torch.arange(0, cfg.d_head, 2).double() / cfg.d_head)
    angles = torch.arange(cfg.length)[:, None] * torch.cat([rates, rates])
    return torch.stack([angles.cos(), angles.sin()]).to(cfg.dtype).to(cfg.device)


class Block(nn.Module):
    """Weights of one block: what mixes positions, and the MLP over channels."""

    def __init__(self, cfg: HookedTRMConfig) -> None:
        super().__init__()
        self.cfg = cfg
        if cfg.mlp_t:
            self.mix = SwiGLU(cfg.length, cfg.d_mix, cfg)
        else:
            self.attn = Attention(cfg)
        self.mlp = SwiGLU(cfg.d_model, cfg.d_mlp, cfg)

    def forward(
        self, u: Float[Tensor, "batch length d_model"], rotary: Tensor | None, points: "BlockPoints"
    ) -> Float[Tensor, "batch length d_model"]:
        """The state leaving the block."""
        u = points.hook_resid_pre(u)
        if self.cfg.mlp_t:
            out = points.hook_mix_out(self.mix(u.mT, points.mix).mT)
            mid = norm(u + out, 1, self.cfg.eps)  # over positions: a quirk of the original
        else:
            out = points.hook_attn_out(self.attn(u, rotary, points.attn))
            mid = norm(u + out, 2, self.cfg.eps)
        mid = points.hook_resid_mid(mid)
        out = points.hook_mlp_out(self.mlp(mid, points.mlp))
        return points.hook_resid_post(norm(mid + out, 2, self.cfg.eps))


class Neurons(nn.Module):
    """Hook points inside an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.hook_pre, self.hook_pre_linear, self.hook_post = (HookPoint() for _ in range(3))


class Heads(nn.Module):
    """Hook points inside attention."""

    def __init__(self, rotated: bool) -> None:
        super().__init__()
        self.hook_q, self.hook_k, self.hook_v = (HookPoint() for _ in range(3))
        if rotated:
            self.hook_rot_q, self.hook_rot_k = HookPoint(), HookPoint()
        self.hook_attn_scores, self.hook_pattern, self.hook_z = (HookPoint() for _ in range(3))


class BlockPoints(nn.Module):
    """Hook points of one application of a block."""

    mix: Any
    attn: Any

    def __init__(self, cfg: HookedTRMConfig) -> None:
        super().__init__()
        self.hook_resid_pre, self.hook_resid_mid = HookPoint(), HookPoint()
        self.hook_resid_post = HookPoint()
        if cfg.mlp_t:
            self.mix, self.hook_mix_out = Neurons(), HookPoint()
        else:
            self.attn, self.hook_attn_out = Heads(cfg.positions == "rope"), HookPoint()
        self.mlp, self.hook_mlp_out = Neurons(), HookPoint()


class Application(nn.Module):
    """Hook points of one application of the network, and of the state it gives."""

    def __init__(self, cfg: HookedTRMConfig, state: str) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(BlockPoints(cfg) for _ in range(cfg.n_layers))
        self.add_module(f"hook_{state}", HookPoint())


class Cycle(Application):
    """Hook points of one cycle: every update of z_L under its number, and the update of z_H."""

    def __init__(self, cfg: HookedTRMConfig) -> None:
        super().__init__(cfg, "z_H")
        for step in range(cfg.L_cycles):
            self.add_module(str(step), Application(cfg, "z_L"))


class Embed(nn.Module):
    """Token embeddings."""

    def __init__(self, cfg: HookedTRMConfig) -> None:
        super().__init__()
        shape = (cfg.d_vocab, cfg.d_model)
        self.W_E = nn.Parameter(torch.empty(shape, dtype=cfg.dtype, device=cfg.device))


class Positions(nn.Module):
    """Learned positions, those of the puzzle first."""

    def __init__(self, cfg: HookedTRMConfig) -> None:
        super().__init__()
        shape = (cfg.length, cfg.d_model)
        self.W_pos = nn.Parameter(torch.empty(shape, dtype=cfg.dtype, device=cfg.device))


class Unembed(nn.Module):
    """The answer state's logits: no bias, no norm before it."""

    def __init__(self, cfg: HookedTRMConfig) -> None:
        super().__init__()
        shape = (cfg.d_model, cfg.d_vocab_out)
        self.W_U = nn.Parameter(torch.empty(shape, dtype=cfg.dtype, device=cfg.device))
        self.hook_in, self.hook_out = HookPoint(), HookPoint()

    def forward(
        self, z: Float[Tensor, "batch pos d_model"]
    ) -> Float[Tensor, "batch pos d_vocab_out"]:
        """Logits."""
        return self.hook_out(self.hook_in(z) @ self.W_U)


class Halt(nn.Module):
    """The halting head: logits to halt and to go on, from the first position of z_H."""

    def __init__(self, cfg: HookedTRMConfig) -> None:
        super().__init__()
        kind = {"dtype": cfg.dtype, "device": cfg.device}
        self.w = nn.Parameter(torch.empty(cfg.d_model, 2, **kind))
        self.b = nn.Parameter(torch.empty(2, **kind))
        self.hook_halt = HookPoint()

    def forward(self, z: Float[Tensor, "batch length d_model"]) -> Float[Tensor, "batch 2"]:
        """Both logits."""
        return self.hook_halt(z[:, 0] @ self.w + self.b)
