"""How a block of the post-LN model treats the distinct rows of `prefix_rows.py`."""

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mechgrok.models.post_ln import PostLN
from mechgrok.models.prefix_rows import activated


def read(block: Any, x: Float[Tensor, "R d_model"]) -> Float[Tensor, "R d_model"]:
    """Attention reads the residual stream itself."""
    return x


def leave(
    block: Any, x: Float[Tensor, "#M d_model"], z: Float[Tensor, "M heads_d_head"]
) -> Float[Tensor, "M d_model"]:
    """The residual stream leaving a block."""
    mid = _mid(block, x, z)
    return _norm(block.ln2, mid + activated(block.mlp, mid @ block.mlp.W_in) @ block.mlp.W_out)


def pre(
    block: Any, x: Float[Tensor, "#M d_model"], z: Float[Tensor, "M heads_d_head"]
) -> Float[Tensor, "M d_mlp"]:
    """Neurons before the activation function."""
    return _mid(block, x, z) @ block.mlp.W_in


def answer(
    model: PostLN, x: Float[Tensor, "#M d_model"], z: Float[Tensor, "M heads_d_head"]
) -> Float[Tensor, "M d_vocab_out"]:
    """Logits from the last block's input and mixed values at the answer position."""
    return leave(model.blocks[-1], x, z) @ model.unembed.W_U


def _mid(
    block: Any, x: Float[Tensor, "#M d_model"], z: Float[Tensor, "M heads_d_head"]
) -> Float[Tensor, "M d_model"]:
    return _norm(block.ln1, x + z @ block.attn.W_O.flatten(0, 1))


def _norm(ln: Any, x: Float[Tensor, "M d_model"]) -> Float[Tensor, "M d_model"]:
    """TransformerLens's LayerNorm as one kernel."""
    return F.layer_norm(x, x.shape[-1:], ln.w, ln.b, ln.eps)
