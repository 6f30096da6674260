"""Facts `<e_3> <r_1> -> <e_7>`, and queries `<e_3> <r_1> <r_4>` that take two of them to answer.

The composition task of Wang et al. (2024, arXiv 2405.15071), with the augmentations and fine-tuning
sets of He et al. (2026, arXiv 2601.09049). All facts are trained on as atomic queries; some are out
of distribution, which no two-hop query of the natural training set uses, and `test` asks for two of
those at once. The entity between the facts, the bridge, is never written.

Splits: `train` (all atomic queries, then two-hop ones), `test` (= `test_inferred_ood`), the
published test types `id_atomic`, `ood_atomic`, `train_inferred` (of what the regime trains on),
`test_inferred_iid`, `test_inferred_ood`, and the latter by which hop was seen in training:
`ood_neither`, `ood_first`, `ood_second`, `ood_both`, where there are any. A fine-tuning set has
others; see `_finetuning.py`.

The first answer of a row is the tail, the second `</a>`; exact match wants every answer.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from mechgrok.config import CompositionTask, ConfigError, FinetuneSet, Seeds
from mechgrok.tasks import _exposure, _published_folder
from mechgrok.tasks._augmentation import REGIMES, TYPES, draw
from mechgrok.tasks._finetuning import EDIT_TYPES, NEW_TYPES, finetuning
from mechgrok.tasks._graph import NONE, Graph
from mechgrok.tasks._layouts import lay_out
from mechgrok.tasks._lessons import Lessons, pretraining
from mechgrok.tasks._rows import Rows


@dataclass(frozen=True, kw_only=True)
class Task(Rows):
    """Atomic and two-hop queries of one graph; see `make`."""

    config: CompositionTask
    """The settings it was made from."""
    graph: Graph
    """The facts."""
    queries: Int[np.ndarray, "rows 2"]
    """Facts of every row; the second is NONE for an atomic query."""
    composed: Int[np.ndarray, "n 2"]
    """The two-hop queries of pretraining, which the tags of exposure count."""
    taught: int
    """How many facts at the end of the graph fine-tuning teaches."""

    @classmethod
    def make(cls, config: CompositionTask, seeds: Seeds) -> "Task":
        """The task of a config.

        `seeds.data` draws the graph, its splits and phi, the same ones in every regime;
        `seeds.augmentation` what the regime adds; `seeds.finetune` what is taught afterwards.

        Tags: `kind` (1 for two hops); `h`, `r1`, `b`, `r2`, `t` as token ids; the facts
        `first_fact`, `second_fact`; whether they are out of distribution, `first_ood`,
        `second_ood`; how many two-hop queries of pretraining use them in the same hop,
        `first_uses`, `second_uses`, or in any, `first_uses_any`, `second_uses_any`; and `exposure`,
        the row's place in `_exposure.CELLS`. -1 stands for what a row does not have.

        Raises ConfigError for impossible sizes and shares, phi above its ceiling, an unknown
        regime, and a folder that cannot be read or whose vocabulary does not fit.
        """
        check(config)
        drawn = draw(config, seeds) if config.folder is None else _published_folder.read(config)
        if config.finetune.facts == "none":
            return cls._of(config, pretraining(drawn))
        return cls._of(config, finetuning(config, drawn, seeds))

    @classmethod
    def _of(cls, config: CompositionTask, lessons: Lessons) -> "Task":
        graph, queries = lessons.graph, lessons.queries
        laid = lay_out(config.layout, graph, queries)
        splits = {name: torch.from_numpy(lessons.places(of)) for name, of in lessons.types.items()}
        exposure = _exposure.tags(queries, lessons.composed, len(graph))
        tags = {**laid.parts, **_facts(graph, queries), **exposure, **lessons.tags}
        if "old_answer" in tags:
            entity = laid.vocabulary.index("<e_0>")
            tags["old_answer"] = np.where(
                tags["old_answer"] == NONE, NONE, tags["old_answer"] + entity
            )
        return cls(
            config=config,
            graph=graph,
            queries=queries,
            composed=lessons.composed,
            taught=lessons.taught,
            vocabulary=laid.vocabulary,
            tokens=torch.from_numpy(laid.tokens),
            answer_positions=torch.from_numpy(laid.answer_positions),
            labels=torch.from_numpy(laid.labels),
            splits={"train": torch.arange(len(lessons.trained)), **splits},
            watched=lessons.watched,
            d_vocab_out=len(laid.vocabulary),
            tags={name: torch.from_numpy(column) for name, column in tags.items()},
        )

    def text(self, split: str) -> list[str]:
        """The rows of a split as they are published: prompt, tail and `</a>`."""
        parts = torch.stack(
            [self.tags[name][self.splits[split]] for name in ("h", "r1", "r2", "t")]
        )
        rows = ([i for i in row if i != NONE] for row in parts.T.tolist())
        return [" ".join([*(self.vocabulary[i] for i in row), "</a>"]) for row in rows]

    def files(self) -> dict[str, str]:
        """The published JSON files, which `task.folder` reads, and exposure.json."""
        splits = {name: self.queries[rows.numpy()] for name, rows in self.splits.items()}
        types = [name for name in (*TYPES, *NEW_TYPES, *EDIT_TYPES) if name in splits]
        published = _published_folder.write(self.graph, splits, types, self.taught)
        return {**published, "exposure.json": json.dumps(self.exposure(), indent=1) + "\n"}

    def exposure(self, split: str = "test_inferred_ood") -> dict[str, Any]:
        """How the facts of a split's two-hop queries were seen in pretraining.

        Raises ValueError for a split of atomic queries.
        """
        asked = self.queries[self.splits[split].numpy()]
        if (asked[:, 1] == NONE).any():
            raise ValueError(f"the split {split} holds atomic queries; expected two-hop ones only")
        return _exposure.report(asked, self.composed, len(self.graph))

    @property
    def entities(self) -> Int[Tensor, " entities"]:
        """Token ids of all entities."""
        first = self.vocabulary.index("<e_0>")
        return torch.arange(first, first + self.graph.entities)


def _facts(graph: Graph, queries: Int[np.ndarray, "rows 2"]) -> dict[str, Int[np.ndarray, " rows"]]:
    first, second = queries.T
    two = second != NONE
    return {
        "kind": two.astype(int),
        "first_fact": first,
        "second_fact": second,
        "first_ood": graph.ood[first].astype(int),
        "second_ood": np.where(two, graph.ood[second], NONE),
    }


def check(config: CompositionTask) -> None:
    """Raise ConfigError for settings that no graph can have."""
    least = {"entities": 2, "relations": 1, "out_degree": 1, "injected": 1, "test_rows": 1}
    for name, low in least.items():
        if getattr(config, name) < low:
            raise ConfigError(f"task.{name} = {getattr(config, name)}; expected at least {low}")
    if config.out_degree > config.relations:
        raise ConfigError(
            f"task.out_degree = {config.out_degree} distinct relations per head, of "
            f"task.relations = {config.relations}; expected at most {config.relations}"
        )
    for name in ("ood_share", "iid_share"):
        if not 0 < getattr(config, name) < 1:
            raise ConfigError(
                f"task.{name} = {getattr(config, name)}; expected a share strictly between 0 and 1"
            )
    if not 0 < config.phi < float("inf"):
        raise ConfigError(f"task.phi = {config.phi}; expected a number above 0")
    _check_finetune(config)
    if config.regime not in REGIMES:
        raise ConfigError(f"task.regime = {config.regime!r}; expected one of {list(REGIMES)}")
    if config.layout not in ("trm", "causal"):
        raise ConfigError(f"task.layout = {config.layout!r}; expected trm or causal")


def _check_finetune(config: CompositionTask) -> None:
    """What can be said before a graph is drawn."""
    wanted, chosen = config.finetune, (config.finetune.facts, config.finetune.version)
    if chosen[0] not in ("none", "new", "edited") or chosen[1] not in ("code", "paper"):
        raise ConfigError(
            f"task.finetune.facts, version = {chosen}; expected none, new or edited, and code or "
            f"paper"
        )
    if wanted.facts == "none" and wanted != FinetuneSet():
        raise ConfigError(
            "task.finetune has settings but teaches nothing; give task.finetune.facts = new or "
            "edited"
        )
    unused = config.entities * (config.relations - config.out_degree)
    if wanted.facts == "new" and config.folder is None and unused < wanted.count:
        raise ConfigError(
            f"task.finetune.count = {wanted.count} new facts, and {unused} unused pairs of head "
            f"and relation; give more task.relations than task.out_degree, or fewer new facts"
        )
