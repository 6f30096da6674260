"""The Tiny Recursive Model against an independent plain-torch reference, and its hook points."""

import math
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import _plain_trm as reference
import pytest
import torch
from torch import Tensor

from mechgrok.config import ConfigError, TRMModel
from mechgrok.models import _trm_compiled, trm_fast
from mechgrok.models import _trm_kernels as kernels
from mechgrok.models._trm_parts import norm
from mechgrok.models.hooked import weights
from mechgrok.models.published import PublishedError, load_trm
from mechgrok.models.shared_prefix import answer_logits, answer_neurons, refusal
from mechgrok.models.transformer import n_parameters
from mechgrok.models.trm import HookedTRM, HookedTRMConfig, build
from mechgrok.presets import preset

BOUND = 1e-10
"""The issue's bound in float64, relative to the largest of the kind that is compared."""
SETTINGS: dict[str, dict[str, Any]] = {
    "mlp_t": {},
    "mlp_t, learned, puzzle": {"positions": "learned", "puzzle_positions": 3},
    "attention": {"mlp_t": False},
    "attention, rope, puzzle": {"mlp_t": False, "positions": "rope", "puzzle_positions": 2},
    "attention, learned": {"mlp_t": False, "positions": "learned"},
    "one cycle, one layer": {"H_cycles": 1, "L_cycles": 1, "n_layers": 1},
}
every_setting = pytest.mark.parametrize("setting", SETTINGS)


def small(setting: str = "mlp_t", seed: int = 0, **fields: Any) -> HookedTRM:
    """A model of a few hundred parameters, all of them random."""
    sizes: dict[str, Any] = {"d_vocab": 7, "n_ctx": 4, "d_model": 12, "n_heads": 3, "seed": seed}
    more = {"L_cycles": 1, "multiple_of": 4, "dtype": torch.float64, **SETTINGS[setting], **fields}
    model = HookedTRM(HookedTRMConfig(**{**sizes, **more}))
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in weights(model).values():
            weight.add_(torch.randn(weight.shape, generator=chance, dtype=torch.float64) * 0.1)
    return model


TOKENS = torch.randint(7, (5, 4), generator=torch.Generator().manual_seed(0))


