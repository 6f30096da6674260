"""Known answers of the measures of two-hop models, on tokens and states written by hand."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from mechgrok import measures
from mechgrok.measures.bridge_probe import shuffled_bridges, split_by_fact
from mechgrok.measures.bridge_swap import donors
from mechgrok.measures.bridge_tracing import reciprocal_rank, replacements
from mechgrok.runs.result import NotApplicable


@dataclass(frozen=True)
class World:
    """Facts by hand: a table of tails, and every two-hop query it has."""

    table: Tensor
    query: Tensor

    @property
    def bridge(self) -> Tensor:
        """b = (h, r1)."""
        return self.table[self.query[:, 0], self.query[:, 1]]

    @property
    def target(self) -> Tensor:
        """t = (b, r2)."""
        return self.table[self.bridge, self.query[:, 2]]


def world(entities: int = 9, relations: int = 4, missing: int = 5) -> World:
    """Random facts, some of them missing."""
    chance = np.random.default_rng(3)
    table = chance.integers(entities, size=(entities, relations))
    table.flat[chance.choice(table.size, missing, replace=False)] = -1
    found = [
        (h, r1, r2)
        for h in range(entities)
        for r1 in range(relations)
        for r2 in range(relations)
        if table[h, r1] >= 0 and table[table[h, r1], r2] >= 0
    ]
    return World(torch.from_numpy(table), torch.tensor(found))


def two_hop(table: Tensor, h: int, r1: int, r2: int) -> int:
    """(h, r1), and that under r2; -1 where a fact is missing."""
    b = int(table[h, r1])
    return -1 if b < 0 else int(table[b, r2])


def near(value: float, expected: float) -> None:
    """Equal to rounding."""
    assert value == pytest.approx(expected, abs=1e-9)


def check_bridge_lens() -> None:
    decoded = torch.tensor([[[0, 5], [1, 2]], [[3, 1], [1, 1]], [[6, 6], [6, 7]], [[0, 4], [4, 4]]])
    h, b, t = torch.tensor([[0, 1, 2], [3, 4, 5], [6, 6, 7], [0, 1, 8]]).T
    found = measures.bridge_lens(decoded, h, b, t)
    assert found.found.tolist() == [True, False, True, False]
    assert found.target_found.tolist() == [True, False, True, False]
    assert found.trivial.tolist() == [False, False, True, False]
    assert found.control.tolist() == [0, 1, 0, 1]
    near(float(found.excess.mean()), 1 / 3 - 2 / 3)
    assert torch.allclose(found.rate, torch.tensor([[0, 0], [1, 0]]).double() / 3)
    assert torch.allclose(found.control_rate, torch.tensor([[0, 2], [2, 2]]).double() / 3)
    chance = torch.Generator().manual_seed(0)
    drawn = torch.randint(7, (40, 6), generator=chance)
    h, b, t, *places = drawn.T
    written = torch.stack(places, dim=1)[:, None]
    of_all = measures.bridge_lens(written, h, b, t)
    near(float(of_all.control.sum()), sum(_other_bridges(drawn, i) for i in range(40)))
    with pytest.raises(ValueError, match="own head or target"):
        measures.bridge_lens(written, b, b, t)


def _other_bridges(drawn: Tensor, i: int) -> float:
    """Share of the other items' bridges that item i decodes, counted one by one."""
    own, decoded = set(drawn[i, :3].tolist()), set(drawn[i, 3:].tolist())
    if drawn[i, 1] in (drawn[i, 0], drawn[i, 2]):
        return 0.0
    kept = [row for row in drawn.tolist() if row[1] not in (row[0], row[2])]
    others = [row[1] for row in kept if row[1] not in own]
    return sum(other in decoded for other in others) / len(others)


def check_bridge_probe() -> None:
    chance = torch.Generator().manual_seed(0)
    fact = torch.randint(120, (900,), generator=chance)
    second = torch.randint(120, (900,), generator=chance)
    bridge = torch.randint(6, (120,), generator=chance)[fact]
    fit, held = split_by_fact(fact, second, chance)
    for hop in (fact, second):
        assert not set(hop[fit].tolist()) & set(hop[held].tolist())
    assert len(fit) > 300
    assert len(held) > 40
    control = shuffled_bridges(fact, bridge, chance)
    assert len({(int(f), int(c)) for f, c in zip(fact, control, strict=True)}) == len(
        set(fact.tolist())
    )
    directions = torch.randn(6, 40, generator=chance, dtype=torch.float64)
    noise = torch.randn(900, 40, generator=chance, dtype=torch.float64)
    remembered = torch.randn(120, 40, generator=chance, dtype=torch.float64)[fact]
    states = torch.stack([100 + 1e-3 * directions[bridge], noise, remembered], dim=1)
    found = measures.bridge_probe(states, bridge, control, fit)
    near(float(found.accuracy(held)[0]), 1)
    near(float(found.accuracy(fit)[0]), 1)
    remembers = found.control.double()
    assert bool((remembers[held].mean(dim=0) < 0.4).all())
    # what is remembered of single facts fits both tasks and says nothing of other facts
    assert float(found.accuracy(fit)[2]) > 0.6 < float(remembers[fit, 2].mean())
    assert bool((found.accuracy(held)[1:] < 0.4).all())
    assert float(found.selectivity(held)[0]) > 0.6
    assert bool((found.selectivity(held)[1:].abs() < 0.3).all())
    with pytest.raises(ValueError, match="expected both above 0"):
        measures.bridge_probe(states, bridge, control, fit, ridge=0.0)


