"""The stages of a model in order: every state that could be unembedded, by hook name.

A transformer's are its embedding and the stream after each sub-layer (blocks that run twice are
numbered on). A Tiny Recursive Model's are its initial z_H and every update of z_L ("Thinking") and
z_H ("Commit"), under the names of arXiv 2601.09049's logit lens.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechgrok.interventions.node import nodes
from mechgrok.interventions.patches import Patch
from mechgrok.interventions.variants import logits
from mechgrok.measures._modular import DoesNotApply

BYTES: Final = 2**28
"""Most memory of the states of one forward pass; bounds memory, changes no number."""
NORMS: Final = ("final", "last")
"""Which stages of a transformer pass its final normalisation before they are unembedded."""
ALL: Final = None
"""In the place of a position: the whole state."""


@dataclass(frozen=True)
class Stage:
    """One state [batch, pos, d_model] of a forward pass."""

    name: str
    """H0_L1_Thinking, H0_Commit; embed, L2_mid, L2_post."""
    hook: str
    """Where it is read and written."""


def stages(model: Any) -> list[Stage]:
    """The stages of a model, the last of which gives its output; DoesNotApply for another kind."""
    found = _recursive(model) or _residual(model)
    if not found or "unembed" not in model._modules:
        raise DoesNotApply(
            f"a {type(model).__name__} has no stages: expected the states z_L and z_H of a TRM, or "
            f"the residual stream of a transformer"
        )
    return found


def _recursive(model: Any) -> list[Stage]:
    found: dict[tuple[int, float], Stage] = {}
    for hook in model.hook_dict:
        if match := re.fullmatch(r"cycle\.(\d+)\.(\d+)\.hook_z_L", hook):
            name = f"H{match[1]}_L{match[2]}_Thinking"
            found[int(match[1]), int(match[2])] = Stage(name, hook)
        elif match := re.fullmatch(r"cycle\.(\d+)\.hook_z_H", hook):
            found[int(match[1]), math.inf] = Stage(f"H{match[1]}_Commit", hook)
    start = [Stage("Init", "hook_z_H")] if found else []
    return start + [found[at] for at in sorted(found)]


def _residual(model: Any) -> list[Stage]:
    first = "blocks.0.hook_resid_pre"
    found = [Stage("embed", first)] if first in model.hook_dict else []
    for hook in model.hook_dict:
        if match := re.fullmatch(r"blocks\.(\d+)\.hook_resid_(mid|post)", hook):
            found.append(Stage(f"L{match[1]}_{match[2]}", hook))
    return found


def unembed(
    model: Any, state: Float[Tensor, "... pos d_model"], normalised: bool
) -> Float[Tensor, "... pos d_vocab_out"]:
    """Logits of a state, through the final normalisation where there is one and it is asked for."""
    norm = model._modules.get("ln_final")
    return model.unembed(norm(state) if normalised and norm is not None else state)


def decoded(
    model: Any,
    chosen: Sequence[Stage],
    tokens: Int[Tensor, "rows n_ctx"],
    n_positions: int,
    norm: str = "final",
) -> Int[Tensor, "rows stages pos"]:
    """The argmax token of every stage and of the first positions.

    `norm`: "final" for all stages, or "last" for the last one alone. Raises ValueError for another.
    """
    if norm not in NORMS:
        raise ValueError(f"got norm={norm!r}, expected one of {NORMS}")
    found = []
    for cache in states(model, chosen, tokens, n_positions):
        each = []
        for stage in chosen:
            normalised = norm == "final" or stage is chosen[-1]
            each.append(unembed(model, cache[stage.hook], normalised).argmax(dim=-1))
        found.append(torch.stack(each, dim=1))
    return torch.cat(found)


def states(
    model: Any, chosen: Sequence[Stage], tokens: Int[Tensor, "rows n_ctx"], n_positions: int
) -> Iterator[Mapping[str, Float[Tensor, "rows pos d_model"]]]:
    """States by hook name at the first positions of the row, of some rows after the other."""
    first, names = offset(model), [stage.hook for stage in chosen]
    with torch.no_grad():
        for rows in tokens.split(_rows(model, tokens, len(names))):
            cache = model.run_with_cache(rows, names_filter=names)[1]
            yield {name: cache[name][:, first : first + n_positions] for name in names}


def _rows(model: Any, tokens: Int[Tensor, "rows n_ctx"], n_states: int) -> int:
    """Rows of one forward pass: their states fit in BYTES."""
    length = offset(model) + tokens.shape[1]
    size = length * model.cfg.d_model * next(model.parameters()).element_size()
    return max(1, BYTES // (size * n_states))


def together(
    model: Any, chosen: Sequence[Stage], rows: int, n_positions: int
) -> Iterator[Sequence[Stage]]:
    """The stages in parts whose states of all rows fit in BYTES, at least one at a time."""
    size = rows * n_positions * model.cfg.d_model * next(model.parameters()).element_size()
    each = max(1, BYTES // size)
    for start in range(0, len(chosen), each):
        yield chosen[start : start + each]


def stacked(
    model: Any, chosen: Sequence[Stage], tokens: Int[Tensor, "rows n_ctx"], n_positions: int
) -> Float[Tensor, "rows stages pos d_model"]:
    """States of all rows, on the cpu."""
    parts = states(model, chosen, tokens, n_positions)
    return torch.cat([torch.stack([cache[s.hook].cpu() for s in chosen], dim=1) for cache in parts])


def offset(model: Any) -> int:
    """Positions before those of the tokens: a TRM's puzzle positions."""
    return int(getattr(model.cfg, "puzzle_positions", 0))