def difference(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Largest difference, relative to the largest value."""
    scale = max(float(x.detach().abs().max()) for x in expected.values())
    return max(float((found[n] - x).detach().abs().max()) for n, x in expected.items()) / scale


def gradients(values: Tensor, of: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of a random linear function, 0 where a weight has no part in it."""
    way = torch.randn(values.shape, generator=torch.Generator().manual_seed(1)).to(values.dtype)
    trained = {name: w for name, w in of.items() if w.requires_grad}
    found = torch.autograd.grad((values * way).sum(), list(trained.values()), allow_unused=True)
    return {
        n: torch.zeros_like(w) if g is None else g
        for (n, w), g in zip(trained.items(), found, strict=True)
    }


def renamed(model: HookedTRM, theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under the original's names under ours, through the loader."""
    loaded = load_trm(theirs, reference.config_of(model)).model
    return weights(loaded)


@every_setting
def test_values_and_gradients_are_the_references(setting: str) -> None:
    model = small(setting)
    config = reference.config_of(model)
    theirs = {n: x.requires_grad_() for n, x in reference.their_names(model).items()}
    expected = reference.logits(theirs, TOKENS, config)
    assert difference({"": model(TOKENS)}, {"": expected}) < BOUND
    halt = model.unroll(TOKENS)[0].halt
    assert difference({"": halt}, {"": reference.halting(theirs, TOKENS, config)}) < BOUND
    found = gradients(model(TOKENS), weights(model))
    turned = renamed(model, gradients(expected, theirs))
    assert found
    assert difference(found, {n: turned[n] for n in found}) < BOUND
    assert any(n.endswith("W_gate") and bool(g.any()) for n, g in found.items())


def test_the_reference_tells_settings_apart() -> None:
    model = small("attention, rope, puzzle")
    theirs, config = reference.their_names(model), reference.config_of(model)
    for name, other in (("H_cycles", 3), ("L_cycles", 2), ("pos_encodings", "none")):
        changed = reference.logits(theirs, TOKENS, {**config, name: other})
        assert difference({"": model(TOKENS)}, {"": changed}) > 1e-3, name


@every_setting
@pytest.mark.parametrize("positions", [-1, [0, 3, 3]])
def test_fast_logits_and_gradients_are_the_hooked_forwards(setting: str, positions: Any) -> None:
    model = small(setting)
    assert refusal(model) is None
    slow, fast = model(TOKENS)[:, positions], answer_logits(model, TOKENS, positions)
    assert fast.shape == slow.shape
    assert difference({"": fast}, {"": slow}) < BOUND
    of = weights(model)
    assert difference(gradients(fast, of), gradients(slow, of)) < BOUND
    halts = segments(model)[0].halt, model.unroll(TOKENS)[0].halt
    assert difference({"": halts[0]}, {"": halts[1]}) < BOUND


def segments(model: HookedTRM) -> Any:
    return trm_fast.segments(model, TOKENS, range(4))


def test_a_planted_bug_in_the_fast_logits_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    slow = model(TOKENS)
    monkeypatch.setattr(model.cfg, "eps", 1e-2)
    assert difference({"": segments(model)[0].logits}, {"": slow}) > 1e-4


@pytest.mark.parametrize("kind", [kernels.Mix, kernels.Channels])
def test_the_kernels_gradients_are_derivatives_twice(kind: Any) -> None:
    chance = torch.Generator().manual_seed(0)
    draw: Any = lambda *shape: torch.randn(  # noqa: E731
        *shape, generator=chance, dtype=torch.float64
    ).requires_grad_()
    u = draw(3, 4)
    both, out = (draw(4, 3), draw(3, 2)) if kind is kernels.Mix else (draw(4, 4), draw(2, 4))
    of = lambda *inputs: kind.apply(*inputs, 1e-5)  # noqa: E731
    assert torch.autograd.gradcheck(of, (u, both, out))
    assert torch.autograd.gradgradcheck(of, (u, both, out))


COMPILED = """
import torch
from mechgrok.models import _trm_compiled, trm_fast
from mechgrok.models.trm import HookedTRM, HookedTRMConfig
_trm_compiled.BACKEND = "aot_eager"
sizes = dict(d_vocab=7, n_ctx=4, d_model=12, L_cycles=1, multiple_of=4, dtype=torch.float64)
model = HookedTRM(HookedTRMConfig(**sizes, positions="learned", puzzle_positions=3, compile=True))
tokens = torch.randint(7, (5, 4), generator=torch.Generator().manual_seed(0))
fast, slow = trm_fast.segments(model, tokens, range(4))[-1].logits, model(tokens)
found = [torch.autograd.grad((x ** 2).sum(), model.blocks[0].mix.W_gate)[0] for x in (fast, slow)]
assert not _trm_compiled._broken, _trm_compiled._broken
assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
for a, b in ((fast, slow), found):
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert bool(b.any())
before = torch._dynamo.utils.counters["stats"]["calls_captured"]
trm_fast.segments(model.eval(), tokens[:2], range(4))
assert torch._dynamo.utils.counters["stats"]["calls_captured"] == before  # only in training
print("equal")
"""
"""Traced and differentiated by torch.compile, but run by torch: no C++ compiler is needed."""


@pytest.mark.slow
def test_the_compiled_passes_are_the_hooked_ones() -> None:
    """In a process of its own: what checks shapes in tests cannot be traced."""
    found = subprocess.run(
        [sys.executable, "-c", COMPILED], capture_output=True, text=True, timeout=600, check=False
    )
    assert found.stdout.strip() == "equal", found.stdout + found.stderr


def test_without_a_compiler_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*given: Any) -> Any:
        raise RuntimeError("no C++ compiler\nand much more")

    monkeypatch.setattr(_trm_compiled, "_compiled", lambda backend: fail)
    monkeypatch.setattr(_trm_compiled, "_broken", [])
    model = small(compile=True)
    for _ in range(2):
        assert difference({"": segments(model)[0].logits}, {"": model(TOKENS)}) < BOUND
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "torch.compile does not work here (RuntimeError: no C++ compiler); training without it"
    ]


