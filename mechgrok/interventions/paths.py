"""Path patching: the effect of a sender on a receiver along the direct path alone.

Wang et al. 2022 (arXiv 2211.00593, appendix B); Goldowsky-Dill et al. 2023 (arXiv 2304.05969). In
the clean run the senders are set to their corrupted values while the outputs of all other
components stay clean; the receivers' inputs of that run are then set in a run that is otherwise
free. Residual streams and normalisations between the two follow, so nothing about them is assumed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from jaxtyping import Int
from torch import Tensor

from mechgrok.interventions import patches
from mechgrok.interventions.ablation import record
from mechgrok.interventions.node import Node, Nodes, resolve
from mechgrok.interventions.patches import Patch, patches_from
from mechgrok.interventions.patching import Patched, metric_name
from mechgrok.interventions.variants import AnyMetric, measure

FLAGS: Final[Mapping[str, str]] = {
    "q_input": "use_split_qkv_input",
    "k_input": "use_split_qkv_input",
    "v_input": "use_split_qkv_input",
    "mlp_in": "use_hook_mlp_in",
    "attn_in": "use_attn_in",
    "attn.result": "use_attn_result",
}
"""TransformerLens's settings without which a hook point never fires; on for as long as needed."""


def path_patch(
    model: Any,
    senders: Nodes,
    receivers: Nodes,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "_ _"],
    metric: AnyMetric,
    *,
    frozen: Nodes = "z,mlp_out",
) -> Patched:
    """The clean run with only the direct path from senders to receivers corrupted (noising).

        mg.path_patch(model, mg.nodes("head", layer=0), mg.nodes("mlp_in", layer=0), ...)

    Receivers are inputs: q_input, k_input, v_input (per head), mlp_in, or resid_post of the last
    layer for the direct path to the logits. One value for each receiver, from all senders at once;
    `effect` is the damage. `frozen` are the outputs that stay clean. Swap clean and corrupted for
    denoising. Raises ValueError for a receiver that comes before every sender.
    """
    if clean.shape != corrupted.shape:
        raise ValueError(f"clean {list(clean.shape)} and corrupted {list(corrupted.shape)} differ")
    length = clean.shape[1]
    sending, receiving = (resolve(model, x, length) for x in (senders, receivers))
    if not sending or not receiving:
        raise ValueError("got no senders or no receivers; there is no path")
    if any(node.freq is not None for node in receiving):
        raise ValueError("a receiver takes its whole input; give the frequency to the sender")
    others = [x for x in resolve(model, frozen, length) if not _inside(x, sending)]
    others += [Node(x.hook, x.component, x.layer, x.cycle) for x in sending]
    with flags_on(model, [*sending, *receiving]):
        _check_order(model, clean, sending, receiving)
        still = patches_from(model, others, clean, clean)
        sent = patches_from(model, sending, corrupted, clean, grid=clean)
        with model.hooks(fwd_hooks=patches.hooks([*still, *sent])):
            arrived = record(model, clean, receiving)
        paths = [[Patch(node, node.read(arrived[node.hook]))] for node in receiving]
        own, *values = measure(model, clean, [[], *paths], metric)
        both = (float(own), float(measure(model, corrupted, [[]], metric)[0]))
    return Patched(receiving, torch.stack(values), *both, len(clean), metric_name(metric), "noise")


@contextmanager
def flags_on(model: Any, at: Sequence[Node]) -> Iterator[None]:
    """The model with the settings that the nodes' hook points need; restored on leaving."""
    needed = {FLAGS[node.component] for node in at if node.component in FLAGS}
    old = {name: getattr(model.cfg, name) for name in needed if hasattr(model.cfg, name)}
    try:
        for name in old:
            setattr(model.cfg, name, True)
        yield
    finally:
        for name, value in old.items():
            setattr(model.cfg, name, value)


def _inside(node: Node, senders: Sequence[Node]) -> bool:
    """Whether an output belongs to the same attention or MLP as a sender, which it would hide."""
    return any(
        (node.layer, node.cycle, _part(node)) == (sender.layer, sender.cycle, _part(sender))
        for sender in senders
    )


def _part(node: Node) -> str:
    if node.component.startswith("attn"):
        return "attention"
    return "mlp" if node.component.startswith("mlp") else node.component


def _check_order(
    model: Any,
    tokens: Int[Tensor, "batch pos"],
    senders: Sequence[Node],
    receivers: Sequence[Node],
) -> None:
    """Raise ValueError unless every receiver is reached after some sender."""
    order: list[str] = []

    def note(name: str) -> Callable[..., None]:
        return lambda activation, hook: order.append(name)

    names = list(dict.fromkeys(node.hook for node in (*senders, *receivers)))
    with torch.no_grad(), model.hooks(fwd_hooks=[(name, note(name)) for name in names]):
        model(tokens[:1])
    first = min(order.index(node.hook) for node in senders)
    early = [node.name for node in receivers if order.index(node.hook) < first]
    if early:
        raise ValueError(f"receivers {early} come before every sender; swap them")
