"""How a block without normalisation, or with pre-LN, treats the distinct rows of `prefix_rows.py`.

Where the last block has no normalisation its matrices are multiplied together first (W_O W_in,
W_O W_U, W_out W_U): the same algebra, fewer operations.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens import HookedTransformer

from mechgrok.models.prefix_rows import activated


def read(block: Any, x: Float[Tensor, "R d_model"]) -> Float[Tensor, "R d_model"]:
    """What attention reads of the residual stream."""
    return block.ln1(x)


def leave(
    block: Any, x: Float[Tensor, "#M d_model"], z: Float[Tensor, "M heads_d_head"]
) -> Float[Tensor, "M d_model"]:
    """The residual stream leaving a block."""
    mid = _mid(block, x, z)
    if block.cfg.attn_only:
        return mid
    return mid + torch.addmm(block.mlp.b_out, _neurons(block, mid), block.mlp.W_out)


def pre(
    block: Any, x: Float[Tensor, "#M d_model"], z: Float[Tensor, "M heads_d_head"]
) -> Float[Tensor, "M d_mlp"]:
    """Neurons before the activation function."""
    return _pre(block, _mid(block, x, z))


def answer(
    model: HookedTransformer,
    x: Float[Tensor, "#M d_model"],
    z: Float[Tensor, "M heads_d_head"],
) -> Float[Tensor, "M d_vocab_out"]:
    """Logits from the last block's input and mixed values at the answer position."""
    block: Any = model.blocks[-1]
    W_U, b_U = model.unembed.W_U, model.unembed.b_U
    if model.cfg.normalization_type is not None:
        return torch.addmm(b_U, model.ln_final(leave(block, x, z)), W_U)
    if block.cfg.attn_only:
        return torch.addmm(b_U, leave(block, x, z), W_U)
    W_O, mlp = block.attn.W_O.flatten(0, 1), block.mlp
    bias = mlp.b_out @ W_U + b_U
    if len(x) == 1:  # one answer token: x adds the same to every row, so W_O folds into its readers
        x = x + block.attn.b_O
        post = activated(mlp, torch.addmm(x @ mlp.W_in + mlp.b_in, z, W_O @ mlp.W_in))
        direct = torch.addmm(x @ W_U + bias, z, W_O @ W_U)
    else:
        mid = _mid(block, x, z)
        post = _neurons(block, mid)
        direct = torch.addmm(bias, mid, W_U)
    return direct.addmm_(post, mlp.W_out @ W_U)


def _mid(
    block: Any, x: Float[Tensor, "#M d_model"], z: Float[Tensor, "M heads_d_head"]
) -> Float[Tensor, "M d_model"]:
    """The residual stream between attention and MLP."""
    return x + torch.addmm(block.attn.b_O, z, block.attn.W_O.flatten(0, 1))


def _neurons(block: Any, mid: Float[Tensor, "M d_model"]) -> Float[Tensor, "M d_mlp"]:
    """Neurons after the activation function."""
    return activated(block.mlp, _pre(block, mid))


def _pre(block: Any, mid: Float[Tensor, "M d_model"]) -> Float[Tensor, "M d_mlp"]:
    return torch.addmm(block.mlp.b_in, block.ln2(mid), block.mlp.W_in)
