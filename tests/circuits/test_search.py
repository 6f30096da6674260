"""Circuits that are enough, on a model where only some edges can matter; overlap and chance."""

import math
from typing import Any

import pytest
import torch
from circuits.test_edges import KEYS, ROWS, TOKENS, P, difference, small

from mechgrok import circuits


@pytest.fixture(scope="module")
def runs() -> circuits.Contrast:
    """Heads 0 and 1 write nothing, so that only what heads 2 and 3 carry can matter."""
    model = small()
    with torch.no_grad():
        model.blocks[0].attn.W_O[:2] = 0
    graph = circuits.graph(model)
    return circuits.contrast(model, graph, TOKENS, TOKENS[ROWS], difference(ROWS))


@pytest.fixture(scope="module")
def exact(runs: circuits.Contrast) -> torch.Tensor:
    return circuits.effects_of(runs, ["exact"], 1)["exact"]


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def silent(edge: circuits.Edge) -> bool:
    return any(x.component.head in (0, 1) for x in (edge.source, edge.target))


def test_silent_heads_have_no_effect_and_are_not_in_the_circuit(
    runs: circuits.Contrast, exact: torch.Tensor
) -> None:
    edges = runs.graph.edges
    for edge, effect in zip(edges, exact.tolist(), strict=True):
        assert not silent(edge) or effect == pytest.approx(0, abs=1e-12)
    found = circuits.by_threshold(edges, exact, 1e-9)
    assert found
    assert not any(map(silent, found))
    assert circuits.faithfulness(runs, found) == pytest.approx(1, abs=1e-9)
    judged = circuits.judge(runs, found, 30, chance())
    assert judged.complement == pytest.approx(0, abs=1e-9)
    assert len(judged.minimality) == judged.size == len(found)
    assert {name: len(draws) for name, draws in judged.random.items()} == {
        "uniform": 30,
        "matched": 30,
    }
    assert min(abs(x - 1) for draws in judged.random.values() for x in draws) > 1e-3


def test_greedy_keeps_the_target_and_drops_what_is_idle(
    runs: circuits.Contrast, exact: torch.Tensor
) -> None:
    edges = runs.graph.edges
    found = circuits.greedy([runs], edges, exact, 0.95)
    assert circuits.faithfulness(runs, found) >= 0.95
    assert not any(map(silent, found))
    assert len(found) < len(circuits.by_threshold(edges, exact, 1e-9))
    for edge in found:  # minimal: it would have dropped each edge that it could
        rest = [e for e in found if e != edge]
        assert circuits.faithfulness(runs, rest) < 0.95 or edge == found[-1]
    with pytest.raises(ValueError, match=r"below 0\.9"):
        circuits.greedy([runs], [], exact, 0.9)


def test_minimality_is_what_an_edge_adds(runs: circuits.Contrast, exact: torch.Tensor) -> None:
    found = circuits.strongest(runs.graph.edges, exact, 8)
    judged = circuits.judge(runs, found, 1, chance())
    for edge, lost in zip(found, judged.minimality, strict=True):
        without = circuits.faithfulness(runs, [e for e in found if e != edge])
        assert judged.faithfulness - without == pytest.approx(lost, abs=1e-12)


def test_the_strongest_edges_are_the_largest_in_the_graph_s_order() -> None:
    edges = circuits.graph(small()).edges
    scores = torch.zeros(len(edges), dtype=torch.float64)
    scores[5], scores[2], scores[9] = -3.0, 2.0, 1.0
    assert circuits.strongest(edges, scores, 2) == (edges[2], edges[5])
    assert circuits.by_threshold(edges, scores, 1.0) == (edges[2], edges[5], edges[9])
    with pytest.raises(ValueError, match=r"0\.\.23"):
        circuits.strongest(edges, scores, 24)
    with pytest.raises(ValueError, match="more than 0"):
        circuits.by_threshold(edges, scores, 0.0)


def test_random_circuits_match_size_and_kind() -> None:
    graph = circuits.graph(small(), p=P, keys=KEYS)
    found = graph.edges[::3]
    kinds = sorted(e.kind for e in found)
    matched = circuits.random_circuit(graph, found, "matched", chance())
    assert sorted(e.kind for e in matched) == kinds
    assert len(set(matched)) == len(found)
    assert set(matched) != set(found)
    uniform = circuits.random_circuit(graph, found, "uniform", chance())
    assert len(set(uniform)) == len(found)
    assert sorted(e.kind for e in uniform) != kinds
    with pytest.raises(ValueError, match="expected one of"):
        circuits.random_circuit(graph, found, "any", chance())


def test_equal_runs_and_foreign_edges_are_refused(runs: circuits.Contrast) -> None:
    model = small()
    graph = circuits.graph(model)
    same = circuits.contrast(model, graph, TOKENS, TOKENS, difference(ROWS))
    with pytest.raises(circuits.SameRuns, match="both have logit_diff"):
        circuits.faithfulness(same, graph.edges)
    foreign = circuits.graph(model, p=P, keys=KEYS).edges[:2]
    with pytest.raises(ValueError, match="not in the graph"):
        circuits.judge(runs, foreign, 1, chance())
    with pytest.raises(ValueError, match="0 edges"):
        circuits.judge(runs, [], 1, chance())


def test_overlap_of_edges_and_frequencies_is_hypergeometric() -> None:
    graph = circuits.graph(small())
    one, other = graph.edges[:4], graph.edges[2:8]
    found = circuits.edge_overlap(graph, one, other)
    assert (found.shared, found.sizes, found.of) == (2, (4, 6), 23)
    assert found.expected == pytest.approx(4 * 6 / 23)
    ways = sum(math.comb(6, k) * math.comb(17, 4 - k) for k in (2, 3, 4))
    assert found.p_value == pytest.approx(ways / math.comb(23, 4))
    keys = circuits.frequency_overlap((2, 8, 14), (14, 2), 113)
    assert (keys.shared, keys.of) == (2, 56)
    assert keys.p_value == pytest.approx(math.comb(54, 1) / math.comb(56, 3))
    with pytest.raises(ValueError, match=r"1\.\.56"):
        circuits.frequency_overlap((57,), (1,), 113)


def test_directions_against_random_subspaces() -> None:
    draw = torch.Generator().manual_seed(0)

    def rows(*shape: int) -> Any:
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    basis = rows(3, 40)
    one, other = rows(200, 3) @ basis, rows(200, 3) @ basis
    same = circuits.direction_overlap(one, other, 3, chance())
    assert same.overlap == pytest.approx(1)
    assert float(same.angles.max()) < 1e-6
    assert same.p_value == pytest.approx(1 / 101)
    apart = circuits.direction_overlap(one, rows(200, 40), 3, chance())
    assert apart.p_value > 0.01
    # a random 3-dimensional subspace of 40 holds 3/40 of any direction
    assert float(apart.random.mean()) == pytest.approx(3 / 40, abs=0.015)
    with pytest.raises(ValueError, match="vary in 3 directions"):
        circuits.direction_overlap(one, other, 4, chance())
