"""Which models and patches `prefixes.py` can run; any other goes through the whole forward."""

import inspect
from collections.abc import Sequence
from typing import Any, Final

from mechgrok.interventions.node import Node
from mechgrok.interventions.patches import Variant

ENTRY: Final = frozenset(["embed", "pos_embed"])
BETWEEN: Final = frozenset(["resid_pre", "resid_post"])
TO_KEYS: Final = frozenset(["attn_in", "k_input", "v_input", "attn.k", "attn.v"])
"""Hook points that the keys and values of a position depend on."""
WITHIN: Final = TO_KEYS | frozenset(
    ["attn.q", "attn.z", "attn.result", "q_input", "mlp_in", "mlp.pre", "mlp.post"]
)
"""Hook points patched by a hook in the block."""
ADDED: Final = frozenset(["attn_out", "resid_mid", "mlp_out"])
"""Hook points at which a patched row need not pass the part of the block before."""


def applies(model: Any, variants: Sequence[Variant]) -> bool:
    """Whether these variants can run here: a causal model that can start at a layer and take past
    keys, no other hook attached, and patches at hook points whose place in a block is known."""
    if has_hooks(model) or not _starts_anywhere(type(model)):
        return False
    cfg = model.cfg
    if cfg.attention_dir != "causal" or cfg.positional_embedding_type != "standard":
        return False
    known = all(_known(model, patch.node) for variant in variants for patch in variant)
    return known and all(map(_apart, variants))


def has_hooks(model: Any) -> bool:
    """Whether any hook is attached at a hook point, or to any module."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, kind) for module in model.modules() for kind in kinds)


def _starts_anywhere(kind: type) -> bool:
    """Whether a class, or one it is derived from, has a forward with the arguments used here."""
    needed = {"start_at_layer", "stop_at_layer", "past_kv_cache"}
    forwards = [vars(base)["forward"] for base in kind.__mro__ if "forward" in vars(base)]
    return any(needed <= set(inspect.signature(forward).parameters) for forward in forwards)


def _known(model: Any, node: Node) -> bool:
    if node.component in ENTRY:
        return True
    if node.component in ADDED and f"blocks.{node.layer}.hook_resid_mid" not in model.hook_dict:
        return False
    return node.layer is not None and node.component in BETWEEN | WITHIN | ADDED


def _apart(variant: Variant) -> bool:
    """Whether no row that joins late is patched a second time in the same block and position."""
    inside = [p for p in variant if p.node.component in WITHIN | ADDED]
    return not any(
        one is not other
        and one.node.layer == other.node.layer
        and (other.node.position is None or one.touches(other.node.position))
        for one in inside
        if one.node.component in ADDED
        for other in inside
    )