def test_every_update_is_the_norm_of_what_is_added() -> None:
    for setting in ("mlp_t", "attention, rope, puzzle"):
        model = small(setting)
        logits, cache = model.run_with_cache(TOKENS)
        mix, axis = ("mix", 1) if model.cfg.mlp_t else ("attn", 2)
        z_H, z_L, x = cache["hook_z_H"], cache["hook_z_L"], cache["hook_input"]
        for h in range(2):
            for at, before in ((f"cycle.{h}.0", z_L + (z_H + x)), (f"cycle.{h}", None)):
                u = z_H + z_L if before is None else before
                for layer in range(2):
                    own = f"{at}.blocks.{layer}.hook_"
                    assert torch.equal(cache[own + "resid_pre"], u)
                    mid = norm(u + cache[f"{own}{mix}_out"], axis, 1e-5)
                    assert torch.equal(cache[own + "resid_mid"], mid)
                    u = norm(mid + cache[own + "mlp_out"], 2, 1e-5)
                    assert torch.equal(cache[own + "resid_post"], u)
                    # the control: over the other axis it is something else
                    assert not torch.allclose(
                        mid, norm(u + cache[f"{own}{mix}_out"], 3 - axis, 1e-5)
                    )
                if before is None:
                    z_H = u
                    assert torch.equal(cache[f"cycle.{h}.hook_z_H"], z_H)
                else:
                    z_L = u
                    assert torch.equal(cache[f"cycle.{h}.0.hook_z_L"], z_L)
        words = z_H[:, model.cfg.puzzle_positions :]
        assert torch.equal(logits, words @ model.unembed.W_U)


def test_one_hook_addresses_one_update_and_what_came_before_stays() -> None:
    model, point = small(L_cycles=2), "cycle.1.0.hook_z_L"
    _, clean = model.run_with_cache(TOKENS)
    seen: dict[str, Tensor] = {}
    with model.hooks(fwd_hooks=[(point, lambda z, hook: z * 0)]):
        _, cache = model.run_with_cache(TOKENS)
    seen = {name: cache[name] for name in cache}
    names = list(model.hook_dict)
    order = [n for n in clean if not torch.equal(clean[n], seen[n])]
    assert point in order
    assert "cycle.1.1.hook_z_L" in order
    assert "cycle.1.hook_z_H" in order
    assert not [n for n in order if n.startswith(("cycle.0.", "hook_", "cycle.1.0.blocks"))]
    assert set(seen) == set(names)


def test_the_published_size_has_the_published_number_of_parameters() -> None:
    cfg = HookedTRMConfig(
        d_vocab=2206, n_ctx=5, d_model=1536, n_heads=8, H_cycles=2, L_cycles=6,
        puzzle_positions=16, multiple_of=256, device="meta",
    )  # fmt: skip
    model = HookedTRM(cfg)
    assert (cfg.d_mlp, cfg.d_mix, cfg.length) == (4096, 256, 21)
    # embedding and head, halting head, and two layers of channel and position MLPs
    by_hand = 2 * 2206 * 1536 + 2 * 1536 + 2 + 2 * (3 * 1536 * 4096 + 3 * 21 * 256)
    assert n_parameters(model) == by_hand == 44_560_898
    assert sum(p.numel() for p in model.parameters()) == 44_560_898
    assert [getattr(model, name).numel() for name in model.kept] == [1536] * 3