def patched_answers(
    model: Any,
    chosen: Sequence[Stage],
    tokens: Int[Tensor, "rows n_ctx"],
    donor: Int[Tensor, "rows n_ctx"],
    positions: Sequence[int | None],
    answer: int,
) -> Int[Tensor, "stages pos rows"]:
    """Argmax tokens at one position when a donor row's state is copied in, one place at a time.

    ALL among the positions copies the whole state, puzzle positions included. Each row has its own
    donor. `Init` is the same in all rows, so copying it changes nothing.
    """
    # Imported here because it loads transformer_lens, which the pure functions do not need.
    from mechgrok.models.hooked import has_hooks
    from mechgrok.models.trm import HookedTRM

    first = offset(model)
    places = [None if position is None else first + position for position in positions]
    answers = _resumed if isinstance(model, HookedTRM) and not has_hooks(model) else _hooked
    names = [stage.hook for stage in chosen]
    with torch.no_grad():
        rows = _rows(model, tokens, len(names))
        parts = [
            answers(model, names, own, other, places, answer)
            for own, other in zip(tokens.split(rows), donor.split(rows), strict=True)
        ]
    return torch.cat(parts, dim=-1)


def _hooked(
    model: Any,
    names: Sequence[str],
    tokens: Int[Tensor, "rows n_ctx"],
    donor: Int[Tensor, "rows n_ctx"],
    places: Sequence[int | None],
    answer: int,
) -> Int[Tensor, "stages pos rows"]:
    """By hooks, for any model."""
    cache = model.run_with_cache(donor, names_filter=list(names))[1]
    length = offset(model) + tokens.shape[1]
    at = [nodes(name, position=place).of(model, length)[0] for name in names for place in places]
    runs = logits(model, tokens, [[Patch(x, x.read(cache[x.hook]))] for x in at], [answer])
    found = torch.stack([run[:, 0].argmax(dim=-1) for run in runs])
    return found.unflatten(0, (len(names), len(places)))


def _resumed(
    model: Any,
    names: Sequence[str],
    tokens: Int[Tensor, "rows n_ctx"],
    donor: Int[Tensor, "rows n_ctx"],
    places: Sequence[int | None],
    answer: int,
) -> Int[Tensor, "stages pos rows"]:
    """The same of a TRM, without what comes before the patched state."""
    from mechgrok.models._trm_resume import needed, resume

    own = model.run_with_cache(tokens, names_filter=needed(model))[1]
    theirs = model.run_with_cache(donor, names_filter=list(names))[1]
    found = []
    for name in names:
        for place in places:
            at = (slice(None), slice(None) if place is None else place)
            state = own[name].clone()
            state[at] = theirs[name][at]
            found.append(resume(model, name, state, own)[:, answer].argmax(dim=-1))
    return torch.stack(found).unflatten(0, (len(names), len(places)))
