"""What the wrappers of modular-addition measures share: the table of pairs, in order of Z_p.

Rows are all pairs a * p + b. Token names may be permuted (`relabel`) and there may be an output
class for "="; here tokens and classes are the elements 0..p-1 in order, "=" dropped, in float64.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from mechgrok.maths.fourier import sum_index
from mechgrok.runs.result import NotApplicable, Result, Value
from mechgrok.tasks import binary

ANSWER = -1
"""Position of the answer in every row of a binary task."""
CHUNK = 2048
"""Rows per forward pass while activations are recorded; bounds memory, changes no number."""

Options = ParamSpec("Options")


@runtime_checkable
class Subject(Protocol):
    """A checkpoint, as far as measures need it."""

    @property
    def step(self) -> int: ...
    @property
    def seed(self) -> int | None: ...
    @property
    def run(self) -> Any: ...
    @property
    def task(self) -> Any: ...
    @property
    def model(self) -> Any: ...

    if TYPE_CHECKING:  # isinstance on a protocol reads every member, and this one is a forward pass

        @property
        def answer_logits(self) -> Float[Tensor, "rows answers classes"]: ...


class DoesNotApply(Exception):
    """A measure has no value for this subject; becomes `NotApplicable` in the result."""


@dataclass(frozen=True)
class Pairs:
    """Logits and labels of every pair, in order of Z_p."""

    p: int
    """Modulus."""
    logits: Float[Tensor, "pairs p"]
    """float64, the "=" class dropped."""
    labels: Int[Tensor, " pairs"]
    """Right answers as elements of Z_p."""
    splits: Mapping[str, Int[Tensor, " _"]]
    """Row indices by name."""


def typed_absence(
    name: str, *values: str
) -> Callable[
    [Callable[Concatenate[Any, Options], Result]], Callable[Concatenate[Any, Options], Result]
]:
    """Turn DoesNotApply inside a wrapper into a Result whose `values` are NotApplicable."""

    def decorate(
        measure: Callable[Concatenate[Any, Options], Result],
    ) -> Callable[Concatenate[Any, Options], Result]:
        @functools.wraps(measure)
        def typed(subject: Any, *args: Options.args, **options: Options.kwargs) -> Result:
            try:
                return measure(subject, *args, **options)
            except DoesNotApply as reason:
                absent: Value = NotApplicable(str(reason))
                return report(name, subject, dict.fromkeys(values, absent), {})

        return typed

    return decorate


def report(
    name: str,
    checkpoint: Subject,
    values: Mapping[str, Value],
    definition: Mapping[str, str],
    arrays: Mapping[str, Shaped[Tensor, "..."]] | None = None,
) -> Result:
    """Result of a checkpoint, with its run, seed and step."""
    return Result(
        measure=name,
        values=values,
        definition=definition,
        arrays={key: x.detach().cpu().numpy() for key, x in (arrays or {}).items()},
        run=None if checkpoint.run is None else checkpoint.run.name,
        seed=checkpoint.seed,
        step=checkpoint.step,
    )


def table_task(checkpoint: Subject) -> binary.Task:
    """The checkpoint's task, if its rows are all p * p pairs; DoesNotApply otherwise."""
    task = checkpoint.task
    if not isinstance(task, binary.Task):
        raise DoesNotApply(f"the task {type(task).__module__} is not one binary operation on Z_n")
    if len(task.tokens) != task.n**2:
        raise DoesNotApply(
            f"the table has {len(task.tokens)} rows, not all {task.n**2} pairs "
            f"({task.config.operation} mod {task.n})"
        )
    return task


def pairs(checkpoint: Subject) -> Pairs:
    """Logits, labels and splits of every pair; DoesNotApply without a complete table."""
    task = table_task(checkpoint)
    answers = checkpoint.answer_logits
    found = _PAIRS.get(answers)
    if found is None:
        found = _PAIRS[answers] = _pairs(task, answers[:, 0])
    return found


_PAIRS: WeakIdKeyDictionary = WeakIdKeyDictionary()
"""Table of each checkpoint's logits while they live, since half a dozen measures read it."""


def _pairs(task: binary.Task, logits: Float[Tensor, "pairs classes"]) -> Pairs:
    device = logits.device
    element_of = torch.argsort(task.renamed)
    return Pairs(
        p=task.n,
        logits=logits[:, task.renamed.to(device)].double(),
        labels=element_of[task.labels[:, 0]].to(device),
        splits={name: rows.to(device) for name, rows in task.splits.items()},
    )


def sums(checkpoint: Subject) -> Pairs:
    """`pairs`, if every label is (a + b) mod p; DoesNotApply otherwise."""
    table = pairs(checkpoint)
    if not torch.equal(table.labels, sum_index(table.p, table.labels.device)):
        raise DoesNotApply(
            f"directions cos, sin w_k(a+b) belong to addition mod p; the labels of "
            f"{checkpoint.task.config.operation} are not (a+b) mod {table.p}"
        )
    return table


def matrices(checkpoint: Subject) -> dict[str, Float[Tensor, "p _"]]:
    """W_E, W_U and, with an MLP, W_L = W_out W_U of the last layer: one row per element of Z_p."""
    order = table_task(checkpoint).renamed
    model = checkpoint.model
    order = order.to(model.embed.W_E.device)
    unembed = model.unembed.W_U.detach()[:, order].double()
    found = {"W_E": model.embed.W_E.detach()[order].double(), "W_U": unembed.T}
    if not model.cfg.attn_only:
        found["W_L"] = (model.blocks[-1].mlp.W_out.detach().double() @ unembed).T
    return found


def activations(
    model: Any, tokens: Int[Tensor, "rows n_ctx"], select: Mapping[str, Callable[[Tensor], Tensor]]
) -> dict[str, Tensor]:
    """For every hook name, `select(activation)` of all rows, without keeping the rest."""
    found: dict[str, list[Tensor]] = {name: [] for name in select}

    def keep(activation: Tensor, hook: Any) -> None:
        found[hook.name].append(select[hook.name](activation).clone())

    last = model.cfg.n_layers
    hooks: list[tuple[str, Callable[..., Tensor | None]]] = [(name, keep) for name in select]
    if not model.cfg.attn_only and not model.cfg.parallel_attn_mlp:
        hooks.append((f"blocks.{last - 1}.hook_resid_mid", _answer_only))
    with torch.no_grad():
        for rows in tokens.to(model.embed.W_E.device).split(CHUNK):
            model.run_with_hooks(rows, fwd_hooks=hooks, return_type=None, stop_at_layer=last)
    return {name: torch.cat(parts) for name, parts in found.items()}


def _answer_only(
    resid_mid: Float[Tensor, "rows n_ctx d_model"], hook: Any
) -> Float[Tensor, "rows 1 d_model"]:
    """Drop all positions but the answer's before the last MLP, which acts on each by itself."""
    return resid_mid[:, ANSWER:]


def neurons(checkpoint: Subject) -> Float[Tensor, "pairs d_mlp"]:
    """Post-activation neurons of the last layer at the answer position, in the model's dtype."""
    task = table_task(checkpoint)
    model = checkpoint.model
    if model.cfg.attn_only:
        raise DoesNotApply("the model has attention only, so it has no neurons")
    # Imported here because it loads transformer_lens, which the pure functions do not need.
    from mechgrok.models.shared_prefix import answer_neurons

    with torch.no_grad():
        return answer_neurons(model, task.tokens.to(model.embed.W_E.device))
