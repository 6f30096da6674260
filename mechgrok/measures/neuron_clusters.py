"""Which single frequency explains each neuron of the last layer.

Nanda et al. 2023 (arXiv 2301.05217), section 4.2 and appendix: a neuron belongs to frequency k when
the constant, linear and quadratic terms of k hold at least 85 % of its variance over inputs.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechgrok.maths.fourier import check_pairs, component_frequencies, fourier_basis
from mechgrok.measures._modular import Subject, neurons, report, table_task, typed_absence
from mechgrok.runs.result import Result

SUBJECT: Final = "checkpoint"
THRESHOLD: Final = 0.85
"""Least share of a neuron's variance; Nanda et al. 2023."""
NO_CLUSTER: Final = -1
EXAMPLES: Final = 12
"""Neurons whose activations are kept for figures."""
LEVELS: Final = 255


@dataclass(frozen=True)
class NeuronClusters:
    """One entry per neuron."""

    freq: Int[Tensor, " d_mlp"]
    """Frequency 1..p//2 that explains most; -1 for a dead neuron."""
    fraction: Float[Tensor, " d_mlp"]
    """Share 0..1 of the neuron's variance which that frequency explains; 0 for a dead neuron."""
    cluster: Int[Tensor, " d_mlp"]
    """`freq` where `fraction` reaches the threshold, otherwise -1."""
    dead: Bool[Tensor, " d_mlp"]
    """Whether the neuron has one value for all inputs."""
    threshold: float
    """Least fraction for membership."""

    @property
    def sizes(self) -> dict[int, int]:
        """Neurons in each non-empty cluster, by frequency."""
        freqs, counts = self.cluster[self.cluster > 0].unique(return_counts=True)
        return dict(zip(freqs.tolist(), counts.tolist(), strict=True))

    @property
    def n_live(self) -> int:
        """Neurons that are not dead."""
        return int((~self.dead).sum())


def neuron_clusters(
    acts: Float[Tensor, "pairs d_mlp"], p: int, threshold: float = THRESHOLD
) -> NeuronClusters:
    """Frequency, explained fraction and cluster of every neuron, in the dtype of `acts`.

    Raises ValueError unless there is one row for each of the p * p pairs, a * p + b.
    """
    check_pairs(acts.shape[0], p)
    dead = acts.amax(dim=0) == acts.amin(dim=0)
    variance = (acts - acts.mean(dim=0)).square().sum(dim=0)
    # At initialisation dead neurons exist, and 0 / 0 would make their fraction NaN.
    share = single_frequency_power(acts, p) / torch.where(dead, 1, variance)
    fraction, best = torch.where(dead, 0, share).max(dim=0)
    freq = torch.where(dead, NO_CLUSTER, best + 1)
    cluster = torch.where(fraction >= threshold, freq, NO_CLUSTER)
    return NeuronClusters(freq, fraction, cluster, dead, threshold)


def single_frequency_power(
    acts: Float[Tensor, "pairs d_mlp"], p: int
) -> Float[Tensor, "n_freqs d_mlp"]:
    """Power of the terms {1, cos k, sin k} x {1, cos k, sin k} without 1 x 1, for k = 1..p//2.

    The 8 terms of a frequency are one block on the diagonal of the 2-D spectrum, so the second of
    its two matrix products is needed within blocks only.
    """
    table = rearrange(acts, "(a b) d_mlp -> a b d_mlp", a=p)
    waves = frequency_waves(p, acts.dtype, acts.device)
    over_a = torch.tensordot(waves, table, dims=1)  # k wave b d_mlp
    linear_a = over_a.sum(dim=2).square().sum(dim=1) / p
    linear_b = torch.tensordot(waves, table.sum(dim=0), dims=1).square().sum(dim=1) / p
    both = torch.matmul(waves, rearrange(over_a, "k wave b d_mlp -> k b (wave d_mlp)"))
    products = rearrange(both.square(), "k g (wave d_mlp) -> k (g wave) d_mlp", d_mlp=acts.shape[1])
    return linear_a + linear_b + products.sum(dim=1)


def frequency_waves(
    p: int, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "n_freqs 2 p"]:
    """Basis rows cos k, sin k by frequency; the sine of p/2, which vanishes, is a row of zeros."""
    waves = torch.zeros(p // 2, 2, p, dtype=dtype, device=device)
    component = torch.arange(1, p, device=device)
    freqs = component_frequencies(p, device)[1:]
    waves[freqs - 1, (component - 1) % 2] = fourier_basis(p, dtype, device)[1:]
    return waves


def examples(found: NeuronClusters) -> Int[Tensor, " examples"]:
    """At most 12 live neurons in order of frequency: of every frequency the best explained first.

    Members of clusters come before others, and a frequency's first before any frequency's second.
    """
    freq, fraction = found.freq.tolist(), found.fraction.tolist()
    live = [i for i, dead in enumerate(found.dead.tolist()) if not dead]
    seen: Counter[int] = Counter()
    places: list[tuple[bool, int, float, int]] = []
    for i in sorted(live, key=lambda i: -fraction[i]):
        places.append((int(found.cluster[i]) < 0, seen[freq[i]], -fraction[i], i))
        seen[freq[i]] += 1
    chosen = [place[-1] for place in sorted(places)[:EXAMPLES]]
    chosen.sort(key=lambda i: (freq[i], -fraction[i]))
    return torch.tensor(chosen, dtype=torch.long, device=found.freq.device)


def _kept(acts: Float[Tensor, "pairs d_mlp"], found: NeuronClusters, p: int) -> dict[str, Tensor]:
    """Activations of the examples in 256 levels, a fourth of their size."""
    chosen = examples(found)
    maps = rearrange(acts[:, chosen], "(a b) neuron -> neuron a b", a=p)
    low, high = maps.amin(dim=(1, 2)), maps.amax(dim=(1, 2))
    levels = LEVELS * (maps - low[:, None, None]) / (high - low)[:, None, None]
    return {
        "example": chosen,
        "example_levels": levels.round().to(torch.uint8),
        "example_range": torch.stack([low, high], dim=1),
    }


@typed_absence("neuron_clusters", "clustered_share", "clustered", "dead", "sizes")
def measure(checkpoint: Subject, threshold: float = THRESHOLD) -> Result:
    """Clusters of the last layer's neurons, headline the share of live neurons in a cluster.

    Options: threshold (least explained fraction).
    """
    acts, p = neurons(checkpoint), table_task(checkpoint).n
    found = neuron_clusters(acts, p, threshold)
    clustered = int((found.cluster > 0).sum())
    values = {
        "clustered_share": clustered / max(found.n_live, 1),
        "clustered": clustered,
        "dead": int(found.dead.sum()),
        "sizes": [f"{k}: {size}" for k, size in found.sizes.items()],
    }
    arrays = {name: vars(found)[name] for name in ("freq", "fraction", "cluster", "dead")}
    arrays |= _kept(acts, found, p)
    definition = {**DEFINITION, "selection": f"explained fraction >= {threshold}; dead counted"}
    return report("neuron_clusters", checkpoint, values, definition, arrays)


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "share of variance in the 8 linear and quadratic terms of one frequency",
    "centring": "each neuron by its mean over all pairs",
    "split": "all pairs; post-activation at the answer position, last layer",
    "dtype": "the model's; activations of at most 12 example neurons kept in 256 levels",
}
