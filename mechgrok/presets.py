"""Published settings under the name of paper and figure, and two small ones of our own.

Each is an ordinary RunConfig; `experiments/presets.expected.json` holds what recorded runs did.
"""

from dataclasses import replace
from difflib import get_close_matches

from mechgrok.config import (
    AdamW,
    BinaryTask,
    ConfigError,
    RunConfig,
    Schedule,
    Seeds,
    Stop,
    TransformerModel,
)

_MAINLINE = RunConfig(
    preset="nanda2023_mainline",
    schedule=Schedule(
        evaluate_every=50,
        checkpoints=(
            "at 0",
            "log 4 until 1000",
            "every 250",
            "every 50 while test_acc in 0.05..0.99",
        ),
    ),
)

_QUICK = replace(
    _MAINLINE,
    preset="quick",
    task=BinaryTask(n=59, frac_train=0.4),
    schedule=Schedule(
        evaluate_every=25,
        checkpoints=("at 0", "log 4 until 250", "every 250"),
    ),
    stop=Stop(max_steps=9_000, after_generalised=1_000),
    threads=1,  # so small a model gains nothing from more
)

_TWO_LAYER = replace(
    _MAINLINE,
    preset="two_layer_canonical",
    model=TransformerModel(n_layers=2),
    optim=AdamW(batch_size=4096),
    stop=Stop(max_steps=40_000, after_generalised=2_000),
)

_PRESETS = (
    # Nanda et al. 2023 (arXiv 2301.05217), the mainline run of sections 3-5.
    _MAINLINE,
    # TransformerLens Grokking_Demo: its split, initialisation and seeds; biases frozen at 0.
    replace(
        _MAINLINE,
        preset="tl_grokking_demo",
        task=BinaryTask(split="torch_randperm", outputs="answers"),
        model=TransformerModel(init="tl3", trained_biases="none"),
        optim=AdamW(warmup_steps=0),
        seeds=replace(Seeds().with_base(999), data=598),
        stop=Stop(max_steps=25_000, after_generalised=5_000),
    ),
    # Ours: groks in two minutes on one thread.
    _QUICK,
    # Two layers, weight decay 1: the published two-layer setting with a decay that can work.
    _TWO_LAYER,
    # The same with weight decay 1e-3 as written: lr * wd * steps is far too small to grok.
    replace(
        _TWO_LAYER,
        preset="two_layer_literal",
        optim=AdamW(batch_size=4096, weight_decay=1e-3),
        stop=Stop(max_steps=20_000, after_generalised=None),
    ),
    # Seconds; memorises and does not generalise.
    replace(
        _MAINLINE,
        preset="smoke_p17",
        task=BinaryTask(n=17),
        model=TransformerModel(d_model=32, n_heads=2, d_head=16, d_mlp=64),
        schedule=Schedule(evaluate_every=25, checkpoints=("at 0", "every 100")),
        stop=Stop(max_steps=1_000, after_generalised=None),
        threads=1,
    ),
    # A published quick test (p=47, width 64) that is predicted not to grok.
    replace(
        _MAINLINE,
        preset="clean_p47",
        task=BinaryTask(n=47),
        model=TransformerModel(d_model=64, n_heads=4, d_head=16, d_mlp=256),
        schedule=Schedule(evaluate_every=100, checkpoints=("at 0", "every 500")),
        stop=Stop(max_steps=10_000, after_generalised=None),
        threads=1,
    ),
)

NAMES: tuple[str, ...] = tuple(p.preset for p in _PRESETS)
"""Every preset's name."""


def preset(name: str, seed: int | None = None) -> RunConfig:
    """The config published under `name`; `seed` sets every seed the preset leaves free.

    Raises ConfigError for an unknown name, listing the nearest ones.
    """
    for config in _PRESETS:
        if config.preset == name:
            return config if seed is None else with_seed(config, seed)
    near = get_close_matches(name, NAMES, n=3) or NAMES
    raise ConfigError(f"unknown preset {name!r}; did you mean one of {list(near)}?")


def with_seed(config: RunConfig, seed: int) -> RunConfig:
    """`config` with every free seed set to `seed`."""
    if not isinstance(seed, int) or seed < 0:
        raise ConfigError(f"seed = {seed!r}; expected an integer of at least 0")
    return replace(config, seeds=config.seeds.with_base(seed))
