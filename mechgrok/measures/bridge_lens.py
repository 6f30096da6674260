"""Whether a two-hop model's states decode to the bridge entity: the published logit lens.

Circuit measure of arXiv 2601.09049 (He et al. 2026): every state is unembedded as it is, and the
bridge b of a query (h, r1, r2) counts as found where it is the argmax token of any stage at any
position. With many places and few entities that happens by chance, so every rate stands beside
that of other items' bridges on the same decoded tokens (Hewitt and Liang 2019, arXiv 1909.03368).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechgrok.measures import _stages, _two_hop
from mechgrok.measures._modular import Subject, report, typed_absence
from mechgrok.measures.two_hop_cells import cell
from mechgrok.runs.result import NotApplicable, Result, Value

SUBJECT: Final = "checkpoint"


@dataclass(frozen=True)
class BridgeLens:
    """What was decoded, by item and by place; an item is trivial if its bridge is h or t."""

    found: Bool[Tensor, " items"]
    """The bridge is decoded at some stage and position, trivial items included, as published."""
    target_found: Bool[Tensor, " items"]
    """The same of the target."""
    trivial: Bool[Tensor, " items"]
    """The bridge is the query's own head or its target, so that finding it says nothing."""
    control: Float[Tensor, " items"]
    """Chance that another item's bridge, other than b, h and t, is found; 0 for trivial items."""
    rate: Float[Tensor, "stages pos"]
    """Share of non-trivial items whose bridge is decoded at a place."""
    control_rate: Float[Tensor, "stages pos"]
    """The same of other items' bridges."""

    @property
    def excess(self) -> Float[Tensor, " kept"]:
        """Found minus control, of every non-trivial item."""
        return (self.found.double() - self.control)[~self.trivial]


def bridge_lens(
    decoded: Int[Tensor, "items stages pos"],
    head: Int[Tensor, " items"],
    bridge: Int[Tensor, " items"],
    target: Int[Tensor, " items"],
) -> BridgeLens:
    """Bridges and targets among the decoded tokens; all entities as token ids.

    The control is exact: the mean over every other non-trivial item's bridge that differs from the
    item's own b, h and t, instead of one random draw. Raises ValueError where an item has no such,
    and where every item is trivial.
    """
    trivial = (bridge == head) | (bridge == target)
    kept = (~trivial).nonzero()[:, 0]
    if not len(kept):
        raise ValueError(f"all of {len(trivial)} bridges are the item's own head or target")
    hit = decoded == bridge[:, None, None]
    chance, anywhere = _others(decoded[kept], head[kept], bridge[kept], target[kept])
    control = torch.zeros(len(decoded), dtype=torch.float64, device=decoded.device)
    control[kept] = anywhere
    return BridgeLens(
        found=hit.any(dim=(1, 2)),
        target_found=(decoded == target[:, None, None]).any(dim=(1, 2)),
        trivial=trivial,
        control=control,
        rate=hit[kept].double().mean(dim=0),
        control_rate=chance,
    )


def _others(
    decoded: Int[Tensor, "items stages pos"],
    head: Int[Tensor, " items"],
    bridge: Int[Tensor, " items"],
    target: Int[Tensor, " items"],
) -> tuple[Float[Tensor, "stages pos"], Float[Tensor, " items"]]:
    """Chance that another bridge is decoded: at every place, and anywhere, by item."""
    own = torch.stack([bridge, head, target], dim=1)
    n_tokens = int(max(decoded.max(), own.max())) + 1
    count = torch.bincount(bridge, minlength=n_tokens).double()
    # h may be t: counted once
    left = len(bridge) - count[own].sum(dim=1) + count[head] * (head == target)
    if not bool((left > 0).all()):
        raise ValueError("an item has no other bridge to compare with; give more items")
    is_own = (decoded[..., None] == own[:, None, None, :]).any(dim=-1)
    share = torch.where(is_own, 0, count[decoded]) / left[:, None, None]
    ordered, index = decoded.flatten(1).sort(dim=1)
    repeated = torch.zeros_like(ordered, dtype=torch.bool)
    repeated[:, 1:] = ordered[:, 1:] == ordered[:, :-1]  # a token decoded twice is found once
    distinct = torch.where(repeated, 0, share.flatten(1).gather(1, index))
    return share.mean(dim=0), distinct.sum(dim=1)


