"""What the two-hop experiment trains: models and regimes before, arms of fine-tuning after."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mechgrok.config import RunConfig
from mechgrok.presets import preset

PRESETS = ("two_hop_small", "two_hop_published")
REGIMES = ("both_full", "both_full_sham", "natural", "first_hop", "second_hop", "both_half")
MODELS = ("trm", "gpt2", "gpt2_twice")
"""The recursive model, the transformer of the same papers, and its blocks run twice."""
SEEDS = {"both_full": 3, "both_full_sham": 3, "natural": 3, "first_hop": 2, "second_hop": 2}
BASELINES = {"gpt2": 3, "gpt2_twice": 1}
"""Seeds of both_full."""
STEPS = {"both_full": 6_000, "both_full_sham": 4_500, "natural": 5_000}
HOP_STEPS, LONG_STEPS, BASELINE_STEPS = 9_000, 30_000, 4_000
"""Of one hop augmented, of `natural` at seed 0, and of the baselines."""
TINY: dict[str, dict[str, Any]] = {
    "two_hop_small": {
        "task.entities": 20, "task.relations": 12, "task.out_degree": 10, "task.phi": 6.0,
        "task.iid_share": 0.05, "model.d_model": 16, "optim.batch_size": 64,
        "schedule.evaluate_every": 20, "schedule.checkpoints": ["at 0", "every 20"],
    },
    "two_hop_published": {
        "task.entities": 150, "task.relations": 40, "task.test_rows": 100, "model.d_model": 64,
        "optim.batch_size": 32, "schedule.evaluate_every": 2,
        "schedule.checkpoints": ["at 0", "every 2"],
    },
}  # fmt: skip
"""Sizes of `--small`; the published flags stay as they are, but the batch."""
TINY_STEPS = {"two_hop_small": 40, "two_hop_published": 4}


@dataclass(frozen=True)
class Pretraining:
    """One pretraining run; with all of a seed it shares the graph and the tests."""

    regime: str
    model: str
    seed: int
    steps: int

    @property
    def name(self) -> str:
        """Name of its directory."""
        model = "" if self.model == "trm" else f"{self.model}__"
        return f"{model}{self.regime}__seed{self.seed}"


def pretrainings(
    name: str,
    regimes: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    max_steps: int | None = None,
) -> list[Pretraining]:
    """The runs of a preset, all of one seed before the next; what is not given is as designed."""
    found = []
    for regime in REGIMES if regimes is None else regimes:
        for seed in range(_designed(name, regime)) if seeds is None else seeds:
            steps = _steps(name, regime, seed) if max_steps is None else max_steps
            found.append(Pretraining(regime, "trm", seed, steps))
    for model in MODELS[1:] if name == "two_hop_small" else ():
        for seed in range(BASELINES[model]) if seeds is None else seeds:
            if regimes is None or "both_full" in regimes:
                steps = BASELINE_STEPS if max_steps is None else max_steps
                found.append(Pretraining("both_full", model, seed, steps))
    kept = [one for one in found if models is None or one.model in models]
    return sorted(kept, key=lambda one: one.seed)


def _designed(name: str, regime: str) -> int:
    """How many seeds the design has of a regime; one of each published one."""
    return SEEDS.get(regime, 0) if name == "two_hop_small" else int(regime != "both_full_sham")


def _steps(name: str, regime: str, seed: int) -> int:
    if name != "two_hop_small":
        return preset(name).stop.max_steps
    if regime == "natural" and seed == 0:
        return LONG_STEPS
    return STEPS.get(regime, HOP_STEPS)


def config_of(
    name: str,
    asked: Pretraining,
    small: bool = False,
    device: str = "cpu",
    compiled: bool = False,
) -> RunConfig:
    """The settings of a pretraining run. Raises ConfigError for sizes that leave nothing to do."""
    from mechgrok.options import override

    base = preset(name, asked.seed) if asked.model == "trm" else baseline(asked)
    changed = TINY[name] if small else {}
    if small and asked.model != "trm":
        changed = {**changed, "model.n_heads": 2, "model.d_head": 8, "model.d_mlp": 32}
    if compiled and asked.model == "trm":
        changed = {**changed, "model.compile": True, "model.matmul_precision": "medium"}
    steps = min(asked.steps, TINY_STEPS[name]) if small else asked.steps
    base = replace(base, task=replace(base.task, regime=asked.regime), device=device)
    return override(base, {**changed, "stop.max_steps": steps})


def baseline(asked: Pretraining) -> RunConfig:
    """`composition_gpt2` at the size of `two_hop_small`, with its batches, decay and warm-up.

    The published decay of .01 would shrink a weight by lr * decay * steps = .06 in 6,000 steps.
    """
    published, small = preset("composition_gpt2", asked.seed), preset("two_hop_small", asked.seed)
    sizes: dict[str, Any] = {"n_layers": 4, "d_model": 128, "n_heads": 4, "d_head": 32}
    passes = 2 if asked.model == "gpt2_twice" else 1
    decay: Any = small.optim
    return replace(
        published,
        task=replace(small.task, layout="causal"),
        model=replace(published.model, d_mlp=512, passes=passes, **sizes),
        optim=replace(published.optim, lr=1e-3, weight_decay=decay.weight_decay, warmup_steps=100),
        schedule=small.schedule,
        stop=small.stop,
        threads=1,
    )
