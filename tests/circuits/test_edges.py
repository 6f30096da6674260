"""Exact effects are what hooks do; a circuit between all edges and none is the two runs themselves.

Small random models in float64, one and two layers, with and without normalisation.
"""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from mechgrok import circuits, discovery
from mechgrok import interventions as ours
from mechgrok.circuits import cuts
from mechgrok.circuits.graph import LETTERS, Component, Edge, Graph, address
from mechgrok.circuits.streams import Modules
from mechgrok.config import PostLNModel, TransformerModel
from mechgrok.interventions.coverage import has_hooks
from mechgrok.interventions.paths import FLAGS
from mechgrok.maths.pair_terms import split_by_frequency

P = 7
PAIRS = torch.cartesian_prod(torch.arange(P), torch.arange(P))
TOKENS = torch.cat([PAIRS, torch.full((P * P, 1), P)], dim=1)
LABELS = PAIRS.sum(dim=1) % P
KEYS = (1, 3)
ROWS = ours.changed_operand(TOKENS, LABELS, 0, torch.Generator().manual_seed(0))
SHIFT = circuits.shifted_operand(P, 1, 3)
EXACT = 1e-10


def small(layers: int = 1, normalization: Any = None, **changes: Any) -> Any:
    config = TransformerModel(
        d_model=12, n_heads=4, d_head=3, d_mlp=16, n_layers=layers, dtype="float64",
        normalization=normalization, trained_biases="all", **changes,
    )  # fmt: skip
    build = discovery.load("models", "transformer")
    model = build(config, d_vocab=P + 1, n_ctx=3, d_vocab_out=P, seed=0).eval()
    with torch.no_grad():  # biases that matter
        chance = torch.Generator().manual_seed(1)
        for name, x in model.named_parameters():
            if ".b_" in name:
                x.copy_(torch.randn(x.shape, generator=chance, dtype=x.dtype) / 2)
    return model


def difference(rows: Tensor) -> ours.Metric:
    return ours.metric("logit_diff", LABELS, against=LABELS[rows])


MODELS = [(1, None), (2, None), (2, "LN")]


@pytest.fixture(scope="module", params=MODELS, ids=str)
def whole(request: pytest.FixtureRequest) -> circuits.Contrast:
    """A graph of components, by position."""
    model = small(*request.param)
    graph = circuits.graph(model, apart=True, positions=request.param[0] > 1)
    return circuits.contrast(model, graph, TOKENS, TOKENS[ROWS], difference(ROWS))


@pytest.fixture(scope="module", params=MODELS, ids=str)
def parted(request: pytest.FixtureRequest) -> circuits.Contrast:
    """A graph by position and frequency."""
    model = small(*request.param)
    graph = circuits.graph(model, p=P, keys=KEYS)
    return circuits.contrast(model, graph, TOKENS, TOKENS[SHIFT], difference(SHIFT))


def test_one_layer_has_23_edges_and_37_with_positions_apart() -> None:
    model = small()
    assert len(circuits.graph(model).edges) == 23
    assert len(circuits.graph(model, apart=True).edges) == 37
    assert len(circuits.graph(model).places) == 1 + 12 + 4 + 2 + 1


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_every_earlier_output_reaches_every_later_input(layers: int) -> None:
    edges = circuits.graph(small(layers)).edges
    assert len(set(edges)) == len(edges)
    before = [1 + 5 * layer for layer in range(layers)]
    assert len(edges) == sum(12 * n + n + 4 for n in before) + 1 + 5 * layers


def in_part(x: Tensor, part: str) -> Tensor:
    if not part:
        return x
    return split_by_frequency(x.flatten(1), P, KEYS)[part].view(x.shape)


def by_hook(runs: circuits.Contrast, edge: Edge, clean: Tensor, corrupted: Tensor) -> float:
    """The metric of a whole hooked forward in which one input is moved by what the edge carries."""
    model, source, target = runs.model, edge.source, edge.target
    last = runs.graph.n_layers - 1
    model.set_use_split_qkv_input(True)
    model.set_use_hook_mlp_in(True)
    try:
        one, other = (model.run_with_cache(tokens)[1] for tokens in (clean, corrupted))

        def output(cache: Any, component: Component) -> Tensor:
            node = address(component)
            x = node.read(cache[node.hook])
            return x @ model.W_O[component.layer, component.head] if component.kind == "head" else x

        if edge.inner:
            layer = source.component.layer
            streams = [cache[f"blocks.{layer}.hook_mlp_in"] for cache in (one, other)]
            moved = streams[0] + in_part(streams[1] - streams[0], source.part)
            block = model.blocks[layer]
            change = block.mlp(block.ln2(moved)) - one[f"blocks.{layer}.hook_mlp_out"]
            carried, name, head = in_part(change, target.part), f"blocks.{layer}.hook_mlp_out", None
        else:
            change = output(other, source.component) - output(one, source.component)
            carried = in_part(change, source.part)
            at = address(target.component)
            ends = target.component.kind == "logits"
            name = f"blocks.{last}.hook_resid_post" if ends else at.hook
            head = target.component.head if target.component.kind in LETTERS else None

        def add(x: Tensor, hook: Any) -> Tensor:
            changed = x.clone()
            place = changed if head is None else changed[:, :, head]
            at = slice(None) if source.position < 0 else slice(source.position, source.position + 1)
            place[:, at] += carried[:, at]
            return changed

        return float(runs.metric(model.run_with_hooks(clean, fwd_hooks=[(name, add)])))
    finally:
        model.set_use_split_qkv_input(False)
        model.set_use_hook_mlp_in(False)


