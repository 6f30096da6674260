"""Published settings are what was published, and can all be built."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from mechgrok import discovery
from mechgrok.config import (
    AdamW,
    CompositionTask,
    ConfigError,
    EquationTask,
    HaltingCrossEntropy,
    PostLNModel,
    RunConfig,
    Seeds,
    TRMModel,
)
from mechgrok.models.transformer import n_parameters
from mechgrok.options import differences
from mechgrok.presets import ABOUT, NAMES, preset, with_seed
from mechgrok.runs.checkpoint import build_model
from mechgrok.training import optimizers
from mechgrok.training.schedule import checkpoint_rule

WANTED = {
    "nanda2023_mainline", "tl_grokking_demo", "quick", "two_layer_canonical", "two_layer_literal",
    "smoke_p17", "clean_p47", "power2022_division", "power2022_s5", "spectral_add40",
    "two_hop_published", "two_hop_small", "composition_gpt2",
}  # fmt: skip


def test_names_are_unique_and_complete() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert set(NAMES) >= WANTED
    assert all(preset(name).preset == name for name in NAMES)
    assert tuple(ABOUT) == NAMES
    page = (Path(__file__).parents[1] / "docs" / "reproducing.md").read_text()
    assert all(f"| `{name}` | {about} |" in page for name, about in ABOUT.items())


LARGE = ("two_hop_published", "composition_gpt2")
"""Their 770,000 rows and tens of millions of weights take too long for every test run."""


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in LARGE else ()) for n in NAMES]
)
def test_every_preset_can_be_built(name: str) -> None:
    config = preset(name)
    task = discovery.load("tasks", config.task.name).make(config.task, config.seeds)
    model = build_model(config, task)
    assert n_parameters(model) > 0
    optimizers.make([p for p in model.parameters() if p.requires_grad], config.optim)
    assert checkpoint_rule(config.schedule.checkpoints)(0, {})  # every run keeps its first weights


def test_the_mainline_is_the_papers() -> None:
    """arXiv 2301.05217, section 3 and the released config."""
    config = preset("nanda2023_mainline")
    assert (config.task.n, config.task.operation, config.task.frac_train) == (113, "add", 0.3)
    assert (config.task.split, config.task.outputs) == ("nanda2023", "tokens")
    model = config.model
    assert (model.n_layers, model.d_model, model.n_heads, model.d_head, model.d_mlp) == (
        1,
        128,
        4,
        32,
        512,
    )
    assert (model.act_fn, model.normalization, model.init, model.trained_biases) == (
        "relu", None, "nanda2023", "mlp",
    )  # fmt: skip
    assert config.optim == AdamW(
        lr=1e-3, weight_decay=1.0, betas=(0.9, 0.98), eps=1e-8, warmup_steps=10
    )
    assert config.loss.dtype == "float64"
    assert (config.stop.max_steps, config.stop.after_generalised) == (40_000, 5_000)  # issue 2
    assert config.seeds == Seeds()


def test_the_demo_is_transformer_lenss() -> None:
    config = preset("tl_grokking_demo")
    assert (config.task.split, config.task.outputs) == ("torch_randperm", "answers")
    assert (config.model.init, config.model.trained_biases) == ("tl3", "none")
    assert (config.seeds.data, config.seeds.init) == (598, 999)
    assert config.optim.warmup_steps == 0
    assert config.stop.max_steps == 25_000


def test_the_two_layer_presets_differ_in_decay_and_stop_only() -> None:
    changed = differences(preset("two_layer_canonical"), preset("two_layer_literal"))
    assert set(changed) == {
        "preset",
        "optim.weight_decay",
        "stop.max_steps",
        "stop.after_generalised",
    }
    assert changed["optim.weight_decay"] == (1.0, 1e-3)
    assert changed["stop.max_steps"][1] == 20_000


def test_quick_is_the_designs() -> None:
    config = preset("quick")
    assert (config.task.n, config.task.frac_train, config.optim.weight_decay) == (59, 0.4, 1.0)
    assert (config.model.d_model, config.model.d_mlp, config.stop.max_steps) == (128, 512, 9_000)


@pytest.mark.parametrize(
    ("name", "task", "weight_decay", "rows", "max_steps"),
    [
        ("power2022_division", EquationTask(operation="divide", frac_train=0.5), 0.0, 4656, 1e6),
        ("power2022_s5", EquationTask(operation="s5", frac_train=0.5), 1.0, 7200, 1e5),
        ("spectral_add40", EquationTask(operation="add", frac_train=0.4), 1.0, 3764, 6e3),
    ],
)
def test_openai_groks_presets_are_as_released(
    name: str, task: EquationTask, weight_decay: float, rows: int, max_steps: float
) -> None:
    config = preset(name, seed=47)
    made = discovery.load("tasks", "equation").make(config.task, config.seeds)
    assert (config.task, config.model) == (task, PostLNModel())
    assert len(made.splits["train"]) == rows
    assert config.optim == AdamW(
        lr=1e-3, weight_decay=weight_decay, betas=(0.9, 0.98), eps=1e-8, warmup_steps=10,
        batch_size=512, batch_share=0.5,
    )  # fmt: skip
    assert config.loss.dtype == "float32"
    assert config.stop.max_steps == max_steps
    assert (config.seeds.data, config.seeds.probe, config.seeds.init) == (0, 42, 47)
    assert n_parameters(build_model(config, made)) == 455_424


def test_two_hop_published_is_as_released() -> None:
    """arXiv 2601.09049: the commands of its code, and the defaults of arXiv 2510.04871's."""
    config = preset("two_hop_published")
    assert config.task == CompositionTask(
        entities=2000, relations=200, out_degree=20, ood_share=0.05, iid_share=0.005, phi=18.0,
        injected=18, test_rows=3000, layout="trm",
    )  # fmt: skip
    assert config.model == TRMModel(
        n_layers=2, d_model=1536, H_cycles=2, L_cycles=6, mlp_t=True, n_heads=8, positions="none",
        expansion=4.0, multiple_of=256, puzzle_positions=16, halt_max_steps=1,
    )  # fmt: skip
    assert config.loss == HaltingCrossEntropy(
        probabilities="stablemax", halt_weight=0.5, dtype="float64"
    )
    assert config.optim == AdamW(
        lr=4e-5, betas=(0.9, 0.95), weight_decay=1.0, warmup_steps=2_000, batch_size=512, ema=0.999
    )
    # every 5 epochs of 724,000 rows, 190 times
    assert config.schedule.evaluate_every == 5 * 724_000 // 512
    assert config.stop.max_steps == 190 * config.schedule.evaluate_every


