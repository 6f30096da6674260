"""Frequencies of any activation along the grid of inputs (a, b): remove, keep or scale them.

An activation over all p*p rows, in the order a*p + b, is a table over pairs; `maths/pair_terms.py`
says which part of it belongs to a frequency. `terms="own"` is everything in that frequency alone
(linear in a or b, and products), which at the embedding is what `ablate_frequencies` does to W_E;
`terms="sum"` is the directions cos, sin w_k(a+b) only (Nanda et al. 2023, section 5.1).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

from mechgrok.interventions.node import Nodes, resolve
from mechgrok.maths.fourier import project_sums
from mechgrok.maths.pair_terms import own_terms

Model = TypeVar("Model", bound=Any)

TERMS: Final[Mapping[str, Callable[[Tensor, int, Sequence[int]], Tensor]]] = {
    "own": own_terms,
    "sum": project_sums,
}
MODES: Final = ("remove", "keep", "scale")


def frequency_part(activation: Tensor, freqs: Sequence[int], terms: str = "own") -> Tensor:
    """The part of an activation [p*p, ...] at the given frequencies, in its own shape.

    p is the root of the number of rows. Raises ValueError for rows that are not p*p, for
    frequencies outside 1..p//2 and for unknown terms.
    """
    if terms not in TERMS:
        raise ValueError(f"got terms={terms!r}, expected one of {list(TERMS)}")
    rows = len(activation)
    p = math.isqrt(rows)
    if p * p != rows:
        raise ValueError(
            f"got {rows} rows; a frequency needs all p*p pairs in the order a*p + b: "
            f"run the model on task.tokens"
        )
    return TERMS[terms](activation.flatten(1), p, freqs).view(activation.shape)


def check_grid(tokens: Int[Tensor, "rows pos"]) -> None:
    """Raise ValueError unless the rows are all p*p pairs in the order a*p + b.

    Two columns vary, a and b, and name the elements of Z_p in one order; that this is the order of
    Z_p itself cannot be seen from tokens.
    """
    p = math.isqrt(len(tokens))
    varying = [c for c in tokens.T if not bool((c == c[0]).all())]
    if p * p == len(tokens) and len(varying) == 2:
        a, b = varying[0].view(p, p), varying[1].view(p, p)
        names = a[:, 0]
        if len(names.unique()) == p and bool((a == names[:, None]).all() & (b == names).all()):
            return
    raise ValueError(
        f"got {len(tokens)} rows that are not all p*p pairs in the order a*p + b, which "
        f"a frequency needs; pass task.tokens (as the clean rows of a patch)"
    )


def rows_in(
    grid: Int[Tensor, "pairs pos"], tokens: Int[Tensor, "rows pos"]
) -> Int[Tensor, " rows"]:
    """Where each row of tokens stands in the grid. Raises ValueError for one that does not."""
    _, code = torch.cat([grid, tokens]).unique(dim=0, return_inverse=True)
    place = torch.full((int(code.max()) + 1,), -1, device=code.device)
    place[code[: len(grid)]] = torch.arange(len(grid), device=code.device)
    found = place[code[len(grid) :]]
    if bool((found < 0).any()):
        row = tokens[int((found < 0).nonzero()[0])].tolist()
        raise ValueError(f"the row {row} is none of the grid's; a frequency is defined on the grid")
    return found


@contextmanager
def edit_frequencies(
    model: Model,
    nodes: Nodes,
    freqs: Sequence[int],
    mode: str = "remove",
    *,
    scale: float | None = None,
    terms: str = "own",
) -> Iterator[Model]:
    """The model with frequencies of its activations removed, kept alone, or scaled, inside `with`.

    `keep` leaves the mean over pairs and the given frequencies. Run it on all p*p rows in the order
    a*p + b. Raises ValueError for an unknown mode, a scale without its mode, and as
    `frequency_part` at the forward pass.
    """
    if mode not in MODES:
        raise ValueError(f"got mode={mode!r}, expected one of {MODES}")
    if (scale is not None) != (mode == "scale"):
        raise ValueError(f"got mode={mode!r} with scale={scale}; a scale belongs to mode='scale'")
    if not freqs:
        raise ValueError("got no frequencies; pass some of 1..p//2, key_frequencies(ck).freqs")
    chosen = resolve(model, nodes)
    if any(node.freq is not None for node in chosen):
        raise ValueError("got nodes with frequencies of their own; leave out freq= here")
    factor = 0.0 if scale is None else scale

    def edited(part: Tensor) -> Tensor:
        own = frequency_part(part, freqs, terms)
        if mode == "keep":
            return part.mean(dim=0, keepdim=True) + own
        return part + (factor - 1) * own

    def hook_at(node: Any) -> Callable[..., Tensor]:
        def hooked(activation: Tensor, hook: Any) -> Tensor:
            changed = activation.clone()
            changed[node.index] = edited(node.read(activation))
            return changed

        return hooked

    with model.hooks(fwd_hooks=[(node.hook, hook_at(node)) for node in chosen]):
        yield model