def check(runs: circuits.Contrast, corrupted: Tensor, edges: Sequence[Edge]) -> int:
    """Both directions of every edge against hooks; how many have an effect."""
    changed = 0
    with torch.no_grad():
        for edge in edges:
            noised = by_hook(runs, edge, TOKENS, corrupted)
            denoised = by_hook(runs, edge, corrupted, TOKENS)
            assert runs.value([edge]) == pytest.approx(noised, abs=EXACT), edge.name
            assert runs.value([edge], denoise=True) == pytest.approx(denoised, abs=EXACT), edge.name
            changed += abs(noised - runs.clean) > 1e-6
    return changed


def test_every_edge_is_a_hooked_one(whole: circuits.Contrast) -> None:
    edges = whole.graph.edges[:: 1 if len(whole.graph.edges) < 50 else 9]
    assert check(whole, TOKENS[ROWS], edges) > 5


def test_every_edge_between_frequencies_is_a_hooked_one(parted: circuits.Contrast) -> None:
    edges = parted.graph.edges
    some = edges[:: 2 if len(edges) < 200 else 31]
    assert {e.kind for e in some} >= {"embed > k", "embed > v", "head > logits", "mlp_in > mlp"}
    assert check(parted, TOKENS[SHIFT], some) > 10


@pytest.mark.parametrize("normalization", [None, "LN"])
def test_an_edge_is_a_path_patch(normalization: Any) -> None:
    model = small(2, normalization)
    graph = circuits.graph(model, apart=True)
    found = circuits.edge_effects(
        model, graph, TOKENS, TOKENS[ROWS], difference(ROWS), methods=["exact"]
    )
    with torch.no_grad():
        own = float(difference(ROWS)(model(TOKENS)))
    assert found.clean == pytest.approx(own, abs=EXACT)
    kinds = {}
    for edge, value in zip(graph.edges, found.scores["exact"].tolist(), strict=True):
        kinds.setdefault(edge.kind, []).append((edge, value))
    for edge, value in (one for some in kinds.values() for one in some[-2:]):
        target = edge.target.component
        end = ours.nodes("resid_post", layer=1).of(model, 3)
        receivers = end if target.kind == "logits" else [address(target)]
        senders = [address(edge.source.component)]
        there = ours.path_patch(model, senders, receivers, TOKENS, TOKENS[ROWS], difference(ROWS))
        assert value == pytest.approx(float(there.value[0]) - there.clean, abs=EXACT), edge.name
    assert not has_hooks(model)
    assert not any(getattr(model.cfg, flag) for flag in FLAGS.values())


def test_all_edges_and_none_are_the_two_runs(
    whole: circuits.Contrast, parted: circuits.Contrast
) -> None:
    for runs, rows in ((whole, ROWS), (parted, SHIFT)):
        for tokens, value in ((TOKENS, runs.clean), (TOKENS[rows], runs.corrupted)):
            with torch.no_grad():
                own = float(runs.metric(runs.model(tokens)))
            assert value == pytest.approx(own, abs=EXACT)
        assert abs(runs.clean - runs.corrupted) > 1e-3
        assert runs.circuit(runs.graph.edges) == runs.clean
        assert runs.circuit([]) == pytest.approx(runs.corrupted, abs=EXACT)
        assert circuits.faithfulness(runs, []) == pytest.approx(0, abs=1e-9)
        assert circuits.faithfulness(runs, runs.graph.edges) == 1


def test_all_edges_of_a_head_are_the_head_patched(
    whole: circuits.Contrast, parted: circuits.Contrast
) -> None:
    """Its outgoing edges together, and its inputs together, are activation patches."""
    for runs, rows in ((whole, ROWS), (parted, SHIFT)):
        for head in range(4):
            out = [e for e in runs.graph.edges if e.source.component == Component("head", 0, head)]
            at = ours.nodes("head", layer=0, head=head)
            patched = ours.patch(runs.model, at, TOKENS, TOKENS[rows], runs.metric, "noise")
            assert runs.value(out) == pytest.approx(float(patched.value[0]), abs=EXACT)
            into = [
                e for e in runs.graph.edges
                if e.target.component in [Component(x, 0, head) for x in LETTERS]
            ]  # fmt: skip
            assert runs.value(into) == pytest.approx(float(patched.value[0]), abs=EXACT)