def test_two_hop_small_is_as_probed() -> None:
    config = preset("two_hop_small", 3)
    task, model, optim = config.task, config.model, config.optim
    assert (task.entities, task.relations, task.out_degree, task.ood_share, task.phi) == (
        60, 30, 20, 0.1, 16.0,
    )  # fmt: skip
    assert (model.d_model, model.H_cycles, model.L_cycles, model.puzzle_positions) == (128, 2, 2, 0)
    assert config.loss.probabilities == "softmax"
    assert (optim.lr, optim.weight_decay, optim.batch_size, optim.ema) == (2e-3, 0.3, 512, 0.999)
    assert {config.seeds.data, config.seeds.init, config.seeds.following("augmentation")} == {3}


def test_composition_gpt2_is_as_released() -> None:
    """arXiv 2601.09049's command on arXiv 2405.15071's code, without dropout and tied weights."""
    config = preset("composition_gpt2")
    assert config.task == replace(preset("two_hop_published").task, layout="causal")
    model = config.model
    assert (model.n_layers, model.d_model, model.n_heads, model.d_head, model.d_mlp) == (
        4, 768, 12, 64, 3072,
    )  # fmt: skip
    assert (model.act_fn, model.normalization, model.init) == ("gelu_new", "LN", "gpt2")
    assert config.optim == AdamW(
        lr=1e-4, betas=(0.9, 0.999), weight_decay=0.01, warmup_steps=2_000, batch_size=512,
        clip_norm=1.0,
    )  # fmt: skip
    assert config.stop.max_steps == 1_500_000


PUBLISHED_BEFORE = {
    "nanda2023_mainline": "594ed3f35178247ac54c92551a912533feb5c04ca04709404860f0c2fac44bac",
    "tl_grokking_demo": "f7b5b5318bcbebb2f8c724bb6a08c4fd21b33765416e51fbb881ac355e1b1fa0",
    "quick": "83ecdbf3e212e92b42d0c4b56e59c2191390f3bd5be70696293db7f86d07ba0a",
}


@pytest.mark.parametrize("name", PUBLISHED_BEFORE)
def test_new_kinds_of_settings_leave_old_digests_alone(name: str) -> None:
    """Runs on disk carry them; another digest would refuse to resume or read them."""
    assert preset(name).digest() == PUBLISHED_BEFORE[name]


@pytest.mark.parametrize("wrong", ["nanda2023", "Quick", "two_layer", "nothing like it", ""])
def test_an_unknown_preset_lists_names(wrong: str) -> None:
    with pytest.raises(ConfigError, match="unknown preset") as error:
        preset(wrong)
    assert any(name in str(error.value) for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_sets_every_seed(name: str) -> None:
    seeds = preset(name, seed=7).seeds
    free = {f.name for f in fields(seeds)} - {"fixed", *seeds.fixed}
    assert {seeds.following(field) for field in free} == {7}
    assert preset(name, seed=7) != preset(name, seed=8)


def test_a_fixed_seed_stays() -> None:
    config = RunConfig(seeds=Seeds(data=0, probe=42, fixed=("data", "probe")))
    seeds = with_seed(config, 9).seeds
    assert (seeds.data, seeds.probe, seeds.fixed) == (0, 42, ("data", "probe"))
    free = {f.name for f in fields(Seeds)} - {"data", "probe", "fixed"}
    assert {seeds.following(name) for name in free} == {9}
    assert replace(with_seed(config, 9), seeds=config.seeds) == config


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 0"):
        with_seed(RunConfig(), -1)
