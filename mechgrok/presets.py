"""Published settings under the name of paper and figure, and two small ones of our own.

Each is an ordinary RunConfig; `experiments/presets.expected.json` holds what recorded runs did.
Sources: Nanda et al. 2023 (arXiv 2301.05217, sections 3-5), Power et al. 2022 (arXiv 2201.02177),
Wang et al. 2026 (arXiv 2605.08237), He et al. 2026 (arXiv 2601.09049).
"""

from dataclasses import replace
from difflib import get_close_matches

from mechgrok.config import (
    AdamW,
    BinaryTask,
    CompositionTask,
    ConfigError,
    CrossEntropy,
    EquationTask,
    HaltingCrossEntropy,
    PostLNModel,
    RunConfig,
    Schedule,
    Seeds,
    Stop,
    TransformerModel,
    TRMModel,
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

# openai/grok as released: post-LN model, float32 loss over answer and eos, AdamW (.9, .98) with 10
# steps of warm-up, batches of 512 or half the training set. Its shuffle is seed 0 in every run.
_OPENAI_GROK = RunConfig(
    task=EquationTask(),
    model=PostLNModel(),
    loss=CrossEntropy(dtype="float32"),
    optim=AdamW(batch_size=512, batch_share=0.5),
    schedule=Schedule(
        evaluate_every=50,
        checkpoints=("at 0", "log 4 until 1000", "every 1000"),
    ),
    seeds=Seeds(probe=42, fixed=("data", "probe")),
    threads=1,
)

# He et al. 2026 (arXiv 2601.09049) as released: TRM with 16 scratch positions, StableMax, AdamW
# under the name of AdamATan2, an average of the weights for evaluation. 1,100 epochs of 5 a look.
_TWO_HOP = RunConfig(
    preset="two_hop_published",
    task=CompositionTask(entities=2000, relations=200, ood_share=0.05, phi=18.0),
    model=TRMModel(d_model=1536, L_cycles=6, n_heads=8, puzzle_positions=16, multiple_of=256),
    loss=HaltingCrossEntropy(),
    optim=AdamW(
        lr=4e-5, betas=(0.9, 0.95), warmup_steps=2_000, batch_size=512, ema=0.999, weight_decay=1.0
    ),
    schedule=Schedule(evaluate_every=7_070, checkpoints=("at 0", "every 7070")),
    stop=Stop(max_steps=1_343_300, after_generalised=None),
)

_PRESETS = (
    _MAINLINE,
    replace(
        _MAINLINE,
        preset="tl_grokking_demo",
        task=BinaryTask(split="torch_randperm", outputs="answers"),
        model=TransformerModel(init="tl3", trained_biases="none"),
        optim=AdamW(warmup_steps=0),
        seeds=replace(Seeds().with_base(999), data=598),
        stop=Stop(max_steps=25_000, after_generalised=5_000),
    ),
    _QUICK,
    _TWO_LAYER,
    replace(
        _TWO_LAYER,
        preset="two_layer_literal",
        optim=AdamW(batch_size=4096, weight_decay=1e-3),
        stop=Stop(max_steps=20_000, after_generalised=None),
    ),
    replace(
        _MAINLINE,
        preset="smoke_p17",
        task=BinaryTask(n=17),
        model=TransformerModel(d_model=32, n_heads=2, d_head=16, d_mlp=64),
        schedule=Schedule(evaluate_every=25, checkpoints=("at 0", "every 100")),
        stop=Stop(max_steps=1_000, after_generalised=None),
        threads=1,
    ),
    replace(
        _MAINLINE,
        preset="clean_p47",
        task=BinaryTask(n=47),
        model=TransformerModel(d_model=64, n_heads=4, d_head=16, d_mlp=256),
        schedule=Schedule(evaluate_every=100, checkpoints=("at 0", "every 500")),
        stop=Stop(max_steps=10_000, after_generalised=None),
        threads=1,
    ),
    replace(
        _OPENAI_GROK,
        preset="power2022_division",
        task=EquationTask(operation="divide", frac_train=0.5),
        optim=replace(_OPENAI_GROK.optim, weight_decay=0.0),
        schedule=Schedule(
            evaluate_every=100, checkpoints=("at 0", "log 4 until 1000000", "every 50000")
        ),
        stop=Stop(max_steps=1_000_000, after_generalised=5_000),
    ),
    replace(
        _OPENAI_GROK,
        preset="power2022_s5",
        task=EquationTask(operation="s5", frac_train=0.5),
        stop=Stop(max_steps=100_000, after_generalised=5_000),
    ),
    replace(
        _OPENAI_GROK,
        preset="spectral_add40",
        task=EquationTask(operation="add", frac_train=0.4),
        schedule=Schedule(
            evaluate_every=50,
            checkpoints=(
                "at 0",
                "log 4 until 1000",
                "every 250",
                "every 50 while test_acc in 0.4..0.99",
            ),
        ),
        stop=Stop(max_steps=6_000, after_generalised=1_000),
    ),
    _TWO_HOP,
    replace(
        _TWO_HOP,
        preset="two_hop_small",
        task=CompositionTask(),
        model=TRMModel(),
        loss=HaltingCrossEntropy(probabilities="softmax"),
        optim=AdamW(
            lr=2e-3,
            betas=(0.9, 0.95),
            warmup_steps=100,
            batch_size=512,
            ema=0.999,
            weight_decay=0.3,
        ),
        schedule=Schedule(evaluate_every=250, checkpoints=("at 0", "every 250")),
        stop=Stop(max_steps=16_000, after_generalised=500, threshold=0.95),
        threads=1,
    ),
    replace(
        _TWO_HOP,
        preset="composition_gpt2",
        task=replace(_TWO_HOP.task, layout="causal"),
        model=TransformerModel(
            n_layers=4,
            d_model=768,
            n_heads=12,
            d_head=64,
            d_mlp=3072,
            act_fn="gelu_new",
            normalization="LN",
            init="gpt2",
            trained_biases="all",
        ),
        loss=CrossEntropy(dtype="float32"),
        optim=AdamW(
            lr=1e-4,
            betas=(0.9, 0.999),
            weight_decay=0.01,
            warmup_steps=2_000,
            batch_size=512,
            clip_norm=1.0,
        ),
        schedule=Schedule(
            evaluate_every=2_000, checkpoints=("at 0", "every 2000 until 40000", "every 50000")
        ),
        stop=Stop(max_steps=1_500_000, after_generalised=None),
    ),
)

ABOUT: dict[str, str] = {
    "nanda2023_mainline": "addition mod 113 on 30 % of pairs: the main run of Nanda et al. 2023",
    "tl_grokking_demo": "the same task with the split, initialisation and seeds of "
    "TransformerLens's Grokking_Demo; biases frozen at 0",
    "quick": "ours: addition mod 59 on 40 % of pairs, which groks in minutes on one thread",
    "two_layer_canonical": "the mainline with two layers, in batches of 4,096, weight decay 1",
    "two_layer_literal": "the same with the weight decay of 1e-3 that a published setting has: "
    "in 20,000 steps it shrinks weights by 2 %, too little to grok",
    "smoke_p17": "addition mod 17 in seconds; memorises and does not generalise",
    "clean_p47": "addition mod 47 at width 64: the quick test of a published trainer",
    "power2022_division": "division mod 97 on half of the table without weight decay, a million "
    "steps: figure 1 of Power et al. 2022",
    "power2022_s5": "products of permutations of 5, weight decay 1, 100,000 steps: the same paper",
    "spectral_add40": "openai/grok's model on addition mod 97, 40 % of pairs, until 1,000 steps "
    "after 99 %: Wang et al. 2026",
    "two_hop_published": "the Tiny Recursive Model of He et al. 2026 on 2,000 entities; for a GPU",
    "two_hop_small": "ours: the same on 60 entities, minutes on one thread",
    "composition_gpt2": "the transformer of He et al. 2026: GPT-2's shape with 4 layers, untied "
    "and without dropout; for a GPU",
}
"""What each preset is."""

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
