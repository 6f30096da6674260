"""Activation patching grids under TransformerLens's names: same arguments, shapes and numbers.

`get_act_patch_*(model, corrupted_tokens, clean_cache, patching_metric)` patches one clean
activation at a time into the corrupted run and gives the metric of each, as
`transformer_lens.patching` does. With a `Metric` (`metrics.py`) instead of a plain function only
the logits it reads are computed. For any other set of nodes: `act_patch`.
"""

from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from mechgrok.interventions.ablation import Cache
from mechgrok.interventions.node import Nodes, nodes, resolve
from mechgrok.interventions.patches import patches_from
from mechgrok.interventions.variants import AnyMetric, measure


def act_patch(
    model: Any,
    corrupted_tokens: Int[Tensor, "batch pos"],
    clean_cache: Cache,
    patching_metric: AnyMetric,
    at: Nodes,
) -> Float[Tensor, " nodes"]:
    """Metric of the corrupted run with each node alone taken from the clean one.

    Raises ValueError for an unknown component, for no node, and for a cache that lacks one or has
    other rows.
    """
    chosen = resolve(model, at, corrupted_tokens.shape[1])
    if not chosen:
        raise ValueError("got no nodes; nothing would be patched")
    if any(node.freq is not None for node in chosen):
        raise ValueError("a frequency needs the clean tokens, not only their cache: use mg.patch")
    patches = patches_from(model, chosen, clean_cache, corrupted_tokens)
    return measure(model, corrupted_tokens, [[patch] for patch in patches], patching_metric)


def get_act_patch_resid_pre(
    model: Any,
    corrupted_tokens: Int[Tensor, "batch pos"],
    clean_cache: Cache,
    patching_metric: AnyMetric,
) -> Float[Tensor, "layer pos"]:
    """Residual stream entering each block, by position."""
    return _by_pos(model, corrupted_tokens, clean_cache, patching_metric, "resid_pre")


def get_act_patch_resid_mid(
    model: Any,
    corrupted_tokens: Int[Tensor, "batch pos"],
    clean_cache: Cache,
    patching_metric: AnyMetric,
) -> Float[Tensor, "layer pos"]:
    """Residual stream between attention and MLP, by position."""
    return _by_pos(model, corrupted_tokens, clean_cache, patching_metric, "resid_mid")


def get_act_patch_attn_out(
    model: Any,
    corrupted_tokens: Int[Tensor, "batch pos"],
    clean_cache: Cache,
    patching_metric: AnyMetric,
) -> Float[Tensor, "layer pos"]:
    """What each attention layer adds to the stream, by position."""
    return _by_pos(model, corrupted_tokens, clean_cache, patching_metric, "attn_out")


def get_act_patch_mlp_out(
    model: Any,
    corrupted_tokens: Int[Tensor, "batch pos"],
    clean_cache: Cache,
    patching_metric: AnyMetric,
) -> Float[Tensor, "layer pos"]:
    """What each MLP adds to the stream, by position."""
    return _by_pos(model, corrupted_tokens, clean_cache, patching_metric, "mlp_out")


def get_act_patch_attn_head_out_by_pos(
    model: Any,
    corrupted_tokens: Int[Tensor, "batch pos"],
    clean_cache: Cache,
    patching_metric: AnyMetric,
) -> Float[Tensor, "layer pos head"]:
    """Each head's output (its mixed values, hook_z), by position."""
    length = corrupted_tokens.shape[1]
    chosen = nodes("head", position="each").of(model, length)
    chosen = tuple(sorted(chosen, key=lambda n: (n.layer, n.position, n.head)))
    values = act_patch(model, corrupted_tokens, clean_cache, patching_metric, chosen)
    return values.view(-1, length, len(values) // length // len({n.layer for n in chosen}))


def _by_pos(
    model: Any,
    tokens: Int[Tensor, "batch pos"],
    cache: Cache,
    metric: AnyMetric,
    component: str,
) -> Float[Tensor, "layer pos"]:
    at = nodes(component, position="each")
    return act_patch(model, tokens, cache, metric, at).view(-1, tokens.shape[1])