def found_by_answer(
    found: Bool[Tensor, " items"], right: Bool[Tensor, " items"]
) -> Int[Tensor, "bridge answer"]:
    """Counts of items: bridge absent or found (rows) by answer wrong or right (columns)."""
    return torch.bincount(2 * found.long() + right.long(), minlength=4).reshape(2, 2)


@typed_absence("bridge_lens", "test_inferred_ood_excess")
def measure(
    checkpoint: Subject, items: int = _two_hop.ITEMS, norm: str = "final", seed: int = 0
) -> Result:
    """Bridge and target found beside exact match, of every kind of two-hop query.

    Options: items (most queries of a kind, drawn by seed), norm ("final": every stage of a
    transformer passes its final normalisation; "last": only the last one does, as published for
    the baseline; a TRM has none).
    """
    task = _two_hop.two_hop_task(checkpoint)
    chosen, names = _stages.stages(checkpoint.model), _two_hop.positions(task)
    rows, groups = _two_hop.places_of(_two_hop.two_hop_kinds(task, items, seed))
    of = _two_hop.queries(task, rows)
    tokens = of.tokens.to(_two_hop.device_of(checkpoint))
    decoded = _stages.decoded(checkpoint.model, chosen, tokens, len(names), norm).cpu()
    answers = _two_hop.answers(checkpoint, rows)
    right = torch.stack([answers.exact, answers.target])
    first = "test_inferred_ood"
    groups = {first: groups[first], **groups} if first in groups else groups
    values: dict[str, Value] = {}
    arrays: dict[str, Tensor] = {}
    for name, at in groups.items():
        found = _of_kind(decoded[at], of[at], right[:, at], chosen, names, seed)
        values |= {f"{name}_{key}": value for key, value in found[0].items()}
        arrays |= {f"{key} {name}": array for key, array in found[1].items()}
    values |= {"kinds": tuple(groups), **_two_hop.spelled_places(chosen, names)}
    definition = {**DEFINITION, "norm": norm, "selection": f"at most {items} a kind, seed {seed}"}
    return report("bridge_lens", checkpoint, values, definition, arrays)


def _of_kind(
    decoded: Int[Tensor, "items stages pos"],
    of: _two_hop.Queries,
    right: Bool[Tensor, "2 items"],
    chosen: list[_stages.Stage],
    names: tuple[str, ...],
    seed: int,
) -> tuple[dict[str, Value], Mapping[str, Tensor]]:
    """Values and arrays of one kind of query; `right` is exact match and target."""
    exact, target = right
    same: dict[str, Value] = {
        "exact_match": float(exact.double().mean()),
        "target_accuracy": float(target.double().mean()),
        "n": len(decoded),
    }
    try:
        lens = bridge_lens(decoded, of.h, of.b, of.t)
    except ValueError as error:
        absent = NotApplicable(str(error))
        return {"excess": absent, "bridge_found": absent, "target_found": absent, **same}, {}
    kept = ~lens.trivial
    excess = cell(lens.excess, of.second_fact[kept], np.random.default_rng(seed))
    counts = found_by_answer(lens.found, target)
    above = lens.rate - lens.control_rate
    stage, position = divmod(int(above.argmax()), above.shape[1])
    values: dict[str, Value] = {
        "excess": excess.rate,
        "excess_interval_within_run": excess.interval,
        "bridge_found": float(lens.found.double().mean()),
        "target_found": float(lens.target_found.double().mean()),
        **same,
        "bridge_found_not_trivial": float(lens.found[kept].double().mean()),
        "control": float(lens.control[kept].mean()),
        "trivial": int(lens.trivial.sum()),
        "facts": excess.n_facts,
        "right_given_found": _share(counts[1]),
        "right_given_absent": _share(counts[0]),
        "best_excess": float(above.max()),
        "best_stage": chosen[stage].name,
        "best_position": names[position],
    }
    return values, {"rate": lens.rate, "control": lens.control_rate, "counts": counts}


def _share(counts: Int[Tensor, "answer"]) -> Value:
    wrong, right = counts.tolist()
    return right / (wrong + right) if wrong + right else NotApplicable("no such query")


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "argmax of the unembedded state at every stage and position; excess = share of "
    "queries whose bridge is among them minus that of other queries' bridges (other than b, h, t)",
    "centring": "none",
    "split": "as named; two-hop queries; excess and control without those with b = h or b = t",
    "dtype": "states in the model's, shares in float64",
    "interval": "within a run: 95 % bootstrap over hop-2 facts",
}
