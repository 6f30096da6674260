"""Weights of one model in another, as long as a `with` lasts.

Only units closed under the per-head and per-neuron gauges can be taken (`weight_parts.py`).
Anything short of the whole model presumes that both are written in one residual basis: true of
children of one parent, of little meaning between models that share none.
"""

from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from mechgrok.interventions.weight_parts import Parts, Slice, group_of, slices, weights


@dataclass(frozen=True, eq=False)
class Transplant:
    """A context manager: inside it the model has the donor's parts, after it its own bits."""

    model: Any
    """The recipient."""
    donor: Any
    """The model the parts come from; read on entering."""
    slices: tuple[Slice, ...]
    """What is taken."""
    common_parent: str
    """`run ...`, `initialisation ...`, `none`, or `unknown` for models without a history."""
    presumes_shared_basis: bool
    """Whether the parts mean something in one residual basis only: all but the whole model."""
    _saved: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def __enter__(self) -> Any:
        """The recipient with the donor's parts."""
        if self._saved:
            raise ValueError(
                "this transplant is in place already; make another for a second `with`"
            )
        own, theirs = weights(self.model), weights(self.donor)
        taken = [theirs[one.name].detach()[one.place].clone() for one in self.slices]
        self._saved.update({one.name: own[one.name].detach().clone() for one in self.slices})
        with torch.no_grad():
            for one, values in zip(self.slices, taken, strict=True):
                own[one.name][one.place] = values.to(own[one.name])
        return self.model

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the recipient's own bits back."""
        own = weights(self.model)
        with torch.no_grad():
            for name, values in self._saved.items():
                own[name].copy_(values)
        self._saved.clear()


def transplant(
    recipient: Any, *, from_: Any, parts: Parts, across_tasks: bool = False
) -> Transplant:
    """The recipient with parts of another model's weights, inside `with`.

        with mg.transplant(early, from_=late, parts="body") as model:
            mg.evaluate(model, run.task, split="test")

    Both are checkpoints or models. `parts` is embedding (W_E, W_U, b_U), body (all else),
    everything, QK, OV, head, neuron, or a weight in the residual basis such as W_E; heads, neurons
    and layers are numbered by `Part("QK", layer=(0,), heads=(1,))`. `mg.transplant(...)` itself
    says whether the two have a common parent.

    Raises ValueError for parts as `weight_parts.slices`, for weights of different shapes, for an
    embedding from another tokenisation, and for checkpoints of different tasks unless
    `across_tasks`.
    """
    model, donor = model_of(recipient), model_of(from_)
    chosen = slices(model, parts)
    _check_shapes(model, donor, chosen)
    check_tasks(recipient, from_, across_tasks)
    if any(group_of(one.name) == "embedding" for one in chosen):
        check_tokenisation(recipient, from_)
    whole = {one.name for one in chosen if one.index is None}
    partial = whole != set(weights(model))
    return Transplant(model, donor, chosen, common_parent(recipient, from_), partial)


def model_of(subject: Any) -> Any:
    """A checkpoint's model, or a model itself. Raises ValueError for neither."""
    found = getattr(subject, "model", subject)
    if not hasattr(found, "named_parameters"):
        raise ValueError(f"got {type(subject).__name__}; expected a checkpoint or a model")
    return found


def common_parent(one: Any, other: Any) -> str:
    """The nearest thing two checkpoints both come from: a run, or an initialisation.

    `none` where there is nothing, `unknown` for models without a history.
    """
    mine, theirs = getattr(one, "lineage", None), getattr(other, "lineage", None)
    if mine is None or theirs is None:
        return "the same model" if one is other else "unknown"
    return next((ancestor for ancestor in mine if ancestor in theirs), "none")


def check_tasks(one: Any, other: Any, across_tasks: bool) -> None:
    """Raise ValueError for checkpoints of different tasks, unless that is what is asked for."""
    tasks: list[Any] = [getattr(subject, "task", None) for subject in (one, other)]
    if across_tasks or None in tasks or tasks[0].sha256 == tasks[1].sha256:
        return
    raise ValueError(
        f"the two were trained on different tasks ({_said(one)}; {_said(other)}); "
        f"give across_tasks=True if that is the question"
    )


def check_tokenisation(one: Any, other: Any) -> None:
    """Raise ValueError for checkpoints whose tokens do not mean the same."""
    tasks: list[Any] = [getattr(subject, "task", None) for subject in (one, other)]
    if None in tasks or tasks[0].vocabulary == tasks[1].vocabulary:
        return
    mine, theirs = tasks[0].vocabulary, tasks[1].vocabulary
    at = next((i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), None)
    where = f"token {at} is {mine[at]!r} and {theirs[at]!r}" if at is not None else "other lengths"
    raise ValueError(
        f"the two have different tokenisations ({len(mine)} and {len(theirs)} tokens; {where}): "
        f"an embedding, or activations on the same rows, would mean other things"
    )


def _said(subject: Any) -> str:
    task = subject.config.task
    return f"{subject.name}: {getattr(task, 'operation', getattr(task, 'group', task.name))}"


def _check_shapes(model: Any, donor: Any, chosen: tuple[Slice, ...]) -> None:
    own, theirs = weights(model), weights(donor)
    wrong = [
        f"{n} is {list(own[n].shape)} here and {list(theirs[n].shape) if n in theirs else 'absent'}"
        for n in dict.fromkeys(one.name for one in chosen)
        if n not in theirs or theirs[n].shape != own[n].shape
    ]
    if wrong:
        raise ValueError(
            f"the models differ in shape: {'; '.join(wrong[:3])} there; take parts that fit both"
        )
