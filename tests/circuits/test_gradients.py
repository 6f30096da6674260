"""First-order scores: what they must sum to, where they are exact, and the warning."""

import warnings

import pytest
import torch
from circuits.test_edges import KEYS, ROWS, SHIFT, TOKENS, P, difference, small

from mechgrok import circuits
from mechgrok import interventions as ours
from mechgrok.circuits.gradients import by_source
from mechgrok.circuits.graph import Component, Place
from mechgrok.interventions.metrics import SaturatedMetric

MODELS = [(1, None), (2, None), (2, "LN")]


@pytest.fixture(scope="module", params=MODELS, ids=str)
def runs(request: pytest.FixtureRequest) -> circuits.Contrast:
    """By frequency for one layer, by component for two."""
    model, parted = small(*request.param), request.param[0] == 1
    graph = circuits.graph(model, p=P, keys=KEYS) if parted else circuits.graph(model)
    rows = SHIFT if parted else ROWS
    return circuits.contrast(model, graph, TOKENS, TOKENS[rows], difference(rows))


def test_scores_of_the_input_edges_sum_to_the_metric_s_difference(
    runs: circuits.Contrast,
) -> None:
    """Completeness (Sundararajan et al. 2017), up to midpoints and kinks of the ReLU."""
    kinds = ("embed", "input")
    inputs = torch.tensor([e.source.component.kind in kinds for e in runs.graph.edges])
    whole = runs.corrupted - runs.clean
    off = [abs(float(circuits.eap_ig(runs, m)[inputs].sum()) - whole) / abs(whole) for m in (1, 48)]
    assert off[1] < 1e-2
    assert off[1] < off[0]
    assert abs(float(circuits.eap(runs)[inputs].sum()) - whole) > 3 * off[1] * abs(whole)


def test_a_small_step_is_what_the_gradient_says() -> None:
    """Where corrupted tokens embed nearly as the clean ones do, effects are linear in the step."""
    model = small()
    clean = TOKENS[TOKENS[:, 0] == 0]
    corrupted = TOKENS[TOKENS[:, 0] == 1]
    with torch.no_grad():
        model.embed.W_E[1] = model.embed.W_E[0] + 1e-6 * model.embed.W_E[1]
    labels = clean[:, 1]
    by = ours.metric("logit_diff", labels, against=(labels + 1) % P)
    runs = circuits.contrast(model, circuits.graph(model), clean, corrupted, by)
    exact = circuits.effects_of(runs, ["exact"], 1)["exact"]
    largest = float(exact.abs().max())
    assert largest > 1e-8
    for scores in (circuits.eap(runs), circuits.eap_ig(runs, 2)):
        assert float((scores - exact).abs().max()) < 1e-4 * largest


def test_edges_into_the_logits_are_exact_without_a_final_normalisation() -> None:
    model = small()
    graph = circuits.graph(model, p=P, keys=KEYS)
    found = circuits.edge_effects(
        model, graph, TOKENS, TOKENS[SHIFT], difference(SHIFT), methods=["exact", "mirror", "eap"]
    )
    direct = torch.tensor([e.target.component.kind == "logits" for e in graph.edges])
    exact = found.scores["exact"][direct]
    assert float(exact.abs().max()) > 1e-3
    torch.testing.assert_close(found.scores["eap"][direct], exact, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.scores["mirror"][direct], -exact, rtol=0, atol=1e-10)
    assert float((found.scores["eap"] - found.scores["exact"]).abs().max()) > 1e-3


def test_attribution_patching_of_a_node_is_the_gradient_at_its_output() -> None:
    """Nanda's attribution patching: (corrupted - clean) . gradient, by a hook of its own."""
    model = small(2)
    graph = circuits.graph(model)
    runs = circuits.contrast(model, graph, TOKENS, TOKENS[SHIFT], difference(SHIFT))
    scores = by_source(graph.edges, circuits.eap(runs))
    name, kept = "blocks.0.hook_mlp_out", []
    hooked = model.run_with_hooks(TOKENS, fwd_hooks=[(name, lambda x, hook: kept.append(x))])
    gradient = torch.autograd.grad(runs.metric(hooked), kept[0])[0]
    with torch.no_grad():
        other = model.run_with_cache(TOKENS[SHIFT])[1][name]
        expected = float(((other - kept[0]) * gradient).sum())
    assert scores[Place(Component("mlp", 0))] == pytest.approx(expected, abs=1e-10)
    assert abs(expected) > 1e-3


def test_a_saturated_metric_is_warned_about_and_its_scores_vanish() -> None:
    """A sure model: its loss has no gradient, although corrupting an edge costs nats."""
    model = small()
    with torch.no_grad():
        for name, x in model.named_parameters():
            if ".b_" in name:
                x.zero_()
        model.embed.W_E[:P] *= 10  # so that the answer depends on the operands
        right = model(TOKENS)[:, -1].argmax(dim=-1)
        model.unembed.W_U.mul_(1e4)
    assert len(right.unique()) > 2
    graph = circuits.graph(model)
    tokens, rows = TOKENS, torch.roll(torch.arange(P * P), 5)
    loss = ours.metric("loss", right)
    with pytest.warns(SaturatedMetric, match="differentiate logit_diff"):
        found = circuits.edge_effects(
            model, graph, tokens, tokens[rows], loss, methods=["exact", "eap"]
        )
    assert found.saturated > 0.9
    assert float(found.scores["exact"].abs().max()) > 1
    # rows that are not saturated (a tie) carry what is left
    assert float(found.scores["eap"].median()) == pytest.approx(0, abs=1e-6)
    linear = ours.metric("correct_minus_mean", right)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        circuits.edge_effects(model, graph, tokens, tokens[rows], linear, methods=["eap"])


def test_errors_count_wrong_signs_among_the_large() -> None:
    exact = torch.tensor([10.0, -5.0, 0.01, 0.0], dtype=torch.float64)
    scores = torch.tensor([9.0, 5.0, -0.01, 1.0], dtype=torch.float64)
    found = circuits.errors(exact, scores)
    assert (found["sign_flips"], found["of_edges"], found["n_edges"]) == (1, 2, 4)
    assert found["max_error"] == 10
    assert found["rank_correlation"] == pytest.approx(0.2)
    assert circuits.errors(exact, exact)["rank_correlation"] == pytest.approx(1)
    assert circuits.errors(exact, 0 * exact)["rank_correlation"] is None


def test_steps_below_one_are_refused(runs: circuits.Contrast) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        circuits.eap_ig(runs, 0)
