"""1-D Fourier spectra of each head: attention scores C_j and the map W_neur to the neurons.

Nanda et al. 2023 (arXiv 2301.05217), section 4.1 and appendix C: C_j = (W_E[=] + W_pos[2]) W_Q^j
(W_K^j)^T W_E^T gives the scores from "=" to every token, W_neur^j = W_E W_V^j W_O^j W_in what a
fully attended token adds to the neurons. On the mainline each head is dominated by one frequency.
Scores carry the bias b_Q and the attention scale; b_K shifts all tokens alike and is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from mechgrok.maths.fourier import frequency_power, to_fourier
from mechgrok.measures._modular import (
    ANSWER,
    DoesNotApply,
    Subject,
    report,
    table_task,
    typed_absence,
)
from mechgrok.runs.result import NotApplicable, Result, Value

SUBJECT: Final = "checkpoint"


@dataclass(frozen=True)
class HeadSpectrum:
    """Spectrum over tokens of one map of a head; its constant, which moves no token, left out."""

    shares: Float[Tensor, " n_freqs"]
    """Share 0..1 of the power at frequency 1..p//2; sums to 1."""
    freq: int
    """The frequency with most power."""
    top_share: float
    """Its share; 1 for a head of one frequency, about 2/p for a random one of many columns."""


def attention_spectra(
    maps: Mapping[str, Float[Tensor, "p _"]],
) -> dict[str, HeadSpectrum]:
    """Spectrum of every named map; rows are the elements of Z_p in order.

    Raises ValueError for a map that is the same for all tokens.
    """
    return {name: _spectrum(name, table.double()) for name, table in maps.items()}


def _spectrum(name: str, table: Float[Tensor, "p d"]) -> HeadSpectrum:
    power = frequency_power(to_fourier(table).square().sum(dim=1))
    if power.sum() == 0:
        raise ValueError(f"{name} is the same for all tokens and has no frequencies")
    shares = power / power.sum()
    top = int(shares.argmax())
    return HeadSpectrum(shares=shares, freq=top + 1, top_share=float(shares[top]))


def head_maps(checkpoint: Subject) -> dict[str, Float[Tensor, "p _"]]:
    """C_j [p, 1] and, with an MLP, W_neur_j [p, d_mlp] of every head of the first layer.

    DoesNotApply where they are not products of matrices: with a normalisation in between.
    """
    order = table_task(checkpoint).renamed
    model = checkpoint.model
    if model.cfg.normalization_type is not None:
        raise DoesNotApply(
            f"a normalisation ({model.cfg.normalization_type}) stands between embedding and heads"
        )
    attn = model.blocks[0].attn
    with torch.no_grad():
        W_E = model.embed.W_E[order.to(model.embed.W_E.device)].double()
        maps = {f"C_{j}": x[:, None] for j, x in enumerate(_scores(checkpoint, attn, W_E))}
        if model.cfg.attn_only:
            return maps
        values = W_E @ attn.W_V.double() @ attn.W_O.double()  # head p d_model
        neur = values @ model.blocks[0].mlp.W_in.double()
    return maps | {f"W_neur_{j}": x for j, x in enumerate(neur)}


def _scores(
    checkpoint: Subject, attn: Any, W_E: Float[Tensor, "p d_model"]
) -> Float[Tensor, "heads p"]:
    """Attention scores from the answer token to every token, without its key's position."""
    model, tokens = checkpoint.model, checkpoint.task.tokens
    asking = model.embed.W_E[tokens[0, ANSWER]] + model.pos_embed.W_pos[tokens.shape[1] - 1]
    q = einsum(asking.double(), attn.W_Q.double(), "d_model, heads d_model d_head -> heads d_head")
    keys = W_E @ attn.W_K.double()
    q = q + attn.b_Q.double()
    return einsum(q, keys, "heads d_head, heads p d_head -> heads p") / attn.attn_scale


@typed_absence("attention_spectra", "min_top_share_C", "min_top_share_W_neur")
def measure(checkpoint: Subject) -> Result:
    """Spectra of C_j and W_neur of every head of layer 0, headline the least top share of C.

    No options.
    """
    found = attention_spectra(head_maps(checkpoint))
    absent = NotApplicable("the model has attention only, so there is no W_neur")
    values: dict[str, Value] = {}
    for kind in ("C", "W_neur"):
        shares = [one.top_share for name, one in found.items() if name.startswith(f"{kind}_")]
        values[f"min_top_share_{kind}"] = min(shares) if shares else absent
    for name, one in found.items():
        values[f"freq_{name}"] = one.freq
        values[f"top_share_{name}"] = one.top_share
    arrays = {f"power_shares_{name}": one.shares for name, one in found.items()}
    return report("attention_spectra", checkpoint, values, DEFINITION, arrays)


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "orthonormal real DFT over tokens 0..p-1 of C_j = (W_E[=] + W_pos[2]) W_Q W_K^T "
    "W_E^T and W_neur_j = W_E W_V W_O W_in; share of k = (cos^2 + sin^2) / all k >= 1",
    "centring": "constant left out: softmax ignores it in C_j, and in W_neur it is a bias",
    "selection": "first layer; '=' token dropped",
    "dtype": "float64",
}
