"""The frequencies a network uses for modular addition, with the evidence for each.

Nanda et al. 2023 (arXiv 2301.05217) take every frequency that is some neuron's best; on a real
checkpoint that gives 10 where 5 are used. Here a frequency is key when it holds a cluster of pure
neurons or when its cosine is visible in the logits; the published rule is kept beside as evidence.
"""

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor

from mechgrok.maths.fourier import check_frequencies, cosine_coefficients, power_shares
from mechgrok.measures._modular import (
    Pairs,
    Subject,
    matrices,
    neurons,
    pairs,
    report,
    table_task,
    typed_absence,
)
from mechgrok.measures.neuron_clusters import NeuronClusters, neuron_clusters
from mechgrok.runs.result import Result, Value

SUBJECT: Final = "checkpoint"
MIN_CLUSTER: Final = 0.01
"""Least share of live neurons in a key's cluster."""
MIN_COSINE: Final = 0.02
"""Least centred logit cosine; untrained models stay below 2e-4 at p=113."""
RULE: Final = (
    "robust: clusters (explained fraction >= 0.85) with >= 1 % of live neurons, "
    "or row-centred logit cosine > 0.02"
)


@dataclass(frozen=True)
class KeyFrequencies:
    """Key frequencies of one checkpoint."""

    freqs: tuple[int, ...]
    """Ascending, in 1..p//2; empty when there is no evidence for any."""
    evidence: Mapping[int, Mapping[str, float]]
    """For every frequency: cosine, and with neurons cluster_size, cluster_share (of live neurons),
    best_of (neurons whose best it is, without a threshold); with an embedding embedding_share."""
    rule: str
    """How they were selected."""

    @property
    def unique_best(self) -> tuple[int, ...]:
        """The published rule: every frequency that is the best of at least one neuron."""
        return tuple(k for k, e in self.evidence.items() if e.get("best_of", 0) > 0)


def key_frequencies(
    logits: Float[Tensor, "pairs p"],
    acts: Float[Tensor, "pairs d_mlp"] | None = None,
    embed: Float[Tensor, "p d_model"] | None = None,
    *,
    p: int,
) -> KeyFrequencies:
    """Key frequencies by the robust rule; without neurons by the logits alone.

    Rows are all pairs a * p + b, classes and rows of `embed` the elements of Z_p ("=" dropped).
    """
    logits = logits.double()
    norm = (logits - logits.mean(dim=1, keepdim=True)).norm().clamp(min=1e-300)
    cosines = (cosine_coefficients(logits, p) / norm).tolist()
    evidence: dict[int, dict[str, float]] = {k + 1: {"cosine": c} for k, c in enumerate(cosines)}
    if acts is not None:
        _add_neurons(evidence, neuron_clusters(acts, p))
    if embed is not None:
        for k, share in enumerate(power_shares(embed.double()).tolist()):
            evidence[k + 1]["embedding_share"] = share
    freqs = tuple(k for k, found in evidence.items() if _is_key(found))
    return KeyFrequencies(freqs, evidence, RULE)


def _add_neurons(evidence: dict[int, dict[str, float]], clusters: NeuronClusters) -> None:
    best = clusters.freq.tolist()
    sizes = clusters.sizes
    for k, found in evidence.items():
        found["cluster_size"] = float(sizes.get(k, 0))
        found["cluster_share"] = sizes.get(k, 0) / max(clusters.n_live, 1)
        found["best_of"] = float(best.count(k))


def _is_key(found: Mapping[str, float]) -> bool:
    return found["cosine"] > MIN_COSINE or found.get("cluster_share", 0.0) >= MIN_CLUSTER


def of_checkpoint(checkpoint: Subject) -> KeyFrequencies:
    """Key frequencies of a checkpoint, from logits, last-layer neurons (if any) and embedding."""
    table: Pairs = pairs(checkpoint)
    acts = None if checkpoint.model.cfg.attn_only else neurons(checkpoint)
    return key_frequencies(table.logits, acts, matrices(checkpoint)["W_E"], p=table.p)


_FINAL: weakref.WeakKeyDictionary[Any, tuple[int, KeyFrequencies]] = weakref.WeakKeyDictionary()
"""Keys of each run's last checkpoint with that checkpoint's step, so that a series over a hundred
checkpoints finds them once; a run that has grown since is measured again."""


def of_run(run: Any) -> KeyFrequencies:
    """Key frequencies of a run's last checkpoint, remembered while the run object lives."""
    last = run.steps[-1]
    found = _FINAL.get(run)
    if found is None or found[0] != last:
        found = (last, of_checkpoint(run[-1]))
        _FINAL[run] = found
    return found[1]


def resolve_keys(
    checkpoint: Subject, keys: str | Sequence[int] | KeyFrequencies = "final"
) -> tuple[tuple[int, ...], str]:
    """Frequencies and the words for how they were chosen.

    "final" takes the keys of the run's last checkpoint (knowledge of the end: not a predictor),
    "own" the keys of this checkpoint. Raises ValueError for another word or a wrong frequency.
    """
    if isinstance(keys, KeyFrequencies):
        return keys.freqs, f"given; {keys.rule}"
    if not isinstance(keys, str):
        return check_frequencies(tuple(keys), table_task(checkpoint).n), "given"
    if keys not in ("final", "own"):
        raise ValueError(f"got keys={keys!r}, expected 'final', 'own' or a list of frequencies")
    if keys == "final" and checkpoint.run is not None:
        return of_run(checkpoint.run).freqs, f"keys of the run's last checkpoint; {RULE}"
    note = " (no run, so 'final' is this checkpoint)" if keys == "final" else ""
    return of_checkpoint(checkpoint).freqs, f"keys of this checkpoint{note}; {RULE}"


@typed_absence("key_frequencies", "n", "freqs", "unique_best")
def measure(checkpoint: Subject) -> Result:
    """Key frequencies of this checkpoint; arrays hold every frequency's evidence. No options."""
    found = of_checkpoint(checkpoint)
    values: dict[str, Value] = {
        "n": len(found.freqs),
        "freqs": found.freqs,
        "unique_best": found.unique_best,
    }
    for k in found.freqs:
        values |= {f"{name}_{k}": value for name, value in found.evidence[k].items()}
    names = found.evidence[1]
    rows = {name: [e[name] for e in found.evidence.values()] for name in names}
    arrays = {name: torch.tensor(row, dtype=torch.float64) for name, row in rows.items()}
    definition = {**DEFINITION, "selection": found.rule}
    return report("key_frequencies", checkpoint, values, definition, arrays)


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "neuron clusters (8 linear and quadratic terms) and logit cosines",
    "centring": "neurons by their mean over pairs; logits by row",
    "split": "all pairs, '=' class dropped",
    "dtype": "logits and embedding float64, neurons in the model's dtype",
}
