"""Addresses: what they select, and what they say when they select nothing."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from interventions.test_grids import small

from mechgrok.interventions.node import Node, nodes, resolve


def recursive() -> Any:
    """The hook names of a model that calls its parts several times."""
    names = [f"cycle.{h}.{l}.hook_z_L" for h in range(2) for l in range(3)]  # noqa: E741
    names += ["cycle.0.hook_z_H", "cycle.1.hook_z_H", "blocks.0.hook_mlp_out"]
    return SimpleNamespace(hook_dict=dict.fromkeys(names), cfg=SimpleNamespace(n_ctx=4))


def test_heads_and_mlps_of_every_layer() -> None:
    found = nodes("head,mlp").of(small(), 3)
    assert [n.name for n in found] == [
        *("L0H0", "L0H1", "L0H2", "L1H0", "L1H1", "L1H2"), "L0 mlp_out", "L1 mlp_out"
    ]  # fmt: skip
    assert found[4] == Node("blocks.1.attn.hook_z", "attn.z", layer=1, head=1)


def test_positions_count_from_either_end_and_frequencies_make_nodes() -> None:
    model = small()
    assert [n.position for n in nodes("mlp", layer=0, position="each").of(model, 3)] == [0, 1, 2]
    [last] = nodes("mlp", layer=0, position=-1).of(model, 3)
    assert last.position == 2
    found = nodes("mlp", layer=1, position=-1, freq=(1, 3)).of(model, 3)
    assert [n.name for n in found] == ["L1 mlp_out @2 k=1", "L1 mlp_out @2 k=3"]


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        ({"components": "attn.z"}, (4, 3, 3, 4)),
        ({"components": "head", "head": 1}, (4, 3, 4)),
        ({"components": "head", "head": 1, "position": 0}, (4, 4)),
        ({"components": "pattern", "head": 2, "position": 1}, (4, 3)),
        ({"components": "neuron", "neurons": [0, 5], "position": -1}, (4, 2)),
        ({"components": "blocks.0.attn.hook_z", "position": 1}, (4, 3, 4)),
        ({"components": "resid_pre", "position": 1}, (4, 12)),
    ],
    ids=str,
)
def test_a_slice_has_the_place_it_names(given: dict[str, Any], shape: tuple[int, ...]) -> None:
    model = small(n_layers=1)
    tokens = torch.tensor([[0, 1, 7], [2, 3, 7], [4, 5, 7], [6, 0, 7]])
    _, cache = model.run_with_cache(tokens)
    [node] = nodes(**given).of(model, 3)
    assert tuple(node.read(cache[node.hook]).shape) == shape


def test_a_slice_is_the_right_one() -> None:
    x = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    assert torch.equal(Node("z", "attn.z", head=2, position=1).read(x), x[:, 1, 2])
    assert torch.equal(Node("p", "attn.pattern", head=2, position=1).read(x), x[:, 2, 1])
    flat = x.flatten(2)
    assert torch.equal(Node("n", "mlp.post", neurons=(3, 1)).read(flat), flat[:, :, [3, 1]])


def test_cycles_are_addressed_from_the_outermost() -> None:
    model = recursive()
    assert len(nodes("z_L").of(model)) == 6
    assert [n.cycle for n in nodes("z_L", cycle=1).of(model)] == [(1, 0), (1, 1), (1, 2)]
    [one] = nodes("z_L", cycle=(1, 2), position=3).of(model)
    assert one.name == "cycle 1.2 z_L @3"
    assert one.hook == "cycle.1.2.hook_z_L"
    assert one.layer is None


@pytest.mark.parametrize(
    ("words", "given", "said"),
    [
        ("heads", {}, r"unknown component 'heads'; nearest: \['head'"),
        ("mlp_ot", {}, r"nearest: \['mlp_out'"),
        ("head", {"layer": 2}, r"selects no node; the model has layers \[0, 1\]"),
        ("head", {"head": 3}, r"heads \[3\], but the model has 3"),
        ("mlp", {"position": 3}, r"positions \[3\], but the model has 3"),
        ("neuron", {"neurons": [16]}, r"neurons \[16\], but the model has 16"),
        ("mlp", {"neurons": [1]}, "has no neurons"),
        ("mlp", {"head": 1}, "has no heads"),
    ],
)
def test_what_does_not_exist_is_named(words: str, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        nodes(words, **given).of(small(), 3)


@pytest.mark.parametrize(
    ("words", "given", "said"),
    [
        ("", {}, "expected names like"),
        ("head,,mlp", {}, "expected names like"),
        ("mlp", {"layer": []}, "empty layer"),
        ("mlp", {"freq": []}, "empty freq"),
        ("mlp", {"position": "all"}, "'each' or None"),
    ],
)
def test_an_empty_address_is_refused(words: str, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        nodes(words, **given)


def test_one_node_is_a_list_of_one() -> None:
    model = small()
    node = nodes("mlp", layer=0).of(model, 3)[0]
    assert resolve(model, node) == (node,)


def test_a_node_of_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no hook 'blocks.4.hook_mlp_out'.*blocks.0"):
        resolve(small(), [Node("blocks.4.hook_mlp_out", "mlp_out")])
    assert resolve(small(), []) == ()
