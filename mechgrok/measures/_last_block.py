"""The last block of a transformer at the answer position, recorded once and run again with edits.

Edits in the last block reach the logits through a few matrix products, so that a hundred of them
cost what a few hooked forwards do. The model has no normalisation, and its sublayers stand in
sequence; the algebra is the hooked forward's, in the model's dtype.
"""

from dataclasses import dataclass
from typing import Any

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from mechgrok.measures._modular import ANSWER, DoesNotApply, Subject, activations


@dataclass(frozen=True)
class LastBlock:
    """What enters the last block, and what its attention made of it, per row."""

    model: Any
    """The hooked model, whose weights the edited forward uses."""
    resid_pre: Float[Tensor, "rows d_model"]
    """Stream entering the block, at the answer position."""
    pattern: Float[Tensor, "rows heads sources"]
    """Attention from the answer position."""
    v: Float[Tensor, "rows sources heads d_head"]
    """Values."""

    @property
    def _block(self) -> Any:
        return self.model.blocks[-1]

    def z(
        self, pattern: Float[Tensor, "#rows heads sources"] | None = None
    ) -> Float[Tensor, "rows heads d_head"]:
        """Values mixed by the recorded attention, or by another one."""
        mixed = self.pattern if pattern is None else pattern.expand_as(self.pattern)
        return einsum(
            mixed, self.v, "rows heads sources, rows sources heads d_head -> rows heads d_head"
        )

    def mid(self, z: Float[Tensor, "rows heads d_head"]) -> Float[Tensor, "rows d_model"]:
        """Stream between attention and MLP."""
        attn = self._block.attn
        return self.resid_pre + torch.addmm(attn.b_O, z.flatten(1), attn.W_O.flatten(0, 1))

    def neurons(self, mid: Float[Tensor, "rows d_model"]) -> Float[Tensor, "rows d_mlp"]:
        """Neurons after the activation function."""
        mlp = self._block.mlp
        return mlp.act_fn(torch.addmm(mlp.b_in, mid, mlp.W_in))

    def logits(
        self, z: Float[Tensor, "rows heads d_head"] | None = None, skip: bool = True
    ) -> Float[Tensor, "rows classes"]:
        """Logits over all classes with these mixed values, with or without the MLP's skip path."""
        mid = self.mid(self.z() if z is None else z)
        stream = mid
        if not self.model.cfg.attn_only:
            mlp = self._block.mlp
            stream = torch.addmm(mlp.b_out, self.neurons(mid), mlp.W_out)
            stream = stream + mid if skip else stream
        return torch.addmm(self.model.unembed.b_U, stream, self.model.unembed.W_U)

    def neuron_logits(self) -> Float[Tensor, "classes d_mlp"]:
        """W_out W_U over all classes, "=" included: what a unit of each neuron adds."""
        return (self._block.mlp.W_out @ self.model.unembed.W_U).T


def check_sequential(model: Any) -> None:
    """DoesNotApply unless the model is one that `LastBlock` reproduces."""
    # Imported here because it loads transformer_lens, which the pure functions do not need.
    from mechgrok.models.shared_prefix import refusal

    reason = refusal(model)
    if model.cfg.normalization_type is not None:
        reason = f"normalization_type = {model.cfg.normalization_type!r}"
    if reason is not None:
        raise DoesNotApply(f"written for models whose parts add up, in sequence: {reason}")


def record(checkpoint: Subject, rows: Int[Tensor, " rows"]) -> LastBlock:
    """The last block on the given rows of the task; DoesNotApply for models it does not cover."""
    model = checkpoint.model
    check_sequential(model)
    name = f"blocks.{model.cfg.n_layers - 1}"
    found = activations(
        model,
        checkpoint.task.tokens[rows],
        {
            f"{name}.hook_resid_pre": lambda x: x[:, ANSWER],
            f"{name}.attn.hook_pattern": lambda x: x[:, :, ANSWER],
            f"{name}.attn.hook_v": lambda x: x,
        },
    )
    resid_pre, pattern, v = found.values()
    return LastBlock(model, resid_pre, pattern, v)
