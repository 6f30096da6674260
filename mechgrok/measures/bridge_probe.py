"""Whether the bridge entity can be read off a two-hop model's states by a linear map of its own.

The logit lens sees a bridge only in the directions of the unembedding; a probe is fitted to each
stage and position (Alain and Bengio 2016, arXiv 1610.01644). It is tested on items none of whose
two facts it was fitted on, and stands beside a control task of equal form whose labels mean
nothing: selectivity is the difference of the accuracies (Hewitt and Liang 2019, arXiv 1909.03368).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechgrok.measures import _stages, _two_hop
from mechgrok.measures._modular import DoesNotApply, Subject, report, typed_absence
from mechgrok.measures.two_hop_cells import cell
from mechgrok.runs.result import Result, Value
from mechgrok.tasks import composition

SUBJECT: Final = "checkpoint"
RIDGE: Final = 0.01
"""Penalty, in units of the variance of a standardised feature."""
HELD_OUT: Final = 0.3
"""Share of the hop-1 facts, and of the hop-2 facts, that the probe is not fitted on."""


@dataclass(frozen=True)
class BridgeProbe:
    """Whether the probes of both tasks are right, item by item."""

    right: Bool[Tensor, "items places"]
    """The bridge is read off."""
    control: Bool[Tensor, "items places"]
    """The control label is."""

    def accuracy(self, rows: Int[Tensor, " _"]) -> Float[Tensor, " places"]:
        """Fraction right of the bridge, over some items."""
        return self.right[rows].double().mean(dim=0)

    def selectivity(self, rows: Int[Tensor, " _"]) -> Float[Tensor, " places"]:
        """Accuracy minus the control's."""
        return self.accuracy(rows) - self.control[rows].double().mean(dim=0)


def bridge_probe(
    states: Float[Tensor, "items places d_model"],
    bridge: Int[Tensor, " items"],
    control: Int[Tensor, " items"],
    fit: Int[Tensor, " fit"],
    *,
    ridge: float = RIDGE,
) -> BridgeProbe:
    """Linear probes for the bridge and for the control label, fitted on the items `fit`.

    Least squares on centred one-hot labels with a ridge penalty, in closed form: no seed, no
    stopping rule, the same map for both tasks. Raises ValueError for no items to fit on, and for a
    penalty that is not positive.
    """
    if not len(fit) or ridge <= 0:
        raise ValueError(f"got {len(fit)} items to fit on, ridge={ridge}; expected both above 0")
    tasks = (bridge, control)
    targets = [labels[fit].unique(return_inverse=True) for labels in tasks]
    one_hot = [torch.nn.functional.one_hot(index).double() for _, index in targets]
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    for place in states.unbind(dim=1):
        scores = _least_squares(place, fit, torch.cat(one_hot, dim=1), ridge)
        parts = scores.split([y.shape[1] for y in one_hot], dim=1)
        for right, labels, part, (classes, _) in zip(found, tasks, parts, targets, strict=True):
            right.append(classes[part.argmax(dim=1)] == labels)
    return BridgeProbe(*(torch.stack(right, dim=1) for right in found))


def _least_squares(
    x: Float[Tensor, "items d_model"],
    fit: Int[Tensor, " fit"],
    y: Float[Tensor, "fit classes"],
    ridge: float,
) -> Float[Tensor, "items classes"]:
    """Predictions for all items of a ridge regression on some; features standardised on those.

    A feature that is constant there is left out: what it does elsewhere was never seen.
    """
    mean, std = x[fit].double().mean(dim=0), x[fit].double().std(dim=0, correction=0)
    varies = std > 1e-6 * std.max()
    z = torch.where(varies, (x.double() - mean) / torch.where(varies, std, 1), 0)
    own = z[fit]
    gram = own.T @ own / len(fit)
    gram.diagonal().add_(ridge)
    weights = torch.linalg.solve(gram, own.T @ (y - y.mean(dim=0)) / len(fit))
    return z @ weights + y.mean(dim=0)


def shuffled_bridges(
    fact: Int[Tensor, " items"], bridge: Int[Tensor, " items"], generator: torch.Generator
) -> Int[Tensor, " items"]:
    """Labels of the control task: each hop-1 fact gets the bridge of a randomly drawn other one.

    A function of the fact, as often each entity as in the bridges of the facts, so a probe that
    only remembers facts does as well on it. `fact` numbers (h, r1).
    """
    facts, index = fact.unique(return_inverse=True)
    of_fact = torch.empty_like(facts).scatter_(0, index, bridge)
    order = torch.randperm(len(facts), generator=generator).to(fact.device)
    return of_fact[order][index]


def split_by_fact(
    first: Int[Tensor, " items"],
    second: Int[Tensor, " items"],
    generator: torch.Generator,
    held_out: float = HELD_OUT,
) -> tuple[Int[Tensor, " fit"], Int[Tensor, " held"]]:
    """Items to fit on, and items of which neither fact is a fact of those; the others are unused.

    Raises ValueError where either is empty.
    """
    kept = [_kept(facts, generator, held_out) for facts in (first, second)]
    fit, held = kept[0] & kept[1], ~(kept[0] | kept[1])
    if not fit.any() or not held.any():
        raise ValueError(
            f"{int(fit.sum())} items to fit on and {int(held.sum())} to test on, of {len(fit)}; "
            f"give more items"
        )
    return fit.nonzero()[:, 0], held.nonzero()[:, 0]