@pytest.mark.slow
def test_the_published_size_runs_on_eight_rows() -> None:
    sizes = {"d_vocab": 2206, "n_ctx": 5, "d_vocab_out": 2206}
    model = build(preset("two_hop_published").model, **sizes, seed=0)
    tokens = torch.randint(2206, (8, 5), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        hooked = model(tokens)
        fast = trm_fast.segments(model, tokens, range(5))[-1].logits
    assert n_parameters(model) == 44_560_898
    assert hooked.shape == (8, 5, 2206)
    assert float(hooked.std()) > 0.1  # rows are told apart
    assert not torch.allclose(hooked[0], hooked[1], atol=0.1)
    # float32: 14 applications of two layers of width 1,536
    torch.testing.assert_close(fast, hooked, rtol=1e-3, atol=1e-3)


def test_only_the_last_cycle_is_differentiated() -> None:
    model = small(H_cycles=3)
    kept: dict[str, Tensor] = {}

    def keep(z: Tensor, hook: Any) -> None:
        kept[hook.name] = z

    with model.hooks(fwd_hooks=[(lambda name: name.endswith(("z_H", "z_L")), keep)]):
        logits = model(TOKENS)
    # a gradient reaches the embedding through the last cycle alone
    assert not any(z.requires_grad for n, z in kept.items() if n.startswith(("cycle.0", "cycle.1")))
    assert kept["cycle.2.hook_z_H"].requires_grad
    (found,) = torch.autograd.grad(logits.sum(), model.embed.W_E)
    assert bool(found.any())


def test_a_row_does_not_depend_on_the_batch_before_or_around_it() -> None:
    model = small("mlp_t, learned, puzzle", halt_max_steps=2).eval()
    alone = model(TOKENS[:1])
    model(TOKENS.flip(1))
    torch.testing.assert_close(model(TOKENS)[:1], alone, rtol=1e-12, atol=1e-12)


def test_further_passes_go_on_from_the_states_before() -> None:
    once, twice = small(H_cycles=4, L_cycles=1).eval(), small(halt_max_steps=2).eval()
    for name, weight in weights(once).items():
        weight.data.copy_(weights(twice)[name])
    assert torch.equal(once(TOKENS), twice(TOKENS))  # four cycles, or two and two
    assert len(twice.cycle) == 4
    for passes in (twice.unroll(TOKENS), trm_fast.segments(twice, TOKENS, range(4))):
        assert [bool(p.active.all()) for p in passes] == [True, True]
    fast = trm_fast.segments(twice, TOKENS, range(4))[-1].logits
    assert difference({"": fast}, {"": once(TOKENS)}) < BOUND


@pytest.mark.parametrize("fast", [False, True])
def test_rows_halt_when_they_say_so_and_explorers_go_on(fast: bool) -> None:
    model = small(halt_max_steps=4, halt_exploration=0.0)

    def passes(seed: int = 0) -> Any:
        chance = torch.Generator().manual_seed(seed)
        if fast:
            return trm_fast.segments(model, TOKENS, range(4), chance)
        return model.unroll(TOKENS, chance)

    with torch.no_grad():
        model.halt.w.zero_()
        model.halt.b.fill_(-1.0)
    assert [int(p.active.sum()) for p in passes()] == [5, 5, 5, 5]
    with torch.no_grad():
        model.halt.b.fill_(1.0)
    found = passes()
    assert [int(p.active.sum()) for p in found] == [5, 0, 0, 0]
    assert torch.equal(found[0].logits, found[3].logits)  # the states stand still
    model.cfg.halt_exploration = 1.0
    active = [int(p.active.sum()) for p in passes()]
    assert active[:2] == [5, 5]
    assert active == sorted(active, reverse=True)
    assert 0 < active[2] + active[3] < 10  # three rows of five are drawn to go on
    with pytest.raises(ValueError, match=r"no global generator.*eval"):
        model(TOKENS)
    before = torch.get_rng_state()
    passes()
    assert torch.equal(before, torch.get_rng_state())


def test_initial_weights_have_the_stated_deviations_and_cut() -> None:
    model = build(TRMModel(d_model=128), d_vocab=97, n_ctx=5, d_vocab_out=97, seed=0)
    for name, weight in weights(model).items():
        if name.startswith("halt."):
            assert set(weight.detach().unique().tolist()) == {-5.0 if name == "halt.b" else 0.0}
            continue
        inputs = {"embed.W_E": 128, "z_H_init": 1, "z_L_init": 1}.get(name, weight.shape[0])
        scaled = weight.detach() * math.sqrt(inputs)
        # five standard errors of a sample standard deviation
        assert abs(float(scaled.std()) - 1) < 5 / math.sqrt(2 * weight.numel()), name
        # cut at 2 of a normal whose own, cut, is 0.8796: both from erf and the density at 2
        assert float(scaled.abs().max()) < 2 / 0.8796256610342398 + 1e-6, name


def test_neurons_are_those_of_the_last_application() -> None:
    model = small("attention, rope, puzzle")
    cache = model.run_with_cache(TOKENS)[1]
    last = cache["cycle.1.blocks.1.mlp.hook_post"]
    assert torch.equal(answer_neurons(model, TOKENS, 1), last[:, 2 + 1])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"H_cycles": 0}, "H_cycles = 0; expected at least 1"),
        ({"L_cycles": 0}, "L_cycles = 0; expected at least 1"),
        ({"mlp_t": False, "n_heads": 5}, "not a multiple of model.n_heads = 5"),
        ({"positions": "rope"}, "model.mlp_t has none"),
        ({"positions": "sinus"}, "expected one of"),
        ({"mlp_t": False, "n_heads": 4, "d_model": 12, "positions": "rope"}, "rope turns pairs"),
        ({"mlp_t": False, "compile": True}, "compile is for model.mlp_t"),
        ({"matmul_precision": "high"}, "matmul_precision = .high.; expected one of"),
        ({"halt_exploration": 1.5}, "halt_exploration = 1.5; out of range"),
        ({"puzzle_positions": -1}, "out of range"),
        ({"expansion": math.nan}, "out of range"),
    ],
)
def test_impossible_models_are_named(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        small(**fields)


def test_rows_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="exactly 4: pad them"):
        small()(TOKENS[:, :3])
    model = small("attention, rope, puzzle")
    assert model(TOKENS[:, :3]).shape == answer_logits(model, TOKENS[:, :3], [0, 1, 2]).shape


