"""Logit attribution: which component, at which frequency, raises the right answer.

Logits are a sum over components (Elhage et al. 2021, "A Mathematical Framework for Transformer
Circuits", direct logit attribution), and every component's logits are a sum over frequencies
(`maths/pair_terms.py`). The metric is linear in the logits, so the attributions add up to it too.
Direct effects only: what a head does through a later MLP is the MLP's.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechgrok.interventions.metrics import correct_minus_mean
from mechgrok.maths.fourier import sum_index
from mechgrok.maths.pair_terms import split_by_frequency, split_names
from mechgrok.measures._logit_parts import logit_parts
from mechgrok.measures._modular import DoesNotApply, Subject, report, table_task, typed_absence
from mechgrok.measures.key_frequencies import KeyFrequencies, resolve_keys
from mechgrok.runs.result import NotApplicable, Result, Value

if TYPE_CHECKING:
    import pandas as pd

SUBJECT: Final = "checkpoint"
METRIC: Final = "correct_minus_mean"
ALL: Final = "all"
"""Name of a whole where nothing is split."""
BY: Final = ("component", "head", "neurons", "frequency")
NEURON_CHUNK: Final = 64
CLASS_CHUNK: Final = 32
"""Classes split by frequency at once; bounds memory, changes no number."""


@dataclass(frozen=True)
class Attribution:
    """Mean and standard deviation over pairs of the metric of every part of the logits."""

    components: tuple[str, ...]
    """Names of the rows."""
    frequencies: tuple[str, ...]
    """Names of the columns; ("all",) when not split by frequency."""
    mean: Float[Tensor, "components frequencies"]
    """Mean over pairs, in logits; sums to `total`."""
    std: Float[Tensor, "components frequencies"]
    """Population standard deviation over pairs, in logits."""
    total: float
    """The metric of the logits themselves."""
    n: int
    """Pairs."""
    metric: str = METRIC
    """Logit of the right answer minus the mean over classes."""

    def table(self) -> "pd.DataFrame":
        """One row per part: component, frequency, mean, std, share of the total, n, metric."""
        import pandas as pd

        names = [(c, f) for c in self.components for f in self.frequencies]
        frame = pd.DataFrame(names, columns=["component", "frequency"])
        frame["mean"] = self.mean.flatten().tolist()
        frame["std"] = self.std.flatten().tolist()
        # A share of nothing does not exist; pandas shows None.
        frame["share"] = [x / self.total if self.total else None for x in frame["mean"]]
        return frame.assign(n=self.n, metric=self.metric)


def attribution(
    parts: Float[Tensor, "components pairs classes"],
    labels: Int[Tensor, " pairs"],
    names: Sequence[str] | None = None,
    *,
    p: int | None = None,
    keys: Sequence[int] | None = None,
) -> Attribution:
    """Metric of every part, whole, or with `p` and `keys` by frequency.

    Parts sum to the logits over their first axis. Raises ValueError for names that do not match,
    and with keys unless the rows are all p * p pairs.
    """
    given = tuple(names) if names is not None else tuple(f"part {i}" for i in range(len(parts)))
    if len(given) != len(parts):
        raise ValueError(f"got {len(given)} names for {len(parts)} parts, expected as many")
    if keys is not None and p is None:
        raise ValueError("got keys without p, expected the modulus too: p=113")
    return _attributed(zip(given, parts.double(), strict=True), labels, p, keys)


def _attributed(
    parts: Iterable[tuple[str, Float[Tensor, "pairs classes"]]],
    labels: Int[Tensor, " pairs"],
    p: int | None,
    keys: Sequence[int] | None,
) -> Attribution:
    """One part at a time, so that memory does not grow with their number."""
    names, means, stds = [], [], []
    total = torch.zeros(len(labels), dtype=torch.float64, device=labels.device)
    for name, part in parts:
        values = _metric_of_part(part, labels, p, keys)
        total += correct_minus_mean(part, labels)
        names.append(name)
        means.append(values.mean(dim=1))
        stds.append(values.std(dim=1, correction=0))
    return Attribution(
        components=tuple(names),
        frequencies=(ALL,) if keys is None else split_names(keys),
        mean=torch.stack(means),
        std=torch.stack(stds),
        total=float(total.mean()),
        n=len(labels),
    )


def _metric_of_part(
    part: Float[Tensor, "pairs classes"],
    labels: Int[Tensor, " pairs"],
    p: int | None,
    keys: Sequence[int] | None,
) -> Float[Tensor, "frequencies pairs"]:
    """The metric of one part, whole or by frequency.

    A split acts on each class by itself and the metric is a sum over classes, so a few classes at
    a time are enough; all at once would be a dozen tables of the logits' size.
    """
    if keys is None or p is None:
        return correct_minus_mean(part, labels)[None]
    classes = part.shape[1]
    values = part.new_zeros(len(split_names(keys)), len(labels))
    for first in range(0, classes, CLASS_CHUNK):
        columns = part[:, first : first + CLASS_CHUNK]
        inside = (labels >= first) & (labels < first + columns.shape[1])
        own = (labels - first).clamp(0, columns.shape[1] - 1)[:, None]
        for i, x in enumerate(split_by_frequency(columns, p, keys).values()):
            values[i] += x.gather(1, own)[:, 0] * inside - x.sum(dim=1) / classes
    return values


def of_checkpoint(
    checkpoint: Subject,
    by: Sequence[str] = ("head", "frequency"),
    keys: str | Sequence[int] | KeyFrequencies = "final",
    neuron_chunk: int = NEURON_CHUNK,
) -> Attribution:
    """Attribution of a checkpoint's logits on all pairs; `.table()` is a pandas frame.

    `by`: "component" (attention layers and MLPs as wholes), "head", "neurons" (MLPs in chunks of
    `neuron_chunk`), "frequency"; "frequency" alone splits the logits as a whole. Raises ValueError
    for another word, and DoesNotApply where the checkpoint has no such parts.
    """
    by = (by,) if isinstance(by, str) else tuple(by)
    unknown = [word for word in by if word not in BY]
    if unknown or not by:
        raise ValueError(f"got by={by}, expected some of {list(BY)}")
    labels = _labels(checkpoint)
    freqs = _keys(checkpoint, keys, labels)[0] if "frequency" in by else None
    parts = logit_parts(
        checkpoint, heads="head" in by, neuron_chunk=neuron_chunk if "neurons" in by else None
    )
    if by == ("frequency",):
        parts = iter([(ALL, reduce(torch.add, (part for _, part in parts)))])
    return _attributed(parts, labels, table_task(checkpoint).n, freqs)


def _labels(checkpoint: Subject) -> Int[Tensor, " pairs"]:
    """Right answers of all pairs as elements of Z_p."""
    task = table_task(checkpoint)
    return torch.argsort(task.renamed)[task.labels[:, 0]].to(checkpoint.model.embed.W_E.device)


def _keys(
    checkpoint: Subject,
    keys: str | Sequence[int] | KeyFrequencies,
    labels: Int[Tensor, " pairs"],
) -> tuple[tuple[int, ...], str]:
    task = table_task(checkpoint)
    if not torch.equal(labels, sum_index(task.n, labels.device)):
        raise DoesNotApply(
            f"directions cos, sin w_k(a+b) belong to addition mod p; the labels of "
            f"{task.config.operation} are not (a+b) mod {task.n}"
        )
    freqs, rule = resolve_keys(checkpoint, keys)
    if not freqs:
        raise DoesNotApply(f"no key frequencies: {rule}")
    return freqs, rule


@typed_absence("attribution", "total")
def measure(checkpoint: Subject, keys: str | Sequence[int] | KeyFrequencies = "final") -> Result:
    """Attribution by head, MLP and the rest, and by frequency; headline the metric itself.

    Options: keys ("final", "own" or frequencies). Without keys the frequencies do not apply, and
    the components stay. The array `mean` has a row per component and a column per frequency.
    """
    labels = _labels(checkpoint)
    try:
        freqs, rule = _keys(checkpoint, keys, labels)
    except DoesNotApply as reason:
        absent, freqs, rule = NotApplicable(str(reason)), None, "none"
    else:
        absent = None
    p = table_task(checkpoint).n
    found = _attributed(logit_parts(checkpoint), labels, p, freqs)
    values: dict[str, Value] = {"total": found.total}
    rows = found.mean.sum(dim=1).tolist()
    values |= dict(zip(found.components, rows, strict=True))
    if absent is not None:
        values["frequencies"] = absent
    else:
        columns = found.mean.sum(dim=0).tolist()
        values |= dict(zip(found.frequencies, columns, strict=True))
        values["keys"] = freqs
    names: Mapping[str, str] = {
        "rows": ", ".join(found.components),
        "columns": ", ".join(found.frequencies),
    }
    arrays = {"mean": found.mean, "std": found.std}
    definition = {**DEFINITION, **names, "selection": rule}
    return report("attribution", checkpoint, values, definition, arrays)


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "logit of the right answer minus mean over the p classes, of each part of the "
    "logits; direct effects; a final normalisation at the scale of the full forward",
    "frequencies": "const; sum k: cos, sin w_k(a+b); other key terms: linear and difference terms "
    "of single keys; non-key: everything else, cross terms of two keys included",
    "centring": "by the metric: mean over classes",
    "split": "mean and population std over all pairs, '=' class dropped",
    "dtype": "float64, forward pass included (a copy of the model)",
}
