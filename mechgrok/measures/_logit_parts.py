"""What each component of a transformer adds to the logits of every pair, in float64.

The residual stream at the answer is a sum of embedding, position, head outputs, MLP outputs and
biases, and the unembedding is linear in it. A final normalisation is linear once its scale is held
at the value of the full forward, and then the parts add up as well.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor

from mechgrok.measures._modular import (
    ANSWER,
    CHUNK,
    DoesNotApply,
    Subject,
    table_task,
)

EMBEDDING: Final = "embedding"
POSITION: Final = "position"
BIAS: Final = "bias"


def float64_model(checkpoint: Subject) -> Any:
    """A copy of the checkpoint's model in float64, hooks off.

    Raises DoesNotApply for a model whose forward pass is not covered here.
    """
    # Imported here because it loads transformer_lens, which the pure functions do not need.
    from mechgrok.models.shared_prefix import refusal

    model = copy.deepcopy(checkpoint.model).double()
    model.cfg.dtype = torch.float64  # .double() leaves it stale (TransformerLens)
    reason = refusal(model)
    if reason is not None:
        raise DoesNotApply(f"the model's logits are not split into components: {reason}")
    return model


def logit_parts(
    checkpoint: Subject, heads: bool = True, neuron_chunk: int | None = None
) -> Iterator[tuple[str, Float[Tensor, "pairs p"]]]:
    """(name, part of the logits) of every component; all parts add up to the logits.

    Rows are all pairs, classes the elements of Z_p in order ("=" dropped). `heads` apart or each
    attention layer as one; MLPs as one, or in chunks of neurons. DoesNotApply for other models.
    """
    order = table_task(checkpoint).renamed
    model = float64_model(checkpoint)
    with torch.no_grad():
        seen = _record(model, checkpoint.task.tokens)
        unembed = _Unembedding(model, seen, order)
        yield EMBEDDING, unembed.into_logits(seen["hook_embed"])
        yield POSITION, unembed.into_logits(seen["hook_pos_embed"])
        for layer in range(model.cfg.n_layers):
            yield from _attention_parts(model, layer, seen, unembed, heads)
            if not model.cfg.attn_only:
                yield from _mlp_parts(model, layer, seen, unembed, neuron_chunk)
        yield BIAS, unembed.biases(model)


def _record(model: Any, tokens: Tensor) -> dict[str, Tensor]:
    """Activations at the answer position that the parts are made of."""
    names = ["hook_embed", "hook_pos_embed"]
    for layer in range(model.cfg.n_layers):
        names.append(f"blocks.{layer}.attn.hook_z")
        names += [] if model.cfg.attn_only else [f"blocks.{layer}.mlp.hook_post"]
    if model.cfg.normalization_type is not None:
        names.append("ln_final.hook_scale")
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    for rows in tokens.to(model.embed.W_E.device).split(CHUNK):
        _, cache = model.run_with_cache(rows, names_filter=names, return_type=None)
        for name in names:
            found[name].append(cache[name][:, ANSWER].clone())
    return {name: torch.cat(parts) for name, parts in found.items()}


class _Unembedding:
    """The map from the residual stream to the classes 0..p-1, linear at the recorded scales."""

    def __init__(self, model: Any, seen: Mapping[str, Tensor], order: Tensor) -> None:
        order = order.to(model.embed.W_E.device)
        self.W_U, self.b_U = model.unembed.W_U[:, order], model.unembed.b_U[order]
        self.scale = seen.get("ln_final.hook_scale")
        self.kind = str(model.cfg.normalization_type or "")
        self.norm = model.ln_final if self.kind else None
        self.rows = len(seen["hook_embed"])

    def into_logits(self, part: Float[Tensor, "pairs d_model"]) -> Float[Tensor, "pairs p"]:
        """Logits of one part of the final residual stream."""
        if self.scale is None:
            return part @ self.W_U
        centred = part - part.mean(dim=-1, keepdim=True) if self.kind.startswith("LN") else part
        weight = getattr(self.norm, "w", 1.0)  # LNPre and RMSPre have none
        return centred / self.scale * weight @ self.W_U

    def biases(self, model: Any) -> Float[Tensor, "pairs p"]:
        """Logits of all biases: attention and MLP outputs, final normalisation, unembedding."""
        stream = torch.zeros_like(model.embed.W_E[0])
        for block in model.blocks:
            stream = stream + block.attn.b_O
            stream = stream if model.cfg.attn_only else stream + block.mlp.b_out
        logits = self.into_logits(stream.expand(self.rows, -1)) + self.b_U
        shift = getattr(self.norm, "b", None)
        return logits if shift is None else logits + shift @ self.W_U


def _attention_parts(
    model: Any, layer: int, seen: Mapping[str, Tensor], unembed: _Unembedding, heads: bool
) -> Iterator[tuple[str, Tensor]]:
    z, W_O = seen[f"blocks.{layer}.attn.hook_z"], model.blocks[layer].attn.W_O
    if not heads:
        yield f"L{layer} attention", unembed.into_logits(z.flatten(1) @ W_O.flatten(0, 1))
        return
    for head in range(model.cfg.n_heads):
        yield f"L{layer}H{head}", unembed.into_logits(z[:, head] @ W_O[head])


def _mlp_parts(
    model: Any,
    layer: int,
    seen: Mapping[str, Tensor],
    unembed: _Unembedding,
    neuron_chunk: int | None,
) -> Iterator[tuple[str, Tensor]]:
    post, W_out = seen[f"blocks.{layer}.mlp.hook_post"], model.blocks[layer].mlp.W_out
    if neuron_chunk is None:
        yield f"L{layer} MLP", unembed.into_logits(post @ W_out)
        return
    for start in range(0, len(W_out), neuron_chunk):
        part = slice(start, min(start + neuron_chunk, len(W_out)))
        name = f"L{layer} neurons {part.start}-{part.stop - 1}"
        yield name, unembed.into_logits(post[:, part] @ W_out[part])
