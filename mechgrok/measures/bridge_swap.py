"""Whether a two-hop model uses the bridge: its state is swapped for that of another bridge.

Interchange intervention (Geiger et al. 2021, arXiv 2106.02997): a state of the query (h, r1, r2) is
replaced by the same state of a donor (h', r1', r2') with another bridge b'. If that state holds the
bridge and the second hop reads it, the answer becomes (b', r2), which is neither the query's answer
nor the donor's. Controls: a donor with the same bridge and another head, after which the answer
stays; and any other entity in the place of b'.
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
from mechgrok.measures.bridge_tracing import ITEMS, draw
from mechgrok.measures.two_hop_cells import cell
from mechgrok.runs.result import Result, Value
from mechgrok.tasks import composition

SUBJECT: Final = "checkpoint"
POOL: Final = 3000
"""Most queries that donors are drawn from."""
WHOLE: Final = "all"
"""In the place of a position's name: the states of all positions at once."""
OUTCOMES: Final = ("stays", "interchange", "donor", "other")
"""Of an answer: the query's own t, (b', r2), the donor's own (b', r2'), or anything else."""


@dataclass(frozen=True)
class BridgeSwap:
    """What every answer became, by stage, position and item."""

    outcome: Int[Tensor, "stages pos items"]
    """Place in OUTCOMES."""
    random_bridge: Float[Tensor, "stages pos items"]
    """Chance that the answer is (b'', r2) for a random other entity b''."""

    def share(self, outcome: str) -> Float[Tensor, "stages pos"]:
        """Share of items with an outcome; that of "interchange" is interchange accuracy."""
        return (self.outcome == OUTCOMES.index(outcome)).double().mean(dim=-1)

    @property
    def excess(self) -> Float[Tensor, "stages pos items"]:
        """1 for an interchange, minus its chance with random bridges."""
        return (self.outcome == OUTCOMES.index("interchange")).double() - self.random_bridge


def bridge_swap(
    answers: Int[Tensor, "stages pos items"],
    query: Int[Tensor, "items 3"],
    donor: Int[Tensor, "items 3"],
    table: Int[Tensor, "entities relations"],
) -> BridgeSwap:
    """What answers became when a donor's state was copied in at every stage and position.

    Queries (h, r1, r2), answers and the `table` of tails (-1: no fact) number entities from 0.
    Raises ValueError for a donor with which the three answers are not distinct, as the outcome
    could not be told, and for a query without another bridge to compare with.
    """
    wanted = torch.stack([_tail(table, query), _swapped(table, query, donor), _tail(table, donor)])
    same = (wanted[0] == wanted[1]) | (wanted[1] == wanted[2]) | (wanted[0] == wanted[2])
    if bool((same | (wanted < 0).any(dim=0)).any()):
        raise ValueError("a donor's answers are not distinct or do not exist; draw with `donors`")
    outcome = torch.full_like(answers, OUTCOMES.index("other"))
    for i, answer in enumerate(wanted):
        outcome[answers == answer] = i
    return BridgeSwap(outcome, _random_bridge(answers, query, donor, table))


def _random_bridge(
    answers: Int[Tensor, "stages pos items"],
    query: Int[Tensor, "items 3"],
    donor: Int[Tensor, "items 3"],
    table: Int[Tensor, "entities relations"],
) -> Float[Tensor, "stages pos items"]:
    """Exact, over every entity but b' whose fact with r2 exists and is not t."""
    bridge = table[donor[:, 0], donor[:, 1]]
    tails = table[:, query[:, 2]].T  # [items, entities]
    every = torch.arange(len(table), device=table.device)
    usable = (every != bridge[:, None]) & (tails >= 0) & (tails != _tail(table, query)[:, None])
    count = usable.sum(dim=1)
    if not bool((count > 0).all()):
        raise ValueError("a query has no other bridge to compare with; give more entities")
    shares = [
        ((row[:, None] == tails) & usable).sum(dim=1).double() / count
        for row in answers.flatten(0, 1)  # one place at a time, since this is items x entities
    ]
    return torch.stack(shares).reshape(answers.shape)


def donors(
    query: Int[Tensor, "items 3"],
    pool: Int[Tensor, "pool 3"],
    table: Int[Tensor, "entities relations"],
    generator: torch.Generator,
    *,
    same_bridge: bool = False,
) -> tuple[Int[Tensor, " items"], Bool[Tensor, " items"]]:
    """For every query a random donor of the pool, and whether there is one (0 where not).

    A donor has another h and r2, and another answer than the query. With `same_bridge` it has the
    query's bridge; otherwise another b' for which (b', r2) exists and is neither's answer.
    """
    bridge, other = table[query[:, 0], query[:, 1]], table[pool[:, 0], pool[:, 1]]
    own, theirs = _tail(table, query)[:, None], _tail(table, pool)[None, :]
    fits = (query[:, None, 0] != pool[None, :, 0]) & (query[:, None, 2] != pool[None, :, 2])
    fits &= own != theirs
    if same_bridge:
        fits &= bridge[:, None] == other[None, :]
    else:
        swapped = table[other[None, :], query[:, 2, None]]
        # another answer under r2, hence another bridge
        fits &= (swapped >= 0) & (swapped != own) & (swapped != theirs)
    return draw(fits, generator), fits.any(dim=1)


