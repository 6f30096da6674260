"""Both sub-layers of a Tiny Recursive Model's block as single functions with a gradient by hand.

    y = norm(u + W_out^T (silu(W_gate^T u) * W_in^T u))

over channels (`Channels`), or over positions (`Mix`). States are laid out [length, batch, d_model],
so that both are one matrix product each; gate and other factor are one product, the addition is
part of the last one, and what is no longer needed is overwritten. With a second derivative asked
for, the backward pass goes through the formula itself.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mechgrok.models._trm_parts import norm

silu_backward = torch.ops.aten.silu_backward.grad_input


class Mix(torch.autograd.Function):
    """The MLP over the rows of u [length, columns], and the norm over them."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, both: Tensor, out: Tensor, eps: float) -> Tensor:
        pre = both @ u  # [2 neurons, columns]
        gate, other = pre.chunk(2)
        active = F.silu(gate)
        post = active * other
        y = torch.addmm(u, out, post)
        scale = y.square().mean(0).add_(eps).rsqrt_()
        y *= scale
        ctx.save_for_backward(u, both, out, pre, active, post, y, scale)
        ctx.eps = eps
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore
        u, both, out, pre, active, post, y, scale = ctx.saved_tensors
        if torch.is_grad_enabled():
            return (*through(mix, (u, both, out), ctx.eps, grad), None)
        d_sum = torch.addcmul(grad, y, (grad * y).mean(0), value=-1).mul_(scale)
        d_out = d_sum @ post.T
        d_post = out.T @ d_sum
        d_pre = torch.empty_like(pre)
        d_gate, d_other = d_pre.chunk(2)
        torch.mul(d_post, active, out=d_other)
        silu_backward(d_post.mul_(pre.chunk(2)[1]), pre.chunk(2)[0], grad_input=d_gate)
        d_both = d_pre @ u.T
        return torch.addmm(d_sum, both.T, d_pre), d_both, d_out, None


class Channels(torch.autograd.Function):
    """The MLP over the columns of u [rows, d_model], and the norm over them."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, both: Tensor, out: Tensor, eps: float) -> Tensor:
        pre = u @ both  # [rows, 2 neurons]
        gate, other = pre.chunk(2, 1)
        active = F.silu(gate)
        post = active * other
        y = torch.addmm(u, post, out)
        scale = y.square().mean(1, keepdim=True).add_(eps).rsqrt_()
        y *= scale
        ctx.save_for_backward(u, both, out, pre, active, post, y, scale)
        ctx.eps = eps
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore
        u, both, out, pre, active, post, y, scale = ctx.saved_tensors
        if torch.is_grad_enabled():
            return (*through(channels, (u, both, out), ctx.eps, grad), None)
        d_sum = torch.addcmul(grad, y, (grad * y).mean(1, keepdim=True), value=-1).mul_(scale)
        d_out = post.T @ d_sum
        d_post = d_sum @ out.T
        d_pre = torch.empty_like(pre)
        d_gate, d_other = d_pre.chunk(2, 1)
        torch.mul(d_post, active, out=d_other)
        silu_backward(d_post.mul_(pre.chunk(2, 1)[1]), pre.chunk(2, 1)[0], grad_input=d_gate)
        d_both = u.T @ d_pre
        return torch.addmm(d_sum, d_pre, both.T), d_both, d_out, None


def mix(
    u: Float[Tensor, "length columns"],
    both: Float[Tensor, "twice length"],
    out: Float[Tensor, "length neurons"],
    eps: float,
) -> Float[Tensor, "length columns"]:
    """The formula of `Mix`."""
    gate, other = (both @ u).chunk(2)
    return norm(u + out @ (F.silu(gate) * other), 0, eps)


def channels(
    u: Float[Tensor, "rows d_model"],
    both: Float[Tensor, "d_model twice"],
    out: Float[Tensor, "neurons d_model"],
    eps: float,
) -> Float[Tensor, "rows d_model"]:
    """The formula of `Channels`."""
    gate, other = (u @ both).chunk(2, 1)
    return norm(u + (F.silu(gate) * other) @ out, 1, eps)


def through(
    formula: Callable[..., Tensor], inputs: tuple[Tensor, ...], eps: float, grad: Tensor
) -> tuple[Tensor, ...]:
    """Gradients of a formula that can be differentiated once more."""
    return torch.autograd.grad(formula(*inputs, eps), inputs, grad, create_graph=True)
