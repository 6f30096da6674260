"""What every edge does: exact effects, their mirror, and first-order scores beside them.

Exact: the metric with only that edge corrupted and all else clean, minus the clean metric. Mirror:
with only that edge clean and all else corrupted, minus the corrupted metric. Effects of edges do
not add up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from jaxtyping import Float, Int
from scipy.stats import spearmanr
from torch import Tensor
from tqdm import tqdm

from mechgrok.circuits.contrast import Contrast, contrast, some_rows
from mechgrok.circuits.gradients import eap, eap_ig
from mechgrok.circuits.graph import Edge, Graph
from mechgrok.interventions.metrics import Metric

if TYPE_CHECKING:
    import pandas as pd

EXACT: Final = "exact"
METHODS: Final = (EXACT, "mirror", "eap", "eap_ig")
ROWS: Final = 4096
"""Rows of a graph without frequencies that are held at once."""
SMALL: Final = 0.01
"""Signs are compared where the exact effect is at least this share of the largest."""


@dataclass(frozen=True, eq=False)
class EdgeEffects:
    """Effects and scores of every edge, in units of the metric."""

    edges: tuple[Edge, ...]
    scores: Mapping[str, Float[Tensor, " edges"]]
    """By method: exact, mirror, eap, eap_ig."""
    clean: float
    """Metric of the clean run."""
    corrupted: float
    """Metric of the corrupted run."""
    n: int
    """Rows the metric is a mean over."""
    metric: str
    steps: int
    """Midpoints of EAP-IG."""
    saturated: float
    """Share 0..1 of clean rows with p(right) > .999; gradients of a loss say little there."""

    def table(self) -> "pd.DataFrame":
        """One row per edge: its ends, effects and scores, both runs, n and metric."""
        import pandas as pd

        frame = pd.DataFrame(
            [(e.name, e.source.name, e.target.name, e.kind) for e in self.edges],
            columns=["edge", "source", "target", "kind"],
        )
        for name, values in self.scores.items():
            frame[name] = values.tolist()
        return frame.assign(
            clean=self.clean, corrupted=self.corrupted, n=self.n, metric=self.metric
        )

    def errors(self) -> "pd.DataFrame":
        """One row per approximation: how far its scores are from the exact effects."""
        import pandas as pd

        names = [name for name in self.scores if name in ("eap", "eap_ig")]
        rows = [errors(self.scores[EXACT], self.scores[name]) for name in names]
        frame = pd.DataFrame(rows).assign(saturated=self.saturated, metric=self.metric)
        frame.insert(0, "method", names)
        return frame


def errors(
    exact: Float[Tensor, " edges"], scores: Float[Tensor, " edges"]
) -> dict[str, float | int | None]:
    """Rank correlation of all edges and of the large ones (None where one does not vary), largest
    error, and how many of the large have another sign. Large: an exact effect of at least 1 % of
    the largest."""
    large = exact.abs() >= SMALL * exact.abs().max()
    flips = (exact.sign() != scores.sign()) & large
    return {
        "rank_correlation": _rank(exact, scores),
        "rank_correlation_large": _rank(exact[large], scores[large]),
        "max_error": float((exact - scores).abs().max()),
        "largest_exact": float(exact.abs().max()),
        "sign_flips": int(flips.sum()),
        "of_edges": int(large.sum()),
        "n_edges": len(exact),
    }


def _rank(exact: Float[Tensor, " edges"], scores: Float[Tensor, " edges"]) -> float | None:
    varies = all(len(x) > 1 and bool((x != x[0]).any()) for x in (exact, scores))
    if not varies:
        return None
    found: Any = spearmanr(exact.numpy(), scores.numpy())
    return float(found.statistic)


def edge_effects(
    model: Any,
    graph: Graph,
    clean: Int[Tensor, "rows pos"],
    corrupted: Int[Tensor, "rows pos"],
    metric: Metric,
    *,
    methods: Sequence[str] = METHODS,
    steps: int = 8,
) -> EdgeEffects:
    """Effects and scores of every edge of a graph, from corrupting `clean` rows into `corrupted`.

        rows = mg.interventions.changed_operand(tokens, labels, 0, generator)
        by = mg.interventions.metric("logit_diff", labels, against=labels[rows])
        edge_effects(model, circuits.graph(model), tokens, tokens[rows], by).table()

    Raises ValueError for an unknown method, and as `contrast`.
    """
    unknown = sorted(set(methods) - set(METHODS))
    if unknown or not methods:
        raise ValueError(f"got methods {unknown or list(methods)}, expected some of {METHODS}")
    if clean.shape != corrupted.shape:
        raise ValueError(f"clean {list(clean.shape)} and corrupted {list(corrupted.shape)} differ")
    n = len(clean)
    size = n if graph.p else ROWS  # a frequency part needs the whole table
    total = {name: torch.zeros(len(graph.edges), dtype=torch.float64) for name in methods}
    ends = torch.zeros(3, dtype=torch.float64)
    for start in range(0, n, size):
        rows = slice(start, min(start + size, n))
        runs = contrast(model, graph, clean[rows], corrupted[rows], some_rows(metric, rows))
        share = (rows.stop - rows.start) / n
        for name, found in effects_of(runs, methods, steps).items():
            total[name] += share * found
        own = [runs.clean, runs.corrupted, runs.saturated]
        ends += share * torch.tensor(own, dtype=torch.float64)
    both = (float(ends[0]), float(ends[1]))
    return EdgeEffects(graph.edges, total, *both, n, metric.name, steps, float(ends[2]))


def effects_of(
    runs: Contrast, methods: Sequence[str], steps: int
) -> dict[str, Float[Tensor, " edges"]]:
    """By method, of runs that are recorded already."""
    found = {}
    for name in methods:
        if name in (EXACT, "mirror"):
            found[name] = _alone(runs, denoise=name == "mirror")
        else:
            found[name] = (eap(runs) if name == "eap" else eap_ig(runs, steps)).cpu()
    return found


def _alone(runs: Contrast, denoise: bool) -> Float[Tensor, " edges"]:
    """Change of the metric by each edge alone."""
    own = runs.corrupted if denoise else runs.clean
    edges = runs.graph.edges
    # heads that have the same cut share a pass when they follow each other (`Cuts._one_input`)
    order = sorted(
        range(len(edges)),
        key=lambda i: (edges[i].target.component.kind, edges[i].source, edges[i].target),
    )
    values = torch.zeros(len(edges), dtype=torch.float64)
    name = "denoise" if denoise else "noise"
    for i in tqdm(order, desc=f"edges, {name}", unit="edge", disable=None, leave=False):
        values[i] = runs.value([edges[i]], denoise) - own
    return values
