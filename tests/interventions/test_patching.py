"""Activation patching, causal tracing and path patching against what they must be worth."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from interventions.test_grids import LABELS, METRIC, OTHER, TOKENS, P, small

from mechgrok import interventions as ours
from mechgrok.interventions.ablation import record
from mechgrok.interventions.coverage import has_hooks
from mechgrok.interventions.node import Node
from mechgrok.interventions.patches import Patch, hooks
from mechgrok.maths.fourier import project_frequencies

CORRUPTED = TOKENS[OTHER]


@pytest.fixture(autouse=True)
def _no_gradient() -> Iterator[None]:
    with torch.no_grad():
        yield


def test_values_effects_and_table_of_both_directions() -> None:
    model = small(dtype="float64")
    clean, corrupted = (float(METRIC(model(tokens))) for tokens in (TOKENS, CORRUPTED))
    at = ours.nodes("resid_pre,mlp", position=(0, 1, 2))
    there = ours.patch(model, at, TOKENS, CORRUPTED, METRIC)
    back = ours.patch(model, at, TOKENS, CORRUPTED, METRIC, direction="noise")
    for found in (there, back):
        assert found.clean == pytest.approx(clean, abs=1e-10)
        assert found.corrupted == pytest.approx(corrupted, abs=1e-10)
    for i, node in enumerate(there.nodes):
        [patch] = ours.patching.patches_from(model, [node], TOKENS, CORRUPTED)
        value = float(METRIC(model.run_with_hooks(CORRUPTED, fwd_hooks=hooks([patch]))))
        assert float(there.value[i]) == pytest.approx(value, abs=1e-10)
        assert there.effect[i] == pytest.approx((value - corrupted) / (clean - corrupted))
        [patch] = ours.patching.patches_from(model, [node], CORRUPTED, TOKENS)
        value = float(METRIC(model.run_with_hooks(TOKENS, fwd_hooks=hooks([patch]))))
        assert back.effect[i] == pytest.approx(1 - (value - corrupted) / (clean - corrupted))
    table = there.table()
    assert list(table["node"][:2]) == ["L0 resid_pre @0", "L0 resid_pre @1"]
    assert set(table["n"]) == {P * P}
    assert set(table["metric"]) == {"logit_diff"}
    assert set(table["direction"]) == {"denoise"}


def test_the_whole_stream_restores_and_breaks_everything() -> None:
    model = small(dtype="float64")
    for direction in ("denoise", "noise"):
        found = ours.patch(model, "resid_pre", TOKENS, CORRUPTED, METRIC, direction)
        assert found.effect == pytest.approx((1.0, 1.0))
        none = ours.patch(model, "pos_embed", TOKENS, CORRUPTED, METRIC, direction)
        assert none.effect == pytest.approx((0.0,), abs=1e-12)


@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_a_frequency_is_swapped_between_the_pairs_of_both_runs(direction: str) -> None:
    """Worked out on W_E: the embedding of one token with a frequency of another's."""
    model = small(dtype="float64")
    rows = ours.changed_operand(TOKENS, LABELS, 0, torch.Generator().manual_seed(0))
    by = ours.metric("logit_diff", LABELS, against=LABELS[rows])
    at = ours.nodes("embed", position=0, freq=(1, 2, 3))
    found = ours.patch(model, at, TOKENS, TOKENS[rows], by, direction)
    run, source = (TOKENS[rows], TOKENS) if direction == "denoise" else (TOKENS, TOKENS[rows])
    for k, value in zip((1, 2, 3), found.value, strict=True):
        part = project_frequencies(model.W_E[:P], [k])

        def swap(x: torch.Tensor, hook: Any, part: torch.Tensor = part) -> torch.Tensor:
            changed = x.clone()
            changed[:, 0] += part[source[:, 0]] - part[run[:, 0]]
            return changed

        expected = by(model.run_with_hooks(run, fwd_hooks=[("hook_embed", swap)]))
        assert float(value) == pytest.approx(float(expected), abs=1e-10)
    assert len(set(found.value.tolist())) == 3
    whole = ours.patch(model, ours.nodes("embed", position=0), TOKENS, TOKENS[rows], by, direction)
    assert whole.effect == pytest.approx((1.0,))