def test_all_inner_edges_are_the_mlp_patched(parted: circuits.Contrast) -> None:
    layer = parted.graph.n_layers - 1
    edges = [e for e in parted.graph.edges if e.target.component == Component("mlp", layer)]
    at = ours.nodes("mlp", layer=layer)
    patched = ours.patch(parted.model, at, TOKENS, TOKENS[SHIFT], parted.metric, "noise")
    assert parted.value(edges) == pytest.approx(float(patched.value[0]), abs=EXACT)


def planted_part(self: Any, x: Tensor, position: int, names: Sequence[str]) -> Tensor:
    """Forgets the frequency part."""
    return cuts.at_position(x, position)


def planted_gap(self: Any, component: Component) -> Tensor:
    """The wrong way round."""
    return self.base.outputs[component] - self.other.outputs[component]


def planted_input(inner: Sequence[Edge]) -> dict[Any, list[str]]:
    """One cut for all parts of an MLP's output, as if they shared an input."""
    if not inner:
        return {}
    [edge] = inner
    return {(edge.target.position, (edge.source.part,)): list({edge.target.part, "non-key"})}


PLANTS = {"_part": planted_part, "gap": planted_gap}


@pytest.mark.parametrize("name", [*PLANTS, "_by_input"])
def test_a_planted_bug_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in PLANTS:
        monkeypatch.setattr(cuts.Cuts, name, PLANTS[name])
    else:
        monkeypatch.setattr(cuts, name, planted_input)
    model = small()
    graph = circuits.graph(model, p=P, keys=KEYS)
    runs = circuits.contrast(model, graph, TOKENS, TOKENS[SHIFT], difference(SHIFT))
    with pytest.raises(AssertionError, match="approx"):
        check(runs, TOKENS[SHIFT], graph.edges[::3])


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(2)
    graph = circuits.graph(model)
    given = (model, graph, TOKENS, TOKENS[ROWS], difference(ROWS))
    before = circuits.edge_effects(*given, steps=2)
    monkeypatch.setattr("mechgrok.circuits.effects.ROWS", 20)
    monkeypatch.setattr("mechgrok.circuits.streams.CHUNK", 6)
    monkeypatch.setattr("mechgrok.circuits.gradients.CHUNK", 6)
    after = circuits.edge_effects(*given, steps=2)
    for name, values in before.scores.items():
        torch.testing.assert_close(after.scores[name], values, rtol=0, atol=EXACT)
    assert after.clean == pytest.approx(before.clean, abs=EXACT)


def test_a_model_whose_parts_do_not_sum_is_refused() -> None:
    config = PostLNModel(d_model=12, n_heads=4, d_mlp=16, n_layers=1)
    build = discovery.load("models", "post_ln")
    model = build(config, d_vocab=P + 1, n_ctx=3, d_vocab_out=P, seed=0).eval()
    with pytest.raises(circuits.NotResidual, match="path_patch"):
        circuits.contrast(model, circuits.graph(model), TOKENS, TOKENS[ROWS], difference(ROWS))


def test_rows_that_do_not_fit_are_refused() -> None:
    model = small()
    graph = circuits.graph(model, p=P, keys=KEYS)
    with pytest.raises(ValueError, match="shifted_operand"):
        circuits.contrast(model, graph, TOKENS, TOKENS[ROWS], difference(ROWS))
    with pytest.raises(ValueError, match="without p|keys"):
        circuits.graph(model, keys=KEYS)
    with pytest.raises(ValueError, match="not 0 mod 7"):
        circuits.shifted_operand(P, 0, 7)
    with pytest.raises(ValueError, match="expected some of"):
        circuits.edge_effects(model, graph, TOKENS, TOKENS, difference(ROWS), methods=["eapp"])


@pytest.mark.parametrize("operand", [0, 1])
def test_a_shift_changes_one_operand_and_every_answer(operand: int) -> None:
    there = TOKENS[circuits.shifted_operand(P, operand, 2)]
    assert torch.equal(there[:, operand], (TOKENS[:, operand] + 2) % P)
    assert torch.equal(there[:, 1 - operand], TOKENS[:, 1 - operand])
    assert bool((LABELS[circuits.shifted_operand(P, operand, 2)] != LABELS).all())


def test_the_graph_type_is_exported() -> None:
    assert isinstance(circuits.graph(small()), Graph)
    assert Modules(small(), circuits.graph(small())).has_mlp