def _tail(
    table: Int[Tensor, "entities relations"], query: Int[Tensor, "items 3"]
) -> Int[Tensor, " items"]:
    return table[table[query[:, 0], query[:, 1]], query[:, 2]]


def _swapped(
    table: Int[Tensor, "entities relations"],
    query: Int[Tensor, "items 3"],
    donor: Int[Tensor, "items 3"],
) -> Int[Tensor, " items"]:
    """(b', r2): the donor's bridge under the query's second relation."""
    return table[table[donor[:, 0], donor[:, 1]], query[:, 2]]


@typed_absence("bridge_swap", "excess")
def measure(
    checkpoint: Subject, items: int = ITEMS, split: str = "train_inferred", seed: int = 0
) -> Result:
    """Interchange accuracy at every stage and position, with its controls; headline its excess.

    The place is chosen on one half of the queries and judged on the other.

    Options: items (queries drawn from the split, by seed), split (also of the donors).
    """
    task, model = _two_hop.two_hop_task(checkpoint), checkpoint.model
    chosen, names = _stages.stages(model), (*_two_hop.positions(task), WHOLE)
    facts, chance = _two_hop.facts(task), torch.Generator().manual_seed(seed)
    of, other, same, without = _pairs(task, items, split, seed, chance)
    places = [*range(len(names) - 1), _stages.ALL]
    device = _two_hop.device_of(checkpoint)

    def patched(donor: _two_hop.Queries) -> Int[Tensor, "stages pos items"]:
        rows = (of.tokens.to(device), donor.tokens.to(device))
        return _stages.patched_answers(model, chosen, *rows, places, of.at).cpu() - facts.entity

    try:
        found = bridge_swap(patched(other), of.query, other.query, facts.table)
    except ValueError as error:
        raise DoesNotApply(str(error)) from error
    stays = (patched(same) == _tail(facts.table, of.query)).double()
    choosing, judging = torch.randperm(len(of), generator=chance).tensor_split(2)
    above = found.excess
    stage, position = divmod(int(above[..., choosing].mean(dim=-1).argmax()), len(names))
    excess = cell(
        above[stage, position, judging], of.second_fact[judging], np.random.default_rng(seed)
    )
    there = BridgeSwap(found.outcome[..., judging], found.random_bridge[..., judging])
    values: dict[str, Value] = {
        "excess": excess.rate,
        "excess_interval_within_run": excess.interval,
        **{name: float(there.share(name)[stage, position]) for name in OUTCOMES},
        "random_bridge": float(there.random_bridge[stage, position].mean()),
        "same_bridge_stays": float(stays[stage, position, judging].mean()),
        "stage": chosen[stage].name,
        "position": names[position],
        "n": len(judging),
        "facts": excess.n_facts,
        "n_choosing": len(choosing),
        "without_donor": without,
        "target_accuracy": float(_two_hop.answers(checkpoint, of.rows).target.double().mean()),
        **_two_hop.spelled_places(chosen, names),
    }
    arrays = {name: found.share(name) for name in OUTCOMES}
    arrays |= {
        "random_bridge": found.random_bridge.mean(dim=-1),
        "excess": above.mean(dim=-1),
        "same_bridge_stays": stays.mean(dim=-1),
    }
    settings = f"{items} queries drawn by seed {seed}"
    definition = {**DEFINITION, "split": split, "selection": settings}
    return report("bridge_swap", checkpoint, values, definition, arrays)


def _pairs(
    task: composition.Task, items: int, split: str, seed: int, chance: torch.Generator
) -> tuple[_two_hop.Queries, _two_hop.Queries, _two_hop.Queries, int]:
    """Queries, a donor of each with another bridge, one with the same, and how many have none."""
    table = _two_hop.facts(task).table
    pool = _two_hop.of_split(task, split, POOL, seed)
    of = _two_hop.of_split(task, split, items, seed)
    other, has = donors(of.query, pool.query, table, chance)
    same, has_same = donors(of.query, pool.query, table, chance, same_bridge=True)
    both = has & has_same
    if int(both.sum()) < 2:
        raise DoesNotApply(f"{int(both.sum())} of {len(of)} queries have donors of both kinds")
    return of[both], pool[other[both]], pool[same[both]], int((~both).sum())


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "share of queries (h, r1, r2) whose answer becomes (b', r2) when one state of the "
    "run of (h', r1', r2') with bridge b' is copied in; excess = that minus the share that equals "
    "(b'', r2) for a random other entity b'' with which that is a fact and not the answer",
    "centring": "none",
    "dtype": "forward in the model's, shares in float64",
    "donors": "random queries of the same split with another h, r2 and answer; (b', r2) exists and "
    "is neither answer; same_bridge_stays: donors with b' = b",
    "place": "of most excess on one half of the queries, judged on the other",
    "interval": "within a run: 95 % bootstrap over hop-2 facts",
}
