"""What of the donor's circuit the children use: frequencies, clusters, losses, coset blocks."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import stats
from scipy.special import comb

from mechgrok.config import ConfigError

if TYPE_CHECKING:
    from mechgrok.measures.neuron_clusters import NeuronClusters
    from mechgrok.runs.checkpoint import Checkpoint


def clusters(checkpoint: Any) -> "NeuronClusters":
    """Neurons by the one frequency that explains them, in the task's own order of elements."""
    from mechgrok.measures._modular import neurons, table_task
    from mechgrok.measures.neuron_clusters import neuron_clusters

    return neuron_clusters(neurons(checkpoint), table_task(checkpoint).n)


def cluster_and_others(checkpoint: "Checkpoint") -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The neurons of the largest cluster, and as many others of the same norms.

    Every member is matched, the largest first, with the nearest neuron outside that is not taken
    yet. Raises ConfigError for a donor without clusters, and for one whose cluster is more than
    half of it.
    """
    found = clusters(checkpoint)
    if not found.sizes:
        raise ConfigError(f"{checkpoint.name} has no cluster of neurons; take a grokked donor")
    key = max(found.sizes, key=lambda k: found.sizes[k])
    inside = (found.cluster == key).nonzero()[:, 0].tolist()
    if 2 * len(inside) > len(found.cluster):
        raise ConfigError(f"{checkpoint.name}: cluster {key} is more than half of the neurons")
    return tuple(inside), matched(norms(checkpoint).tolist(), inside)


def matched(norm: Sequence[float], inside: Sequence[int]) -> tuple[int, ...]:
    """For every neuron inside, the largest first, the free one outside that is nearest in norm."""
    free = sorted(set(range(len(norm))) - set(inside))
    found = []
    for i in sorted(inside, key=lambda i: -norm[i]):
        nearest = min(free, key=lambda j: abs(norm[j] - norm[i]))
        free.remove(nearest)
        found.append(nearest)
    return tuple(sorted(found))


def norms(checkpoint: "Checkpoint") -> torch.Tensor:
    """Norm of every neuron of the last block: of its output weights times of its input weights."""
    mlp: Any = checkpoint.model.blocks[-1].mlp
    return (mlp.W_out.norm(dim=1) * mlp.W_in.norm(dim=0)).detach()


def removal(checkpoint: "Checkpoint") -> dict[str, Any]:
    """How many neurons the two removals take, and the sum of their norms."""
    norm = norms(checkpoint)
    cluster, others = cluster_and_others(checkpoint)
    sizes = {"neurons": len(cluster), "of": len(norm)}
    sums = {"cluster": float(norm[list(cluster)].sum()), "others": float(norm[list(others)].sum())}
    return {**sizes, "norms_removed": sums}


def of_child(child: Any, donor: Any) -> dict[str, Any]:
    """Keys of a child on a cyclic target against the donor's, clusters, losses at the keys.

    Under a new naming the child is read in the target's own order of elements. `overlap_p` is the
    hypergeometric chance of at least as many common keys when the child's are drawn at random from
    1..n//2; None where either has none, or the groups differ in order. `same_clusters` is the
    adjusted Rand index of the two partitions of the neurons that are in a cluster both times (1 the
    same, 0 chance).
    """
    from mechgrok.measures.excluded_loss import measure as excluded
    from mechgrok.measures.key_frequencies import of_checkpoint
    from mechgrok.measures.restricted_loss import measure as restricted

    own, theirs = set(of_checkpoint(child).freqs), set(of_checkpoint(donor).freqs)
    found: dict[str, Any] = {"keys": sorted(own), "donor_keys": sorted(theirs)}
    found["overlap_p"] = None
    if own and theirs and child.task.n == donor.task.n:
        common, half = len(own & theirs), child.task.n // 2
        found["common"] = common
        found["overlap_p"] = float(stats.hypergeom.sf(common - 1, half, len(theirs), len(own)))
    found["same_clusters"] = adjusted_rand(clusters(child).cluster, clusters(donor).cluster)
    if own:
        keys = sorted(own)
        inside, outside = restricted(child, keys=keys), excluded(child, keys=keys)
        found["restricted_test_loss"] = inside.values["test"]
        found["restricted_test_accuracy"] = inside.values["test_accuracy"]
        found["excluded_train_loss"] = outside.values["train"]
    return found


def adjusted_rand(one: torch.Tensor, other: torch.Tensor) -> float | None:
    """Adjusted Rand index (Hubert & Arabie 1985) over neurons in a cluster both times.

    None for fewer than 2 neurons, or where both are one block.
    """
    both = (one > 0) & (other > 0)
    a, b = one[both].numpy(), other[both].numpy()
    if len(a) < 2:
        return None
    crossed: Any = stats.contingency.crosstab
    table = crossed(a, b).count
    pairs, rows, columns = (float(np.sum(comb(n, 2))) for n in (table, table.sum(1), table.sum(0)))
    chance = rows * columns / comb(len(a), 2)
    most = (rows + columns) / 2
    return None if most == chance else float((pairs - chance) / (most - chance))


def by_block(child: "Checkpoint") -> dict[str, float]:
    """Test accuracy on D_n by coset of a and b: rotation or reflection."""
    task = child.task
    rows = task.splits["test"]
    right = child.answer_logits[rows, 0].argmax(-1).cpu() == task.labels[rows, 0]
    names = ("rotation rotation", "rotation reflection", "reflection rotation", "reflection twice")
    blocks = task.tags["block"][rows]
    return {
        name: float(right[blocks == i].double().mean())
        for i, name in enumerate(names)
        if bool((blocks == i).any())
    }


def means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean of every number over seeds; what a seed lacks is left out of that mean."""
    names = {n for row in rows for n, v in row.items() if isinstance(v, int | float)}
    return {
        name: float(np.mean([row[name] for row in rows if row.get(name) is not None]))
        for name in sorted(names)
    }