def _kept(fact: Tensor, generator: torch.Generator, held_out: float) -> Tensor:
    facts, index = fact.unique(return_inverse=True)
    n = round(held_out * len(facts))
    kept = torch.ones(len(facts), dtype=torch.bool)
    kept[torch.randperm(len(facts), generator=generator)[:n]] = False
    return kept.to(fact.device)[index]


@typed_absence("bridge_probe", "ood_selectivity")
def measure(
    checkpoint: Subject, items: int = _two_hop.ITEMS, ridge: float = RIDGE, seed: int = 0
) -> Result:
    """Probe for the bridge at every stage and position; headline its selectivity on OOD queries,
    at the place that is best on held-out facts.

    Options: items (most queries of training, split by fact, and of each test), ridge (penalty),
    seed (of the draws).
    """
    task = _two_hop.two_hop_task(checkpoint)
    chosen, names = _stages.stages(checkpoint.model), _two_hop.positions(task)
    chance = torch.Generator().manual_seed(seed)
    of, sets = _items(task, items, seed, chance)
    control = shuffled_bridges(of.first_fact, of.b, chance)
    right: list[BridgeProbe] = []
    for part in _stages.together(checkpoint.model, chosen, len(of), len(names)):
        tokens = of.tokens.to(_two_hop.device_of(checkpoint))
        found = _stages.stacked(checkpoint.model, part, tokens, len(names)).flatten(1, 2)
        right.append(bridge_probe(found, of.b, control, sets["fit"], ridge=ridge))
    probe = BridgeProbe(
        torch.cat([p.right for p in right], dim=1), torch.cat([p.control for p in right], dim=1)
    )
    shape = (len(chosen), len(names))
    best = int(probe.selectivity(sets["held_out"]).argmax())
    values = _values(probe, best, of, sets, seed)
    values |= {"stage": chosen[best // shape[1]].name, "position": names[best % shape[1]]}
    values |= _two_hop.spelled_places(chosen, names)
    arrays = {}
    for name, rows in sets.items():
        arrays[f"accuracy {name}"] = probe.accuracy(rows).reshape(shape)
        arrays[f"selectivity {name}"] = probe.selectivity(rows).reshape(shape)
    settings = f"at most {items} queries of training and of each test, ridge {ridge}, seed {seed}"
    return report("bridge_probe", checkpoint, values, {**DEFINITION, "selection": settings}, arrays)


def _items(
    task: composition.Task, items: int, seed: int, chance: torch.Generator
) -> tuple[_two_hop.Queries, dict[str, Int[Tensor, " _"]]]:
    """Queries, and which of them are fitted on, held out by fact, and tested."""
    tags, train = task.tags, task.splits["train"]
    known = (tags["kind"] == 1) & (tags["first_ood"] == 0) & (tags["second_ood"] == 0)
    trained = _two_hop.sample(train[known[train]], items, seed)
    if "test_inferred_ood" not in task.splits or not len(trained):
        raise DoesNotApply("the task trains on no two-hop query, or has no test_inferred_ood")
    ood = _two_hop.sample(task.splits["test_inferred_ood"], items, seed)
    of = _two_hop.queries(task, torch.cat([trained, ood]))
    n = len(trained)
    fit, held = split_by_fact(of.first_fact[:n], of.second_fact[:n], chance)
    return of, {"ood": torch.arange(n, len(of)), "held_out": held, "fit": fit}


def _values(
    probe: BridgeProbe,
    place: int,
    of: _two_hop.Queries,
    sets: Mapping[str, Int[Tensor, " _"]],
    seed: int,
) -> dict[str, Value]:
    """Of one place: both tasks on every set."""
    values: dict[str, Value] = {}
    for name, rows in sets.items():
        above = probe.right[rows, place].double() - probe.control[rows, place].double()
        found = cell(above, of.first_fact[rows], np.random.default_rng(seed))
        values |= {
            f"{name}_selectivity": found.rate,
            f"{name}_selectivity_interval_within_run": found.interval,
            f"{name}_accuracy": float(probe.accuracy(rows)[place]),
            f"{name}_control_accuracy": float(probe.control[rows, place].double().mean()),
            f"{name}_n": found.n,
            f"{name}_facts": found.n_facts,
        }
    return values


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "ridge regression on one-hot labels of the bridge, one per stage and position; "
    "control: the bridge of another hop-1 fact, one for each; selectivity = accuracy - control's",
    "centring": "features standardised, labels centred, on the queries fitted on",
    "split": "fit: training queries of in-distribution facts; held_out: such queries none of whose "
    "facts is in a fitted one; ood: test_inferred_ood",
    "dtype": "states in the model's, regression in float64",
    "place": "of most selectivity on held_out; ood is judged there",
    "interval": "within a run: 95 % bootstrap over hop-1 facts",
}