def test_frequencies_need_the_grid_and_its_tokens() -> None:
    model, at = small(), ours.nodes("mlp", freq=1)
    _, cache = model.run_with_cache(TOKENS)
    with pytest.raises(ValueError, match="not only their cache"):
        ours.act_patch(model, CORRUPTED, cache, METRIC, at)
    with pytest.raises(ValueError, match="in the order"):
        ours.patch(model, at, CORRUPTED, TOKENS, METRIC)
    with (
        pytest.raises(ValueError, match="in the order"),
        ours.ablate(model, at, "counterfactual", source=CORRUPTED),
    ):
        raise AssertionError
    elsewhere = CORRUPTED.flip(1)
    with pytest.raises(ValueError, match="none of the grid's"):
        ours.patch(model, at, TOKENS, elsewhere, METRIC)


def test_an_effect_between_equal_runs_does_not_exist() -> None:
    model = small()
    found = ours.patch(model, "mlp", TOKENS, TOKENS, METRIC)
    assert found.effect == (None, None)
    assert found.table()["effect"].tolist() == [None, None]
    assert bool(torch.isfinite(found.value).all())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"direction": "denoising"}, "expected one of"),
        ({"corrupted": TOKENS[:5]}, "differ"),
        ({"nodes": []}, "no nodes"),
        ({"nodes": "mpl"}, "unknown component"),
    ],
)
def test_a_patch_that_makes_no_sense_is_refused(change: dict[str, Any], said: str) -> None:
    given = {"nodes": "mlp", "clean": TOKENS, "corrupted": CORRUPTED, "metric": METRIC, **change}
    with pytest.raises(ValueError, match=said):
        ours.patch(small(), **given)


