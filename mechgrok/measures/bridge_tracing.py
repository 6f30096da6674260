"""Which states of a two-hop model the answer runs through: causal tracing of h, r1 and r2.

Causal tracing of Wang et al. 2024 (arXiv 2405.15071), section 4: one of h, r1 and r2 is replaced so
that the answer changes, and the state that this leaves at one stage and position is copied into the
run of the query itself. Where many answers flip, that token's part is carried. Beside it the mean
reciprocal rank (MRR) of the bridge at r1 and of r2 at its own position, by the logit lens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechgrok.measures import _stages, _two_hop
from mechgrok.measures._modular import DoesNotApply, Subject, report, typed_absence
from mechgrok.runs.result import Result, Value

SUBJECT: Final = "checkpoint"
ITEMS: Final = 200
"""Queries traced; 300 as published."""
PARTS: Final = ("h", "r1", "r2")
"""What is replaced, by the position of its token."""


@dataclass(frozen=True)
class Tracing:
    """By what was replaced."""

    flips: Mapping[str, Float[Tensor, "stages pos"]]
    """Share of the items answered right whose answer a copied state changes."""
    n: int
    """Items answered right."""


def bridge_tracing(
    clean: Int[Tensor, " items"],
    patched: Mapping[str, Int[Tensor, "stages pos items"]],
    target: Int[Tensor, " items"],
) -> Tracing:
    """Flips among the items whose clean answer is the target; answers and targets as token ids.

    Raises ValueError where no clean answer is right.
    """
    right = clean == target
    if not right.any():
        raise ValueError(f"none of {len(right)} items is answered right, so none can flip")
    flips = {
        part: (answers[..., right] != target[right]).double().mean(dim=-1)
        for part, answers in patched.items()
    }
    return Tracing(flips, int(right.sum()))


def reciprocal_rank(
    logits: Float[Tensor, "... d_vocab"], token: Int[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """1 / (1 + number of tokens with a larger logit), so 1 where the token is the argmax."""
    own = logits.gather(-1, token[..., None])
    return 1 / (1 + (logits > own).sum(dim=-1).double())


def replacements(
    query: Int[Tensor, "items 3"],
    table: Int[Tensor, "entities relations"],
    known: Bool[Tensor, "entities relations"],
    generator: torch.Generator,
) -> tuple[dict[str, Int[Tensor, " items"]], Bool[Tensor, " items"]]:
    """A random other h, r1 and r2 for every query (h, r1, r2), and the queries that have all three.

    The result (`table`: tail of head and relation, -1 where there is no fact) must differ from the
    query's own or not exist. Relations are those of `known` facts of the query's h and b, so that
    only the answer is unusual. 0 where there is none.
    """
    h, r1, r2 = query.T
    bridge = table[h, r1]
    target = table[bridge, r2]
    via_heads = _compose(table, table[:, r1].T, r2[:, None])
    via_r1 = _compose(table, table[h], r2[:, None])
    every = torch.arange(len(table), device=table.device)
    fits = {
        "h": (via_heads != target[:, None]) & (every != h[:, None]),
        "r1": known[h] & (via_r1 != target[:, None]),
        "r2": known[bridge] & (table[bridge] != target[:, None]),
    }
    complete = torch.stack([mask.any(dim=1) for mask in fits.values()]).all(dim=0)
    return {part: draw(mask, generator) for part, mask in fits.items()}, complete


def _compose(
    table: Int[Tensor, "entities relations"],
    bridge: Int[Tensor, "items _"],
    relation: Int[Tensor, "items 1"],
) -> Int[Tensor, "items _"]:
    """Tails of bridges under a relation; -1 where the bridge or the fact does not exist."""
    return torch.where(bridge < 0, -1, table[bridge.clamp(min=0), relation])


def draw(mask: Bool[Tensor, "items choices"], generator: torch.Generator) -> Int[Tensor, " items"]:
    """A random allowed choice for every item; 0 where none is allowed."""
    keys = torch.rand(mask.shape, generator=generator, dtype=torch.float64)
    return torch.where(mask.cpu(), keys, -1).argmax(dim=1).to(mask.device) * mask.any(dim=1)


@typed_absence("bridge_tracing", "h_r1_max_flips")
def measure(
    checkpoint: Subject, items: int = ITEMS, split: str = "train_inferred", seed: int = 0
) -> Result:
    """Flips by h, r1 and r2 at every stage and position; headline those of h at the position of r1.

    Options: items (queries drawn from the split, by seed), split.
    """
    task, model = _two_hop.two_hop_task(checkpoint), checkpoint.model
    chosen, names = _stages.stages(model), _two_hop.positions(task)
    of, facts = _two_hop.of_split(task, split, items, seed), _two_hop.facts(task)
    chance = torch.Generator().manual_seed(seed)
    new, complete = replacements(of.query, facts.table, facts.known, chance)
    if not complete.any():
        raise DoesNotApply("no query has another h, r1 and r2 that change its answer")
    of, new = of[complete], {part: x[complete] for part, x in new.items()}
    device = _two_hop.device_of(checkpoint)
    tokens = of.tokens.to(device)
    with torch.no_grad():
        clean = model(tokens)[:, of.at].argmax(dim=-1).cpu()
    patched = {}
    for i, part in enumerate(PARTS):
        donor = tokens.clone()
        donor[:, i] = (new[part] + facts.tokens(part)).to(device)
        places = range(len(names))
        found = _stages.patched_answers(model, chosen, tokens, donor, places, of.at)
        patched[part] = found.cpu()
    try:
        traced = bridge_tracing(clean, patched, of.t)
    except ValueError as error:
        raise DoesNotApply(str(error)) from error
    ranks = _mean_reciprocal_ranks(model, chosen, of, tokens, len(names))
    arrays = {f"flips {part}": flips for part, flips in traced.flips.items()}
    arrays |= {f"mrr {name}": curve for name, curve in ranks.items()}
    values: dict[str, Value] = {
        f"{part}_{name}_max_flips": float(traced.flips[part][:, i].max())
        for part in PARTS
        for i, name in enumerate(names)
    }
    values = {"h_r1_max_flips": values["h_r1_max_flips"], **values}
    values |= {f"{name}_max_mrr": float(curve.max()) for name, curve in ranks.items()}
    values |= {"n": traced.n, "wrong": len(of) - traced.n, "without_replacement": 0}
    values["without_replacement"] = int((~complete).sum())
    values |= _two_hop.spelled_places(chosen, names)
    settings = f"{items} queries drawn by seed {seed}"
    definition = {**DEFINITION, "split": split, "selection": settings}
    return report("bridge_tracing", checkpoint, values, definition, arrays)


def _mean_reciprocal_ranks(
    model: torch.nn.Module,
    chosen: list[_stages.Stage],
    of: _two_hop.Queries,
    tokens: Int[Tensor, "items n_ctx"],
    n_positions: int,
) -> dict[str, Float[Tensor, " stages"]]:
    """Of the bridge at the position of r1, and of r2 at its own, by stage."""
    wanted = {"b": (of.b, 1), "r2": (of.tokens[:, 2], 2)}
    sums = {name: torch.zeros(len(chosen), dtype=torch.float64) for name in wanted}
    start = 0
    for cache in _stages.states(model, chosen, tokens, n_positions):
        for i, stage in enumerate(chosen):
            with torch.no_grad():
                logits = _stages.unembed(model, cache[stage.hook], normalised=True).cpu()
            for name, (token, position) in wanted.items():
                rows = token[start : start + len(logits)]
                sums[name][i] += reciprocal_rank(logits[:, position], rows).sum()
        start += len(cache[chosen[0].hook])
    return {name: total / len(of) for name, total in sums.items()}


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "share of queries answered right whose answer changes when the state of a run with "
    "another h, r1 or r2 is copied in at one stage and position; mrr: mean reciprocal rank of b at "
    "r1 and of r2 at r2 in the unembedded state, final normalisation included",
    "centring": "none",
    "dtype": "forward in the model's, shares in float64",
    "replacements": "random; any other head, and relations of in-distribution facts of h and of b, "
    "with which the result is not t",
}