@every_setting
@pytest.mark.parametrize("prefix", ["", "inner.", "_orig_mod.model.inner."])
def test_the_originals_weights_compute_what_the_reference_does(setting: str, prefix: str) -> None:
    model = small(setting, seed=3)
    theirs, config = reference.their_names(model), reference.config_of(model)
    for given in (config, {"arch": config, "data_paths": ["somewhere"]}, model.cfg):
        published = load_trm({prefix + n: x for n, x in theirs.items()}, given)
        found = published.model(TOKENS)
        assert difference({"": found}, {"": reference.logits(theirs, TOKENS, config)}) < BOUND
        assert published.origin.format == "trm"
        assert not published.model.training


def test_keys_left_out_take_the_originals_defaults() -> None:
    model = small("mlp_t, learned, puzzle", puzzle_positions=16, H_cycles=3, L_cycles=6)
    theirs, config = reference.their_names(model), reference.config_of(model)
    published = load_trm({n: x for n, x in theirs.items()})
    cfg: Any = published.model.cfg
    assert (cfg.H_cycles, cfg.L_cycles, cfg.halt_max_steps, cfg.puzzle_positions) == (3, 6, 16, 16)
    assert (cfg.n_ctx, cfg.d_vocab, cfg.n_heads, cfg.eps) == (4, 7, 8, 1e-5)
    once = load_trm(theirs, {"halt_max_steps": 1}).model
    assert difference({"": once(TOKENS)}, {"": reference.logits(theirs, TOKENS, config)}) < BOUND


def test_states_of_another_type_are_read_exactly() -> None:
    model = small(dtype=torch.float32)
    theirs = reference.their_names(model)
    theirs["H_init"] = theirs["H_init"].bfloat16()
    published = load_trm(theirs, reference.config_of(model))
    assert torch.equal(weights(published.model)["z_H_init"], theirs["H_init"].float())


def test_what_does_not_fit_is_refused_by_name() -> None:
    model = small("attention, rope, puzzle")
    theirs, config = reference.their_names(model), reference.config_of(model)
    without = {n: x for n, x in theirs.items() if n != "q_head.bias"}
    two = {**theirs, "puzzle_emb.weights": theirs["puzzle_emb.weights"].repeat(2, 1)}
    short = {**theirs, "lm_head.weight": theirs["lm_head.weight"][:-1]}
    for tensors, given, said in (
        (theirs, {**config, "vocab_size": 8}, "vocab_size 8 given, 7 in the tensors"),
        (short, config, "lm_head has a vocabulary of 6, embed_tokens one of 7"),
        (theirs, {**config, "num_heads": 5}, "not a multiple of model.n_heads = 5"),
        (theirs, {**config, "L_layers": 3}, "L_layers 3 given, 2 in the tensors"),
        (theirs, {**config, "H_cycels": 3}, "did you mean .*H_cycles"),
        (theirs, {k: v for k, v in config.items() if k != "seq_len"}, "cannot tell seq_len"),
        (theirs, {**config, "expansion": 20.0}, "give its expansion"),
        (without, config, "missing q_head.bias"),
        ({**theirs, "more": theirs["H_init"]}, config, "unexpected more"),
        (two, config, "2 puzzle vectors"),
    ):
        with pytest.raises(PublishedError, match=said):
            load_trm(tensors, given)
