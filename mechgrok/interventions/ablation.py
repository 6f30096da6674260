"""Ablations that last as long as a `with`: of nodes by zero, mean, other rows or another batch,
and of Fourier frequencies of W_E."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from mechgrok.interventions.frequencies import check_grid, frequency_part
from mechgrok.interventions.node import Node, Nodes, resolve
from mechgrok.maths.fourier import check_frequencies, scale_frequencies

Model = TypeVar("Model", bound=Any)


@runtime_checkable
class Cache(Protocol):
    """Activations by hook name: a dict, or an ActivationCache."""

    def keys(self) -> Any:
        """Hook names."""
        ...

    def __getitem__(self, name: str, /) -> Tensor: ...


Source = Tensor | Cache
"""Tokens to run the model on, or a cache."""
Replace = Callable[[Node, Tensor], Tensor]
"""(node, its slice of the activation at hand) -> what it becomes."""

KINDS: Final = ("zero", "mean", "resample", "counterfactual")


@contextmanager
def ablate(
    model: Model,
    nodes: Nodes,
    kind: str = "mean",
    *,
    source: Source | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Model]:
    """The model with nodes ablated inside `with`; on leaving, also by an exception, no hook stays.

        with mg.ablate(model, mg.nodes("head", layer=0, head=2), kind="mean") as ablated:
            mg.evaluate(ablated, task)

    `zero`; `mean` over the rows at hand, or over those of `source`; `resample`: the activation of
    another row at hand, permuted by `generator` anew in every forward pass; `counterfactual`: the
    activation in `source`, tokens (run once, on entering) or a cache, row by row. A node with a
    frequency changes in that part alone, and all rows, those of the source too, must be the p * p
    pairs in the order a * p + b (`patch` takes other rows). An empty list of nodes changes nothing.

    Raises ValueError for an unknown kind, a source or generator that is missing or unused, and in
    the forward pass for other rows than the source has.
    """
    chosen = resolve(model, nodes)
    replace = _replacement(model, chosen, kind, source, generator)
    by_hook: dict[str, list[Node]] = {}
    for node in chosen:
        by_hook.setdefault(node.hook, []).append(node)
    with model.hooks(fwd_hooks=[(name, writer(at, replace)) for name, at in by_hook.items()]):
        yield model


def writer(nodes: Sequence[Node], replace: Replace) -> Callable[..., Tensor]:
    """A hook that replaces the nodes' slices of a copy of the activation."""

    def hooked(activation: Tensor, hook: Any) -> Tensor:
        changed = activation.clone()
        for node in nodes:
            old = node.read(changed)
            changed[node.index] = replace(node, old)
        return changed

    return hooked


def blend(node: Node, old: Tensor, new: Tensor) -> Tensor:
    """What the slice becomes: the new one, or for a node with a frequency the old one with that
    frequency of the new."""
    if node.freq is None:
        return new
    return old + frequency_part(new - old, [node.freq])


def record(model: Any, source: Source, nodes: Sequence[Node]) -> dict[str, Tensor]:
    """Activations at the nodes' hook points, from tokens or out of a cache.

    Raises ValueError for a hook point the cache lacks.
    """
    names = list(dict.fromkeys(node.hook for node in nodes))
    cache: Any = source
    if isinstance(source, Tensor):
        with torch.no_grad():
            cache = model.run_with_cache(source, names_filter=names)[1] if names else {}
    missing = sorted(set(names) - set(cache.keys()))
    if missing:
        raise ValueError(
            f"the cache has no {missing}: it was kept without them, or a flag of the model is off; "
            f"pass tokens instead"
        )
    return {name: cache[name] for name in names}


def _replacement(
    model: Any,
    nodes: Sequence[Node],
    kind: str,
    source: Source | None,
    generator: torch.Generator | None,
) -> Replace:
    """What a kind puts in a slice's place."""
    if kind not in KINDS:
        raise ValueError(f"got kind={kind!r}, expected one of {KINDS}")
    if (generator is not None) != (kind == "resample"):
        raise ValueError(f"kind={kind!r} with generator={generator}: resample needs one, others no")
    if source is None and kind == "counterfactual":
        raise ValueError("counterfactual needs a source: tokens of as many rows, or a cache")
    if source is not None and kind in ("zero", "resample"):
        raise ValueError(f"kind={kind!r} reads no source; mean and counterfactual do")
    if isinstance(source, Tensor) and any(node.freq is not None for node in nodes):
        check_grid(source)
    kept = None if source is None else record(model, source, nodes)

    def replace(node: Node, old: Tensor) -> Tensor:
        if kind == "zero":
            return blend(node, old, torch.zeros_like(old))
        if kind == "resample":
            order = torch.randperm(len(old), generator=generator).to(old.device)
            if node.freq is None:
                return old[order]
            part = frequency_part(old, [node.freq])  # of each row's own pair, so taken before
            return old - part + part[order]
        new = old if kept is None else node.read(kept[node.hook])
        if kind == "mean":
            new = new.mean(dim=0, keepdim=True).expand_as(old)
        return blend(node, old, matching(new, old, node))

    return replace


def matching(new: Tensor, old: Tensor, node: Node) -> Tensor:
    """The new slice. Raises ValueError unless it has the old one's shape."""
    if new.shape != old.shape:
        raise ValueError(
            f"{node.name}: the source has shape {list(new.shape)}, the run {list(old.shape)}; "
            f"pass a source with the same rows and positions"
        )
    return new


@contextmanager
def ablate_frequencies(
    model: Model,
    freqs: Sequence[int],
    n: int,
    scale: float = 0.0,
    order: Int[Tensor, " n"] | None = None,
) -> Iterator[Model]:
    """The model with the given frequencies of W_E over the tokens 0..n-1 multiplied by `scale`.

    Other frequencies, the constant and the other tokens' rows stay. `order` gives the token id of
    each element of Z_n when tokens are renamed. On leaving, also by an exception, W_E has its old
    bits. No frequency, or a scale of 1, changes nothing. Raises ValueError for frequencies outside
    1..n//2 and for more elements than W_E has rows.
    """
    weight: Tensor = model.embed.W_E
    check_frequencies(freqs, n)
    if n > weight.shape[0]:
        raise ValueError(f"got n={n}, but W_E has {weight.shape[0]} rows; n is the modulus")
    rows = torch.arange(n) if order is None else order
    rows = rows.to(weight.device)
    saved = weight.detach().clone()
    try:
        if freqs and scale != 1:
            # float64, so that the edit is the projection to rounding of the weight's own dtype
            scaled = scale_frequencies(saved[rows].double(), freqs, scale)
            with torch.no_grad():
                weight[rows] = scaled.to(weight.dtype)
        yield model
    finally:
        with torch.no_grad():
            weight.copy_(saved)
