"""What a fine-tuning set keeps of the old training set."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from mechgrok.config import ConfigError, FinetuneSet
from mechgrok.tasks._augmentation import Queries


@dataclass(frozen=True)
class Kept:
    """Old facts and two-hop queries that stay in training."""

    facts: Int[np.ndarray, " facts"]
    """Facts whose atomic query is kept."""
    queries: Int[np.ndarray, "queries 2"]
    """Two-hop queries, each with at least one kept fact."""


def keep(
    config: FinetuneSet,
    old: Queries,
    replaced: Int[np.ndarray, " replaced"],
    chance: np.random.Generator,
) -> Kept:
    """The part that is kept, without replaced facts and every query that uses one.

    `code` goes through the facts in random order and takes each, with all two-hop queries that use
    it in either hop, that does not exceed `keep` queries. The released code then goes through the
    rest once more, where nothing can fit: a fact gets cheaper by less than what made it so costs.
    `paper` takes `keep` in-distribution facts with all their queries. Raises ConfigError for more
    than there is.
    """
    distinct = np.unique(old.trained, axis=0)
    queries = distinct[~np.isin(distinct, replaced).any(axis=1)]
    usable = np.setdiff1d(np.arange(len(old.graph)), replaced)
    if config.version == "paper":
        usable = usable[~old.graph.ood[usable]]
        _refuse_more(config, len(usable), "in-distribution facts")
        facts = np.sort(chance.choice(usable, config.keep, replace=False))
        return Kept(facts, queries[np.isin(queries, facts).any(axis=1)])
    _refuse_more(config, len(usable) + len(queries), "queries, atomic and two-hop")
    return _greedy(config.keep, queries, chance.permutation(usable))


def _refuse_more(config: FinetuneSet, there: int, what: str) -> None:
    if not 1 <= config.keep <= there:
        raise ConfigError(
            f"task.finetune.keep = {config.keep} with version {config.version!r}; expected 1 to "
            f"{there}, the {what} that can be kept"
        )


def _greedy(
    total: int, queries: Int[np.ndarray, "queries 2"], order: Int[np.ndarray, " usable"]
) -> Kept:
    users = _users(queries)
    taken = np.zeros(len(queries), dtype=bool)
    facts: list[int] = []
    size = 0
    for fact in order.tolist():
        used = users[fact] if fact < len(users) else np.empty(0, dtype=int)
        new = used[~taken[used]]
        if size + 1 + len(new) <= total:
            taken[new] = True
            facts.append(fact)
            size += 1 + len(new)
    return Kept(np.sort(np.array(facts, dtype=int)), queries[taken])


def _users(queries: Int[np.ndarray, "queries 2"]) -> list[Int[np.ndarray, " _"]]:
    """Of every fact the queries that use it, in either hop; once where it is both."""
    first, second = queries.T
    loop = first == second
    fact = np.concatenate([first, second[~loop]])
    query = np.concatenate([np.arange(len(queries)), np.flatnonzero(~loop)])
    counts = np.bincount(fact)
    return np.split(query[np.argsort(fact, kind="stable")], np.cumsum(counts)[:-1])
