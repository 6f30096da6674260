"""Transplants: gauge-closed units by theorem, restored bits, and what cannot be asked for."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from mechgrok import interventions as ours
from mechgrok.config import TransformerModel
from mechgrok.interventions.weight_parts import Part, names, slices
from mechgrok.models.transformer import build
from mechgrok.runs.run import Run

SIZES = TransformerModel(n_layers=2, d_model=8, n_heads=2, d_head=4, d_mlp=6, dtype="float64")
TOKENS = torch.cartesian_prod(torch.arange(5), torch.arange(5), torch.tensor([5]))


def made(seed: int, **sizes: Any) -> Any:
    model = build(SIZES, **{"d_vocab": 6, "n_ctx": 3, "d_vocab_out": 6, **sizes}, seed=seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            if ".b_" in name:
                p.normal_(generator=torch.Generator().manual_seed(100 * seed + len(name)))
    return model.eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS)


def regauged(model: Any) -> Any:
    """The same model under other gauges of its heads and neurons."""
    other = made(0)
    with torch.no_grad():
        for own, block in zip(model.blocks, other.blocks, strict=True):
            chance = torch.Generator().manual_seed(7)
            G, H = torch.randn(2, 2, 4, 4, generator=chance, dtype=torch.float64)
            c = torch.rand(6, generator=chance, dtype=torch.float64) + 0.5
            a, b = own.attn, block.attn
            b.W_Q.copy_(a.W_Q @ G)
            b.b_Q.copy_((a.b_Q[:, None] @ G)[:, 0])
            back = torch.linalg.inv(G).mT
            b.W_K.copy_(a.W_K @ back)
            b.b_K.copy_((a.b_K[:, None] @ back)[:, 0])
            b.W_V.copy_(a.W_V @ H)
            b.b_V.copy_((a.b_V[:, None] @ H)[:, 0])
            b.W_O.copy_(torch.linalg.inv(H) @ a.W_O)
            block.mlp.W_in.copy_(own.mlp.W_in * c)
            block.mlp.b_in.copy_(own.mlp.b_in * c)
            block.mlp.W_out.copy_(own.mlp.W_out / c[:, None])
    return other


UNITS = [
    Part("QK", layer=(0,), heads=(1,)),
    Part("OV", layer=(1,), heads=(0,)),
    Part("head", heads=(1,)),
    Part("neuron", layer=(0,), neurons=(1, 4)),
]


@pytest.mark.parametrize("part", UNITS)
def test_a_closed_unit_is_the_same_in_every_gauge(part: Part) -> None:
    """Taken from a model, or from the same model written otherwise, it makes one model."""
    donor, recipient = made(0), made(1)
    torch.testing.assert_close(logits(regauged(donor)), logits(donor), rtol=0, atol=1e-11)
    with ours.transplant(recipient, from_=donor, parts=part):
        plain = logits(recipient)
    with ours.transplant(recipient, from_=regauged(donor), parts=part):
        torch.testing.assert_close(logits(recipient), plain, rtol=0, atol=1e-11)
    assert not torch.allclose(plain, logits(recipient))


def test_half_a_unit_is_not() -> None:
    """The control: W_Q without W_K depends on how the donor is written."""
    donor, recipient = made(0), made(1)
    found = []
    for one in (donor, regauged(donor)):
        with torch.no_grad():
            saved = recipient.blocks[0].attn.W_Q.clone()
            recipient.blocks[0].attn.W_Q.copy_(one.blocks[0].attn.W_Q)
            found.append(logits(recipient))
            recipient.blocks[0].attn.W_Q.copy_(saved)
    assert not torch.allclose(*found)


def test_heads_and_neurons_of_other_numbers_stay() -> None:
    donor, recipient = made(0), made(1)
    own = {name: p.detach().clone() for name, p in recipient.named_parameters()}
    with ours.transplant(recipient, from_=donor, parts=[UNITS[0], UNITS[3]]):
        now = dict(recipient.named_parameters())
        changed = {n for n in own if not torch.equal(own[n], now[n])}
        assert changed == {
            *(f"blocks.0.attn.{n}" for n in ("W_Q", "W_K", "b_Q", "b_K")),
            *(f"blocks.0.mlp.{n}" for n in ("W_in", "b_in", "W_out")),
        }
        assert torch.equal(now["blocks.0.attn.W_Q"][0], own["blocks.0.attn.W_Q"][0])
        rest = [0, 2, 3, 5]
        assert torch.equal(now["blocks.0.mlp.W_in"][:, rest], own["blocks.0.mlp.W_in"][:, rest])
        assert torch.equal(now["blocks.0.mlp.W_out"][rest], own["blocks.0.mlp.W_out"][rest])


def test_the_two_groups_are_a_partition() -> None:
    model = made(0)
    embedding, body = set(names(model, "embedding")), set(names(model, "body"))
    assert embedding == {"embed.W_E", "unembed.W_U", "unembed.b_U"}
    assert not embedding & body
    assert embedding | body == {name for name, _ in model.named_parameters()}
    assert "pos_embed.W_pos" in body


def test_only_the_whole_model_presumes_no_shared_basis() -> None:
    one, other = made(0), made(1)
    assert not ours.transplant(one, from_=other, parts="everything").presumes_shared_basis
    assert not ours.transplant(one, from_=other, parts="embedding,body").presumes_shared_basis
    for parts in ("embedding", "body", "QK", "W_E"):
        found = ours.transplant(one, from_=other, parts=parts)
        assert found.presumes_shared_basis
        assert found.common_parent == "unknown"


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ("boddy", "unknown part 'boddy'; nearest: ['body'"),
        ("", "got parts ''"),
        ([], "got parts []"),
        ("W_K", r"take (W_Q, W_K, b_Q, b_K) together, Part('QK', ...)"),
        ("blocks.1.mlp.W_out", r"take (W_in, b_in, W_out) together, Part('neuron', ...)"),
        (Part("QK", layer=(2,)), "the model has layers [0, 1]"),
        (Part("QK", heads=()), "selects nothing"),
        (Part("OV", heads=(2,)), "has 2 heads, no [2]"),
        (Part("neuron", neurons=(6,)), "has 6 neurons, no [6]"),
        (Part("QK", neurons=(0,)), "numbered by heads alone"),
        (Part("body", heads=(0,)), "only QK, OV and head have heads"),
    ],
)
def test_what_cannot_be_taken_says_why(parts: Any, said: str) -> None:
    with pytest.raises(ValueError) as raised:
        ours.transplant(made(0), from_=made(1), parts=parts)
    assert said in str(raised.value)


def test_other_shapes_are_refused_before_anything_moves() -> None:
    model = made(0)
    before = logits(model)
    with pytest.raises(
        ValueError, match=r"differ in shape: embed.W_E is \[6, 8\] here and \[9, 8\]"
    ):
        ours.transplant(model, from_=made(1, d_vocab=9), parts="everything")
    with ours.transplant(model, from_=made(1, d_vocab=9), parts="body"):  # fits
        pass
    assert torch.equal(logits(model), before)


def test_slices_are_of_this_model() -> None:
    found = slices(made(0), Part("QK", layer=(1,), heads=(0,)))
    assert {one.name for one in found} == {
        f"blocks.1.attn.{n}" for n in ("W_Q", "W_K", "b_Q", "b_K")
    }
    assert all(one.index == (0,) for one in found)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny.train(tiny.config(), tmp_path_factory.mktemp("donor") / "run")


def test_a_result_says_what_two_checkpoints_both_come_from(run: Run, tmp_path: Path) -> None:
    def parent(a: Any, b: Any) -> str:
        return ours.transplant(a, from_=b, parts="body").common_parent

    short = {"stop__max_steps": 20}
    child = tiny.train(tiny.config(init_from=str(run.path), **short), tmp_path / "child")
    twin = tiny.train(tiny.config(optim__lr=0.01, **short), tmp_path / "twin")
    stranger = tiny.train(tiny.config(seeds__init=5, **short), tmp_path / "stranger")
    assert parent(run[0], run[-1]) == f"run {run.path.resolve()}"
    assert parent(child[-1], run[-1]) == f"run {run.path.resolve()}"
    assert parent(twin[-1], run[-1]).startswith("initialisation ")
    assert parent(stranger[-1], run[-1]) == "none"


def test_other_tasks_and_tokens_are_refused(run: Run, tmp_path: Path) -> None:
    short = {"stop__max_steps": 20}
    minus = tiny.train(tiny.config(task__operation="subtract", **short), tmp_path / "minus")
    named = tiny.train(tiny.config(task__relabel=True, **short), tmp_path / "named")
    with pytest.raises(ValueError, match=r"different tasks .*add.*across_tasks=True"):
        ours.transplant(minus[-1], from_=run[-1], parts="body")
    with ours.transplant(minus[-1], from_=run[-1], parts="embedding", across_tasks=True):
        pass
    with pytest.raises(ValueError, match="different tokenisations"):
        ours.transplant(named[-1], from_=run[-1], parts="embedding", across_tasks=True)
    with ours.transplant(named[-1], from_=run[-1], parts="body", across_tasks=True):
        pass


def test_one_transplant_is_in_place_once(run: Run) -> None:
    once = ours.transplant(run[0], from_=run[-1], parts="body")
    with once, pytest.raises(ValueError, match="in place already"), once:
        pass
    with once:  # and again after it
        pass
