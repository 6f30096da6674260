"""Activation patching and causal tracing: what each node alone restores, or breaks.

Denoising patches a clean activation into the corrupted run; noising a corrupted one into the clean
run (Heimersheim and Nanda 2024, arXiv 2404.15255). Values are raw; effects are scaled so that 0 is
the corrupted run and 1 the clean one, and noising reports damage, 1 minus that. Effects of several
nodes do not add up.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechgrok.interventions import patches
from mechgrok.interventions.ablation import record
from mechgrok.interventions.metrics import Metric
from mechgrok.interventions.node import Node, Nodes, nodes, resolve
from mechgrok.interventions.patches import Patch, patches_from
from mechgrok.interventions.variants import AnyMetric, measure

if TYPE_CHECKING:
    import pandas as pd

DIRECTIONS: Final = ("denoise", "noise")
ROUNDING: Final = 64
"""The two runs differ when their metrics do by more than this many units of rounding."""


@dataclass(frozen=True, eq=False)
class Patched:
    """The metric with each node patched alone."""

    nodes: tuple[Node, ...]
    value: Float[Tensor, " nodes"]
    """Raw metric."""
    clean: float
    """Metric of the clean run."""
    corrupted: float
    """Metric of the corrupted run."""
    n: int
    """Rows the metric is a mean over."""
    metric: str
    direction: str

    @property
    def effect(self) -> tuple[float | None, ...]:
        """Denoising: the share restored (0 corrupted, 1 clean). Noising: the damage, 1 minus the
        share left. Never clipped; None where both runs have the same metric."""
        size = max(abs(self.clean), abs(self.corrupted))
        if abs(self.clean - self.corrupted) <= ROUNDING * torch.finfo(self.value.dtype).eps * size:
            return (None,) * len(self.nodes)
        shares = (self.value.double() - self.corrupted) / (self.clean - self.corrupted)
        return tuple((shares if self.direction == "denoise" else 1 - shares).tolist())

    def table(self) -> "pd.DataFrame":
        """One row per node: where it is, raw value, effect, both runs, n, metric and direction."""
        import pandas as pd

        places = [
            {"node": x.name, "layer": x.layer, "head": x.head, "position": x.position}
            | {"freq": x.freq, "cycle": ".".join(map(str, x.cycle)) or None}
            for x in self.nodes
        ]
        frame = pd.DataFrame(places).astype(object).assign(value=self.value.tolist())
        frame["effect"] = pd.Series(self.effect, dtype=object)
        return frame.assign(
            clean=self.clean,
            corrupted=self.corrupted,
            n=self.n,
            metric=self.metric,
            direction=self.direction,
        )


def patch(
    model: Any,
    nodes: Nodes,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "_ _"],
    metric: AnyMetric,
    direction: str = "denoise",
) -> Patched:
    """Each node alone, taken from one run into the other; one with a frequency, that part alone.

        rows = mg.interventions.changed_operand(task.tokens, task.labels[:, 0], 0, generator)
        by = mg.interventions.metric("logit_diff", labels, against=labels[rows])
        mg.patch(model, mg.nodes("head,mlp", position=-1), tokens, tokens[rows], by).table()

    Frequencies need all p * p pairs, in the order a * p + b, as the clean rows. Raises ValueError
    for an unknown direction, for tokens of different shapes, and for no node.
    """
    if direction not in DIRECTIONS:
        raise ValueError(f"got direction={direction!r}, expected one of {DIRECTIONS}")
    if clean.shape != corrupted.shape:
        raise ValueError(f"clean {list(clean.shape)} and corrupted {list(corrupted.shape)} differ")
    chosen = _some(model, nodes, clean)
    run, source = (corrupted, clean) if direction == "denoise" else (clean, corrupted)
    found = patches_from(model, chosen, source, run, grid=clean)
    own, *values = measure(model, run, [[], *([p] for p in found)], metric)
    other = float(measure(model, source, [[]], metric)[0])
    both = (other, float(own)) if direction == "denoise" else (float(own), other)
    return Patched(chosen, torch.stack(values), *both, len(clean), metric_name(metric), direction)


def causal_trace(
    model: Any,
    nodes: Nodes,
    tokens: Int[Tensor, "batch pos"],
    metric: AnyMetric,
    *,
    positions: Sequence[int],
    generator: torch.Generator,
    scale: float = 3.0,
    embedding: str = "embed",
) -> Patched:
    """Corrupt the embedding at some positions by noise, and restore one clean state at a time.

    Noise is normal, its standard deviation `scale` times that of the embeddings (Meng et al. 2022,
    arXiv 2202.05262, section 2.1). To corrupt tokens instead, `patch` with other tokens. Raises
    ValueError as `patch`, and for a scale that is not positive.
    """
    if scale <= 0:
        raise ValueError(f"got scale={scale}, expected more than 0: nothing would be corrupted")
    noisy = _noised(model, tokens, embedding, positions, scale, generator)
    chosen = _some(model, nodes, tokens)
    kept = record(model, tokens, chosen)
    reads_own = any(node.freq is not None for node in chosen)  # and then runs the model once
    with model.hooks(fwd_hooks=patches.hooks(noisy)) if reads_own else nullcontext():
        found = patches_from(model, chosen, kept, tokens)
    variants = [noisy, *([*noisy, p] for p in found)]
    clean, own, *values = measure(model, tokens, [[], *variants], metric)
    both = (float(clean), float(own))
    return Patched(chosen, torch.stack(values), *both, len(tokens), metric_name(metric), "denoise")


def _noised(
    model: Any,
    tokens: Tensor,
    embedding: str,
    positions: Sequence[int],
    scale: float,
    generator: torch.Generator,
) -> list[Patch]:
    at = nodes(embedding, position=positions).of(model, tokens.shape[1])
    embedded: Mapping[str, Tensor] = record(model, tokens, at)
    made = []
    for node in at:
        own = node.read(embedded[node.hook])
        draws = torch.randn(own.shape, generator=generator, dtype=torch.float64)
        noise = scale * float(embedded[node.hook].double().std()) * draws
        made.append(Patch(node, own + noise.to(own)))
    return made


def _some(model: Any, given: Nodes, tokens: Tensor) -> tuple[Node, ...]:
    chosen = resolve(model, given, tokens.shape[1])
    if not chosen:
        raise ValueError("got no nodes; nothing would be patched")
    return chosen


def metric_name(metric: AnyMetric) -> str:
    """Name of a metric in tables."""
    return metric.name if isinstance(metric, Metric) else getattr(metric, "__name__", "metric")
