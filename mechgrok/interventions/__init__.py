"""What a model does when parts of it are changed, by hook name, for any hooked model.

    mg.nodes          addresses: component, layer, head, position, neurons, cycle, frequency
    mg.ablate         with mg.ablate(model, nodes, kind="mean"): ..., or zero, resample,
                      counterfactual
    edit_frequencies  remove, keep or scale frequencies of any activation inside a `with`
    mg.patch          each node from the clean run into the corrupted one, or the other way round
    causal_trace      the same from a run with noise on its embedding
    mg.path_patch     only the direct path from senders to receivers
    metric            logit_diff, correct_minus_mean, loss, accuracy, margin
    mg.transplant     weights of another model, as long as a `with` lasts: units closed under the
                      gauges of heads and neurons, and the groups embedding and body
    mg.patch_across   each node of a donor in a recipient, beside null donors
    get_act_patch_*   TransformerLens's grids, faster; act_patch for any set of nodes
    changed_operand, derangement   which rows to corrupt with

Nothing outlives its `with` or call, also after an exception.
"""

from mechgrok.interventions.ablation import ablate, ablate_frequencies
from mechgrok.interventions.across import Across, patch_across
from mechgrok.interventions.corruption import changed_operand, derangement
from mechgrok.interventions.frequencies import edit_frequencies
from mechgrok.interventions.grids import (
    act_patch,
    get_act_patch_attn_head_out_by_pos,
    get_act_patch_attn_out,
    get_act_patch_mlp_out,
    get_act_patch_resid_mid,
    get_act_patch_resid_pre,
)
from mechgrok.interventions.metrics import Metric, metric
from mechgrok.interventions.node import Node, nodes
from mechgrok.interventions.patching import Patched, causal_trace, patch
from mechgrok.interventions.paths import path_patch
from mechgrok.interventions.transplant import Transplant, transplant
from mechgrok.interventions.weight_parts import Part

__all__ = [
    "Across",
    "Metric",
    "Node",
    "Part",
    "Patched",
    "Transplant",
    "ablate",
    "ablate_frequencies",
    "act_patch",
    "causal_trace",
    "changed_operand",
    "derangement",
    "edit_frequencies",
    "get_act_patch_attn_head_out_by_pos",
    "get_act_patch_attn_out",
    "get_act_patch_mlp_out",
    "get_act_patch_resid_mid",
    "get_act_patch_resid_pre",
    "metric",
    "nodes",
    "patch",
    "patch_across",
    "path_patch",
    "transplant",
]