def check_bridge_tracing() -> None:
    clean, target = torch.tensor([4, 5, 6, 1]), torch.tensor([4, 5, 6, 7])
    answers = torch.tensor([[[4, 5, 6, 7], [4, 9, 9, 7]], [[9, 9, 9, 7], [4, 5, 9, 7]]])
    found = measures.bridge_tracing(clean, {"h": answers}, target)
    assert found.n == 3
    assert torch.allclose(found.flips["h"], torch.tensor([[0, 2], [3, 1]]).double() / 3)
    with pytest.raises(ValueError, match="none of 4"):
        measures.bridge_tracing(clean + 20, {"h": answers}, target)
    of = world()
    known = of.table >= 0
    known[0] = False  # relations of entity 0 are not known facts
    drawn, complete = replacements(of.query, of.table, known, torch.Generator().manual_seed(0))
    assert 0 < int(complete.sum()) < len(complete)
    for i in complete.nonzero()[:, 0].tolist():
        h, r1, r2 = of.query[i].tolist()
        new = {part: int(drawn[part][i]) for part in ("h", "r1", "r2")}
        assert (
            two_hop(of.table, new["h"], r1, r2)
            != of.target[i]
            != two_hop(of.table, h, new["r1"], r2)
        )
        assert two_hop(of.table, h, r1, new["r2"]) != of.target[i]
        assert known[h, new["r1"]]
        assert known[of.bridge[i], new["r2"]]
    ranks = reciprocal_rank(torch.tensor([[3.0, 1.0, 2.0], [0.0, 0.0, 1.0]]), torch.tensor([1, 0]))
    near(float(ranks[0]), 1 / 3)
    near(float(ranks[1]), 1 / 2)


def check_bridge_swap() -> None:
    of, chance = world(), torch.Generator().manual_seed(0)
    chosen, exists = donors(of.query, of.query, of.table, chance)
    query, donor = of.query[exists], of.query[chosen[exists]]
    b = of.table[donor[:, 0], donor[:, 1]]
    swapped, own, theirs = of.table[b, query[:, 2]], of.target[exists], of.target[chosen[exists]]
    assert bool((swapped >= 0).all())
    assert not bool(((swapped == own) | (swapped == theirs) | (own == theirs)).any())
    assert bool((b != of.bridge[exists]).all())
    nobody = torch.full_like(own, 99)
    answers = torch.stack([swapped, theirs, own, nobody]).reshape(2, 2, -1)
    found = measures.bridge_swap(answers, query, donor, of.table)
    for name, place in {
        "interchange": (0, 0),
        "donor": (0, 1),
        "stays": (1, 0),
        "other": (1, 1),
    }.items():
        expected = torch.zeros(2, 2, dtype=torch.float64)
        expected[place] = 1
        assert torch.equal(found.share(name), expected)
    by_chance = [_other_bridge(of, query, int(b[i]), i, int(swapped[i])) for i in range(len(query))]
    near(float(found.random_bridge[0, 0].mean()), sum(by_chance) / len(by_chance))
    near(float(found.excess[0, 0].mean()), 1 - sum(by_chance) / len(by_chance))
    near(float(found.random_bridge[1, 0].sum()), 0)
    same, has = donors(of.query, of.query, of.table, chance, same_bridge=True)
    assert has.any()
    assert torch.equal(of.bridge[same[has]], of.bridge[has])
    assert bool((of.query[same[has], 0] != of.query[has, 0]).all())
    assert bool((of.target[same[has]] != of.target[has]).all())
    with pytest.raises(ValueError, match="not distinct"):
        measures.bridge_swap(answers, query, query, of.table)


def _other_bridge(of: World, query: Tensor, bridge: int, i: int, answer: int) -> float:
    """Share of the other entities whose tail under r2 is the answer, one by one."""
    r2, own = int(query[i, 2]), two_hop(of.table, *query[i].tolist())
    others = [int(of.table[b, r2]) for b in range(len(of.table)) if b != bridge]
    usable = [tail for tail in others if tail not in (-1, own)]
    return sum(tail == answer for tail in usable) / len(usable)


def check_two_hop_cells() -> None:
    right = torch.tensor([True] * 6 + [False] * 4 + [True] * 2)
    fact = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5])
    cells = {
        "all": torch.arange(12),
        "few": fact < 2,
        "none": torch.zeros(12, dtype=torch.bool),
    }
    found = measures.two_hop_cells(right, fact, cells)
    assert list(found) == ["all", "few"]
    near(found["all"].rate, 8 / 12)
    assert (found["all"].n, found["all"].n_facts) == (12, 6)
    assert isinstance(found["all"].interval, tuple)
    low, high = found["all"].interval
    # six facts, four of them right, drawn whole: sixths of a rate
    assert low < 8 / 12 < high
    near(low * 6, round(low * 6))
    assert high - low > 0.5
    assert (found["few"].rate, found["few"].n) == (1, 4)
    assert isinstance(found["few"].interval, NotApplicable)
