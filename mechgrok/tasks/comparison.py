"""Which of two entities has the larger value of an attribute, from facts about single entities.

The comparison task of Wang et al. (2024, arXiv 2405.15071). Facts `<e_3> <attr_1> <17> </a>` are
all trained on; comparisons `<attr_1> <q> <e_3> <mask> <e_5> <attr_1_0> </a>` (0: smaller, 1: equal,
2: larger) only of entities that are in distribution for the attribute. Splits: `train` holds the
facts and comparisons trained on, `test` other pairs of in-distribution entities, `ood` pairs of
out-of-distribution ones, `facts` the facts alone. Pairs of both kinds are left out; both orders of
a pair are in the same split.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Int

from mechgrok.config import ComparisonTask, ConfigError, Seeds
from mechgrok.tasks._rows import Rows

SPECIAL: Final = ("<mask>", "<sep>", "<a>", "</a>", "<q>", "</q>")
"""The published special tokens; `<mask>`, `</a>` and `<q>` occur."""
FACT, QUERY = (1, 2), (4, 5)
"""Positions at which the two answers of a fact, and of a comparison, are read."""


@dataclass(frozen=True, kw_only=True)
class Task(Rows):
    """Facts and comparisons of one world; see `make`."""

    config: ComparisonTask
    """The settings it was made from."""

    @classmethod
    def make(cls, config: ComparisonTask, seeds: Seeds) -> "Task":
        """The task of a config; the tag `comparison` is 0 for facts.

        `seeds.labels` draws the values, `seeds.data` everything else. Raises ConfigError for sizes
        and shares that leave a split empty, and for more comparisons than there are pairs.
        """
        _check(config)
        values = np.random.default_rng(seeds.labels).integers(
            config.values, size=(config.entities, config.attributes)
        )
        chosen = _comparisons(config, np.random.default_rng(seeds.data))
        queries = np.concatenate(list(chosen.values()))
        names = _Tokens(config)
        facts = names.facts(values)
        tokens = torch.from_numpy(np.concatenate([facts, names.comparisons(queries, values)]))
        at = torch.tensor([FACT] * len(facts) + [QUERY] * len(queries))
        ends = np.cumsum([len(facts), *(len(pairs) for pairs in chosen.values())])
        rows = torch.arange(len(tokens)).tensor_split(ends[:-1].tolist())
        of = dict(zip(("facts", *chosen), rows, strict=True))
        return cls(
            config=config,
            vocabulary=names.vocabulary,
            tokens=tokens[:, :-1],
            answer_positions=at,
            labels=tokens.gather(1, at + 1),
            splits={"train": torch.cat([of["facts"], of.pop("train")]), **of},
            d_vocab_out=len(names.vocabulary),
            tags={"comparison": (torch.arange(len(tokens)) >= len(facts)).long()},
        )


class _Tokens:
    """Ids of entities, attributes, values, special tokens and answers, in this order."""

    def __init__(self, config: ComparisonTask) -> None:
        groups: Sequence[Sequence[str]] = (
            [f"<e_{i}>" for i in range(config.entities)],
            [f"<attr_{k}>" for k in range(config.attributes)],
            [f"<{v}>" for v in range(config.values)],
            SPECIAL,
            [f"<attr_{k}_{c}>" for k in range(config.attributes) for c in range(3)],
        )
        starts = np.cumsum([0, *map(len, groups)])
        self.vocabulary = tuple(name for group in groups for name in group)
        self.attribute, self.value, special, self.answer = starts[1:5].tolist()
        self.mask, self.end, self.question = (
            special + SPECIAL.index(name) for name in ("<mask>", "</a>", "<q>")
        )

    def facts(self, values: np.ndarray) -> np.ndarray:
        """[facts, 7]: entity, attribute, value, and the closing token to the end."""
        e, k = (index.flatten() for index in np.indices(values.shape))
        fact = np.stack([e, self.attribute + k, self.value + values.flatten()], axis=1)
        return np.pad(fact, ((0, 0), (0, 4)), constant_values=self.end)

    def comparisons(self, queries: np.ndarray, values: np.ndarray) -> np.ndarray:
        """[queries, 7] of queries (attribute, first entity, second entity)."""
        k, i, j = queries.T
        sign = np.sign(values[i, k] - values[j, k]) + 1
        same = np.ones_like(k)
        columns = [self.attribute + k, self.question * same, i, self.mask * same, j]
        return np.stack([*columns, self.answer + 3 * k + sign, self.end * same], axis=1)


def _comparisons(config: ComparisonTask, chance: np.random.Generator) -> dict[str, np.ndarray]:
    """(attribute, entity, entity) of the splits train, test and ood."""
    n_ood = round(config.ood_share * config.entities)
    n_known = config.entities - n_ood
    tested = round(config.iid_share * math.comb(n_known, 2))
    pairs = {"train": math.comb(n_known, 2) - tested, "test": tested, "ood": math.comb(n_ood, 2)}
    counts = {
        name: _per_attribute(config, name, 2 * n, n_known, chance) for name, n in pairs.items()
    }
    found: dict[str, list[np.ndarray]] = {name: [] for name in pairs}
    for k in range(config.attributes):
        order = chance.permutation(config.entities)
        known = chance.permutation(_pairs(order[n_ood:]))
        parts = {"train": known[tested:], "test": known[:tested], "ood": _pairs(order[:n_ood])}
        for name, of in parts.items():
            both = np.concatenate([of, of[:, ::-1]])
            drawn = both[chance.permutation(len(both))[: counts[name][k]]]
            found[name].append(np.insert(drawn, 0, k, axis=1))
    return {name: np.concatenate(each) for name, each in found.items()}


def _per_attribute(
    config: ComparisonTask, name: str, pool: int, n_known: int, chance: np.random.Generator
) -> np.ndarray:
    """How many comparisons of a split each attribute gives, as in one draw from all of them."""
    total = pool * config.attributes
    wanted = min(config.test_rows, total)
    if name == "train":
        wanted = round(config.ratio * n_known * config.attributes)
    if wanted == 0:
        raise ConfigError(
            f"the {name} split of the comparison task is empty; give more task.entities, or other "
            f"shares (task.ood_share, task.iid_share, task.ratio)"
        )
    if wanted > total:
        raise ConfigError(
            f"task.ratio asks for {wanted} comparisons to train on, of {total}; lower it"
        )
    return chance.multivariate_hypergeometric([pool] * config.attributes, wanted)


def _pairs(entities: np.ndarray) -> Int[np.ndarray, "pairs 2"]:
    """Unordered pairs of different entities."""
    first, second = np.triu_indices(len(entities), k=1)
    return np.stack([entities[first], entities[second]], axis=1)


def _check(config: ComparisonTask) -> None:
    for name, least in (("entities", 4), ("attributes", 1), ("values", 2), ("test_rows", 1)):
        if getattr(config, name) < least:
            raise ConfigError(f"task.{name} = {getattr(config, name)}; expected at least {least}")
    for name in ("ood_share", "iid_share"):
        if not 0 < getattr(config, name) < 1:
            raise ConfigError(
                f"task.{name} = {getattr(config, name)}; expected a share strictly between 0 and 1"
            )
    if not 0 < config.ratio < float("inf"):
        raise ConfigError(f"task.ratio = {config.ratio}; expected a number above 0")
