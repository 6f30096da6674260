"""Activations of one checkpoint patched into another: what each part of a donor does there.

Cross-model activation patching (Prakash et al. 2024, arXiv 2402.14811, section 5): both models read
the same rows, and a node's activation in the donor replaces that of the recipient. Raw values
always; the two normalisations are None where they are undefined, and never clipped. Effects do not
add up, so each node is also left out of all of them at once.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from mechgrok.interventions.ablation import record
from mechgrok.interventions.corruption import changed_operand
from mechgrok.interventions.metrics import ONE_ANSWER, Metric, loss, metric
from mechgrok.interventions.node import Node, Nodes, resolve
from mechgrok.interventions.null_donors import MADE
from mechgrok.interventions.patches import Patch, patches_from
from mechgrok.interventions.transplant import (
    check_tasks,
    check_tokenisation,
    common_parent,
    model_of,
)
from mechgrok.interventions.variants import logits

if TYPE_CHECKING:
    import pandas as pd

DONOR: Final = "donor"
APART: Final = 0.2
"""Least distance of the two models, as a share of the metric's range, at which tau is defined."""
ROUNDING: Final = 1e-9
"""Nats by which a null donor must be worse than the own part for kappa to be defined."""
INIT: Final = 1_000
"""Offset of the seed of the random initialisation, so that it is not the donor's own."""


@dataclass(frozen=True, eq=False)
class Across:
    """Metric and loss of the recipient with each node from each donor."""

    nodes: tuple[Node, ...]
    value: Mapping[str, Float[Tensor, " nodes"]]
    """Raw metric with this node alone from a donor, by the donor's name; `donor` first."""
    without: Mapping[str, Float[Tensor, " nodes"]]
    """Raw metric with all nodes but this one from a donor."""
    loss: Mapping[str, Float[Tensor, " nodes"]]
    """Cross-entropy in nats with this node alone from a donor."""
    own: tuple[float, float]
    """Metric and loss of the recipient itself."""
    of: Mapping[str, tuple[float, float]]
    """Metric and loss of each donor itself."""
    metric: str
    span: float
    """The metric's range: 1 for accuracy, log(classes) for the loss; for a metric without bounds
    the larger of the two models' values, from 0 at chance."""
    n: int
    """Rows the means are over."""
    split: str
    common_parent: str
    """As a transplant says it."""
    same_task: bool | None
    """None where a model without a task is among the two."""

    def tau(self, name: str = DONOR) -> tuple[float | None, ...]:
        """(with the node - recipient) / (donor - recipient), of the metric, per node.

        0 leaves the recipient as it is, 1 makes it the donor. None where the two models are less
        than 20 % of the metric's range apart.
        """
        apart = self.of[name][0] - self.own[0]
        if abs(apart) < APART * self.span:
            return (None,) * len(self.nodes)
        return tuple(((self.value[name].double() - self.own[0]) / apart).tolist())

    def kappa(self, null: str) -> tuple[float | None, ...]:
        """(null's loss - donor's loss) / (null's loss - own loss), with the node, per node.

        1 where the donor's part is as good as the recipient's own, 0 where it is as bad as the null
        donor's. None for two tasks, and where the null's part is no worse than the recipient's own.
        """
        theirs, mine = self.loss[null].double(), self.loss[DONOR].double()
        size = theirs - self.own[1]
        if self.same_task is not True:
            return (None,) * len(self.nodes)
        pairs = zip((theirs - mine).tolist(), size.tolist(), strict=True)
        return tuple(above / below if below > ROUNDING else None for above, below in pairs)

    def table(self) -> "pd.DataFrame":
        """One row per donor and node: raw values first; kappa stands in its null donor's rows."""
        import pandas as pd

        places = [
            {"node": x.name, "layer": x.layer, "head": x.head, "position": x.position}
            | {"freq": x.freq, "cycle": ".".join(map(str, x.cycle)) or None}
            for x in self.nodes
        ]
        tables = []
        for name, values in self.value.items():
            frame = pd.DataFrame(places).astype(object)
            frame.insert(0, "donor", name)
            frame = frame.assign(value=values.tolist(), recipient=self.own[0])
            frame = frame.assign(donor_itself=self.of[name][0], without=self.without[name].tolist())
            frame["tau"] = pd.Series(self.tau(name), dtype=object)
            frame["loss"] = self.loss[name].tolist()
            kappa = (None,) * len(self.nodes) if name == DONOR else self.kappa(name)
            frame["kappa"] = pd.Series(kappa, dtype=object)
            tables.append(frame)
        said = {"metric": self.metric, "n": self.n, "split": self.split}
        return pd.concat(tables, ignore_index=True).assign(**said, common_parent=self.common_parent)


