"""Which two-hop queries are trained on and tested: the split by fact, phi, and the regimes.

Wang et al. (2024, arXiv 2405.15071) leave out-of-distribution facts out of all two-hop queries that
are trained on; He et al. (2026, arXiv 2601.09049, appendix C) put some back, each beside a fact
that is in distribution. The regimes share one graph, one training set and the same tests.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Int

from mechgrok.config import CompositionTask, ConfigError, Seeds
from mechgrok.tasks._graph import Graph, at_most, atomic, capped

REGIMES: Final[Mapping[str, tuple[float, float]]] = {
    "natural": (0.0, 0.0),
    "both_full": (1.0, 1.0),
    "both_half": (0.5, 0.5),
    "first_hop": (1.0, 0.0),
    "second_hop": (0.0, 1.0),
    "both_full_sham": (1.0, 1.0),
}
"""Share of the test's first-hop and second-hop facts that training queries are added of.

It is also the share of `task.injected`, the number of queries per fact. The sham's queries are
replaced by as many of in-distribution facts only.
"""


@dataclass(frozen=True)
class Queries:
    """The two-hop queries of a graph, as pairs of facts."""

    graph: Graph
    """Their facts."""
    inferred: Int[np.ndarray, "n 2"]
    """Trained on in every regime; both facts in distribution."""
    added: Int[np.ndarray, "m 2"]
    """Trained on in this regime; those of the sham may repeat earlier ones."""
    types: Mapping[str, Int[np.ndarray, "_ 2"]]
    """The published test types; an atomic query has NONE for its second fact."""

    @property
    def trained(self) -> Int[np.ndarray, "_ 2"]:
        """All two-hop queries trained on."""
        return np.concatenate([self.inferred, self.added])


def draw(config: CompositionTask, seeds: Seeds) -> Queries:
    """The queries of a config: `seeds.data` draws all but what the regime adds, and its sample.

    Raises ConfigError for phi above its ceiling and for sizes that leave a test empty.
    """
    chance = np.random.default_rng(seeds.data)
    graph = Graph.draw(
        config.entities, config.relations, config.out_degree, config.ood_share, chance
    )
    every = graph.queries()
    hops = graph.hops_ood(every)
    known = every[hops == 0]
    for_training = chance.random(len(known)) > config.iid_share
    pool = known[for_training]
    most = config.test_rows
    types = {
        "id_atomic": capped(atomic(np.flatnonzero(~graph.ood)), most, chance),
        "ood_atomic": capped(atomic(np.flatnonzero(graph.ood)), most, chance),
        "test_inferred_iid": capped(known[~for_training], most, chance),
        "test_inferred_ood": capped(every[hops == 2], most, chance),
    }
    _refuse_empty(types)
    wanted = _wanted(config, graph, len(pool))
    taken = np.zeros(len(pool), dtype=bool)
    taken[chance.choice(len(pool), wanted, replace=False)] = True
    more = np.random.default_rng(seeds.following("augmentation"))
    added = _added(config, graph, types["test_inferred_ood"], more)
    if config.regime == "both_full_sham":
        added = _sham(len(added), pool, taken, more)
    found = Queries(graph, pool[taken], added, types)
    sample = {"train_inferred": capped(found.trained, most, more)}
    return Queries(graph, found.inferred, added, _ordered(types | sample))


TYPES: Final = (
    "id_atomic",
    "ood_atomic",
    "train_inferred",
    "test_inferred_iid",
    "test_inferred_ood",
)
"""The published test types in their order."""


def _ordered(types: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: types[name] for name in TYPES}


def _wanted(config: CompositionTask, graph: Graph, pool: int) -> int:
    """phi times the in-distribution facts (Wang et al.: inferred over atomic)."""
    known = int((~graph.ood).sum())
    wanted = round(config.phi * known)
    if not 0 < wanted <= pool:
        raise ConfigError(
            f"task.phi = {config.phi} asks for {wanted} two-hop queries of {known} facts; this "
            f"graph has {pool}: expected phi above 0, at most {pool * 1000 // known / 1000}"
        )
    return wanted


def _refuse_empty(types: Mapping[str, np.ndarray]) -> None:
    empty = [name for name, queries in types.items() if len(queries) == 0]
    if empty:
        raise ConfigError(
            f"the composition task has no {', '.join(empty)}; give more task.entities or "
            f"task.out_degree, or larger task.ood_share and task.iid_share"
        )


def _added(
    config: CompositionTask,
    graph: Graph,
    ood: Int[np.ndarray, "items 2"],
    chance: np.random.Generator,
) -> Int[np.ndarray, "added 2"]:
    """Queries of one tested fact and one in-distribution fact; first hops, then second hops."""
    first, second = REGIMES[config.regime]
    one, two = (_exposed(ood[:, hop], share, chance) for hop, share in ((0, first), (1, second)))
    onwards, entering = graph.on_from(one), graph.into(two)
    onwards = onwards[~graph.ood[onwards[:, 1]]]
    entering = entering[~graph.ood[entering[:, 0]]]
    return np.concatenate(
        [
            onwards[at_most(onwards[:, 0], round(first * config.injected), chance)],
            entering[at_most(entering[:, 1], round(second * config.injected), chance)],
        ]
    )


def _exposed(
    facts: Int[np.ndarray, " items"], share: float, chance: np.random.Generator
) -> Int[np.ndarray, " exposed"]:
    """A share of the distinct facts; Python's round, which takes 636.5 to 636 as published."""
    distinct = np.unique(facts)
    return np.sort(chance.choice(distinct, round(share * len(distinct)), replace=False))


def _sham(
    count: int,
    pool: Int[np.ndarray, "pool 2"],
    taken: np.ndarray,
    chance: np.random.Generator,
) -> Int[np.ndarray, "count 2"]:
    """In-distribution queries: those phi left out, and repeats of the others for the rest.

    At phi near its ceiling fewer are left out than both_full adds.
    """
    fresh = capped(pool[~taken], count, chance)
    missing = count - len(fresh)
    inferred = pool[taken]
    whole, rest = divmod(missing, len(inferred))
    return np.concatenate([fresh, np.tile(inferred, (whole, 1)), capped(inferred, rest, chance)])