def test_causal_tracing_restores_states_of_a_noisy_run() -> None:
    model = small(dtype="float64")

    def trace(**given: Any) -> Any:
        settings = {"positions": [0, 1], "generator": torch.Generator().manual_seed(0), **given}
        at = ours.nodes("resid_pre", position="each")
        return ours.causal_trace(model, at, TOKENS, METRIC, **settings)

    found = trace()
    assert found.clean == pytest.approx(float(METRIC(model(TOKENS))), abs=1e-10)
    assert abs(found.corrupted - found.clean) > 1e-3
    # "=" is not corrupted, so its embedding restores nothing; one of two operands restores a part
    assert found.effect[2] == pytest.approx(0.0, abs=1e-12)
    assert all(x not in (0.0, 1.0) for x in found.effect[:2])
    one = trace(positions=[1])
    assert one.effect[1] == pytest.approx(1.0)
    by_frequency = ours.causal_trace(
        model, ours.nodes("resid_pre", layer=0, position=1, freq=(1, 2, 3)), TOKENS, METRIC,
        positions=[1], generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert len(set(by_frequency.effect)) == 3
    assert not has_hooks(model)
    draws = torch.randn(P * P, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    embedded = model.W_E[TOKENS]
    scale = 3 * float(embedded.std())

    def noisy(x: torch.Tensor, hook: Any) -> torch.Tensor:
        changed = x.clone()
        changed[:, 1] += scale * draws
        return changed

    expected = METRIC(model.run_with_hooks(TOKENS, fwd_hooks=[("hook_embed", noisy)]))
    assert one.corrupted == pytest.approx(float(expected), abs=1e-10)
    with pytest.raises(ValueError, match="more than 0"):
        trace(scale=0.0)


def direct(model: Any, sender: Node, receiver: str, head: int | None) -> float:
    """By linearity of the stream: the sender's change is added to the receiver's input alone."""
    read = [record(model, tokens, [sender])[sender.hook] for tokens in (TOKENS, CORRUPTED)]
    change = sender.read(read[1]) - sender.read(read[0])
    if sender.head is not None:
        change = change @ model.W_O[sender.layer, sender.head]

    def add(activation: torch.Tensor, hook: Any) -> torch.Tensor:
        changed = activation.clone()
        place = changed if head is None else changed[:, :, head]
        place += change
        return changed

    return float(METRIC(model.run_with_hooks(TOKENS, fwd_hooks=[(receiver, add)])))


SENDERS = [("head", {"head": 1}), ("mlp", {}), ("embed", {"layer": None})]


@pytest.mark.parametrize(("component", "given"), SENDERS)
@pytest.mark.parametrize("receiver", ["q_input", "k_input", "v_input", "mlp_in", "resid_post"])
@pytest.mark.parametrize("normalization", [None, "LN"])
def test_a_path_is_what_linearity_says(
    component: str, given: dict[str, Any], receiver: str, normalization: str | None
) -> None:
    model = small(dtype="float64", normalization=normalization)
    [sender] = ours.nodes(component, **{"layer": 0, **given}).of(model, 3)
    head = 2 if receiver.endswith("input") else None
    at = ours.nodes(receiver, layer=1, head=head)
    found = ours.path_patch(model, [sender], at, TOKENS, CORRUPTED, METRIC)
    for flag in ("use_split_qkv_input", "use_hook_mlp_in"):
        assert not getattr(model.cfg, flag)
    assert not has_hooks(model)
    model.set_use_split_qkv_input(True)
    model.set_use_hook_mlp_in(True)
    expected = direct(model, sender, f"blocks.1.hook_{receiver}", head)
    assert float(found.value[0]) == pytest.approx(expected, abs=1e-10)
    # "=" embeds alike in both runs, and what the answer reads there; only keys and values differ
    changed = abs(found.effect[0]) > 1e-12
    assert changed == (component != "embed" or receiver in ("k_input", "v_input"))


def test_two_senders_do_not_reach_each_other() -> None:
    """An earlier sender must not move the other neurons of a later one's layer."""
    model = small(dtype="float64")
    head, some = ours.nodes("head", layer=0, head=1), ours.nodes("neuron", layer=1, neurons=[2, 7])
    senders = [*head.of(model, 3), *some.of(model, 3)]
    end = ours.nodes("resid_post", layer=1)
    found = ours.path_patch(model, senders, end, TOKENS, CORRUPTED, METRIC)
    clean, corrupted = (model.run_with_cache(tokens)[1] for tokens in (TOKENS, CORRUPTED))
    z, post = (corrupted[n.hook] - clean[n.hook] for n in senders)
    change = z[:, :, 1] @ model.W_O[0, 1] + post[:, :, [2, 7]] @ model.W_out[1, [2, 7]]
    logits = model.unembed(clean["blocks.1.hook_resid_post"] + change)
    assert float(found.value[0]) == pytest.approx(float(METRIC(logits)), abs=1e-10)


def test_one_value_for_each_receiver_and_only_forward() -> None:
    model = small(dtype="float64")
    at = ours.nodes("q_input,k_input,v_input", layer=1, head=(0, 1, 2))
    found = ours.path_patch(model, "embed", at, TOKENS, CORRUPTED, METRIC)
    assert len(found.nodes) == len(found.value) == 9
    assert len(set(found.value.tolist())) == 9
    with pytest.raises(ValueError, match="before every sender"):
        ours.path_patch(
            model,
            ours.nodes("head", layer=1),
            ours.nodes("mlp_in", layer=0),
            TOKENS,
            CORRUPTED,
            METRIC,
        )
    with pytest.raises(ValueError, match="no senders"):
        ours.path_patch(model, [], at, TOKENS, CORRUPTED, METRIC)
    assert not has_hooks(model)
    assert not model.cfg.use_split_qkv_input


def test_a_patch_without_its_hook_point_is_an_error() -> None:
    """hook_result fires behind a flag only; a patch there must not pass for no effect."""
    with pytest.raises(ValueError, match="flag"):
        ours.patch(small(), "attn.result", TOKENS, CORRUPTED, METRIC)
    node = Node("blocks.0.attn.hook_result", "attn.result", layer=0)
    model = small()
    with pytest.raises(ValueError, match="never fired"):
        ours.variants.measure(model, TOKENS, [[Patch(node, torch.zeros(49, 3, 3, 12))]], METRIC)