def patch_across(
    *,
    donor: Any,
    recipient: Any,
    nodes: Nodes,
    metric: str = "logit_diff",
    nulls: Mapping[str, Any] | None = None,
    split: str = "test",
    across_tasks: bool = False,
    seed: int = 0,
) -> Across:
    """Each node of a donor alone in a recipient, beside the same node of null donors.

        mg.patch_across(donor=late, recipient=early, nodes=mg.nodes("head,mlp", freq=keys)).table()

    Two checkpoints of one shape. Null donors made here: a new initialisation of the donor's config,
    its neurons shuffled, its spectrum with random singular vectors; `nulls` adds others by name,
    such as a random-label run or another seed. All rows are run, so that nodes may have a
    frequency; means are over a split, or "all" rows. `logit_diff` is the right logit minus that of
    the answer to a random other first operand; metrics are those of `interventions.metric`.

    Raises ValueError for another shape, tokenisation, or task (unless `across_tasks`), an unknown
    component, metric or split, and an empty selection.
    """
    task = getattr(recipient, "task", None)
    if task is None:
        raise ValueError("the recipient is a model without a task; pass a checkpoint")
    donors = {DONOR: donor, **_made(donor, seed), **(nulls or {})}
    model = model_of(recipient)
    for name, one in donors.items():
        check_tokenisation(recipient, one)
        _check_shape(name, model, model_of(one))
    check_tasks(recipient, donor, across_tasks)
    chosen = resolve(model, nodes, task.n_ctx)
    if not chosen:
        raise ValueError("got no nodes; nothing would be patched")
    read = _Reading.of(task, metric, split, seed)
    own = read(model, [[]])[0]
    of = {name: read(model_of(one), [[]])[0] for name, one in donors.items()}
    shown = tqdm(donors.items(), "donors", leave=False, disable=None)
    alone = {name: _alone(model, model_of(one), chosen, read) for name, one in shown}
    return Across(
        nodes=chosen,
        value={name: found[0] for name, found in alone.items()},
        without={name: found[2] for name, found in alone.items()},
        loss={name: found[1] for name, found in alone.items()},
        own=own,
        of=of,
        metric=metric,
        span=_span(metric, task.d_vocab_out, own[0], of[DONOR][0]),
        n=len(read.rows),
        split=split,
        common_parent=common_parent(recipient, donor),
        same_task=_same(task, getattr(donor, "task", None)),
    )


@dataclass(frozen=True, eq=False)
class _Reading:
    """How a run of all rows becomes a metric and a loss."""

    tokens: Int[Tensor, "rows pos"]
    rows: Int[Tensor, " split"]
    """Those the means are over."""
    metric: Metric
    position: int

    @classmethod
    def of(cls, task: Any, name: str, split: str, seed: int) -> "_Reading":
        known = {"all": torch.arange(len(task.tokens)), **task.splits}
        if split not in known:
            raise ValueError(f"unknown split {split!r}; the task has {sorted(known)}")
        if name not in ("logit_diff", *ONE_ANSWER):
            raise ValueError(f"unknown metric {name!r}; expected logit_diff or {[*ONE_ANSWER]}")
        rows, labels = known[split], task.labels[:, 0]
        against = None
        if name == "logit_diff":
            chance = torch.Generator().manual_seed(seed)
            against = labels[changed_operand(task.tokens, labels, 0, chance)][rows]
        position = task.positions[0]
        return cls(task.tokens, rows, metric(name, labels[rows], against), position)

    def __call__(
        self, model: Any, variants: Sequence[Sequence[Patch]]
    ) -> list[tuple[float, float]]:
        with torch.no_grad():
            runs = logits(model, self.tokens, variants, (self.position,))
            return [self._means(run[self.rows, 0]) for run in runs]

    def _means(self, answers: Float[Tensor, "split classes"]) -> tuple[float, float]:
        value = self.metric.rows(answers).double().mean()
        return float(value), float(loss(answers, self.metric.labels).mean())


def _alone(
    model: Any, donor: Any, chosen: Sequence[Node], read: _Reading
) -> tuple[Tensor, Tensor, Tensor]:
    """Metric and loss with each node alone, and metric with all nodes but this one."""
    tokens = read.tokens
    found = patches_from(model, chosen, record(donor, tokens, chosen), tokens)
    parts = record(model, tokens, chosen)
    others = [_together([*found[:i], *found[i + 1 :]], parts) for i in range(len(found))]
    alone = read(model, [[patch] for patch in found])
    value, losses = torch.tensor(alone, dtype=torch.float64).T
    without = torch.tensor([one[0] for one in read(model, others)], dtype=torch.float64)
    return value, losses, without


def _together(found: Sequence[Patch], own: Mapping[str, Tensor]) -> list[Patch]:
    """Patches at once; frequencies of one place are swapped together, not one over the other."""
    merged: dict[Any, Patch] = {}
    for patch in found:
        place = (patch.node.hook, str(patch.node.index))
        if patch.node.freq is None or place not in merged:
            merged[place if patch.node.freq is not None else (place, patch.node)] = patch
        else:
            old = patch.node.read(own[patch.node.hook])
            merged[place] = Patch(patch.node, merged[place].values + patch.values - old)
    return list(merged.values())


def _made(donor: Any, seed: int) -> dict[str, Any]:
    """Null donors made of a donor: its model at another initialisation, and with other weights."""
    found: dict[str, Any] = {}
    if hasattr(donor, "untrained"):
        found["random initialisation"] = donor.untrained(INIT + seed)
    model = model_of(donor)
    weights = {name: p.detach() for name, p in model.named_parameters()}
    for name, make in MADE.items():
        changed = make(weights, torch.Generator().manual_seed(seed))
        other = copy.deepcopy(model)
        with torch.no_grad():
            for key, parameter in other.named_parameters():
                parameter.copy_(changed[key])
        found[NAMES[name]] = other
    return found


NAMES: Final[Mapping[str, str]] = {
    "spectrum_matched": "spectrum matched",
    "w_out_permuted": "neurons shuffled",
}


def _span(name: str, classes: int, own: float, other: float) -> float:
    bounded = {"accuracy": 1.0, "loss": math.log(classes)}
    return bounded.get(name, max(abs(own), abs(other)))


def _same(task: Any, other: Any) -> bool | None:
    return None if other is None else task.sha256 == other.sha256


def _check_shape(name: str, model: Any, donor: Any) -> None:
    own, theirs = ({n: tuple(p.shape) for n, p in one.named_parameters()} for one in (model, donor))
    other = [n for n in {**own, **theirs} if own.get(n) != theirs.get(n)]
    if other:
        n = other[0]
        raise ValueError(
            f"{name} and recipient differ in shape: {n} is {theirs.get(n)} and {own.get(n)}; "
            f"patch between two models of one shape"
        )
