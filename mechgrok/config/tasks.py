"""Settings of the tasks; `name` is the file in `mechgrok/tasks`."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class BinaryTask:
    """All pairs (a, b) of Z_n under one operation, as tokens (a, b, =)."""

    name: str = "binary"
    """Task file in `mechgrok/tasks`, or a dotted path."""
    operation: str = "add"
    """A function of `mechgrok/maths/operations.py`: add, subtract, multiply, divide, ..."""
    n: int = 113
    """Size of Z_n; at least 3."""
    frac_train: float = 0.3
    """Share of the rows trained on; strictly between 0 and 1."""
    split: str = "nanda2023"
    """How rows are split: nanda2023, torch_randperm or symmetric."""
    relabel: bool = False
    """Rename the tokens by a random permutation (seed: `seeds.relabel`)."""
    outputs: Literal["tokens", "answers"] = "tokens"
    """Logits over all n+1 tokens, as Nanda et al. (2023), or over the n answers only."""


@dataclass(frozen=True)
class GroupTask:
    """All pairs (a, b) of a finite group and their product, as tokens (a, b, =)."""

    name: str = "group"
    """Task file in `mechgrok/tasks`, or a dotted path."""
    group: str = "S_5"
    """C_n, D_n (symmetries of the n-gon), A_n or S_n; of 3 to 1,000 elements."""
    frac_train: float = 0.4
    """Share of the rows trained on; strictly between 0 and 1."""
    split: str = "nanda2023"
    """How rows are split: nanda2023, torch_randperm or symmetric."""
    relabel: bool = False
    """Rename the tokens by a random permutation (seed: `seeds.relabel`)."""
    outputs: Literal["tokens", "answers"] = "tokens"
    """Logits over all tokens, "=" too, or over the group's elements only."""


@dataclass(frozen=True)
class EquationTask:
    """Equations as openai/grok writes them (Power et al. 2022): `<|eos|> a op b = c <|eos|>`.

    Its vocabulary (239 tokens at modulus 97) and shuffle (`seeds.data`; 0 as published).
    """

    name: str = "equation"
    """Task file in `mechgrok/tasks`, or a dotted path."""
    operation: str = "add"
    """A function of `mechgrok/maths/operations.py`, or s5, s5conj (a b a^-1), s5aba (a b a)."""
    modulus: int = 97
    """Size of Z_n for operations on numbers, at least 3; the published one by default."""
    frac_train: float = 0.5
    """Share of the equations trained on, rounded to a whole number of them."""
    noisy: int = 0
    """This many training equations get another equation's answer (published as `_noisy_N`)."""


@dataclass(frozen=True)
class SequencesTask:
    """Lists of distinct numbers in openai/grok's layout: `<|eos|> sort 5 3 = 3 5 <|eos|>`.

    Its tokens and shuffle, with data of our own: the released code has none that works.
    """

    name: str = "sequences"
    """Task file in `mechgrok/tasks`, or a dotted path."""
    operation: str = "sort"
    """What is done to the list: sort, reverse or copy."""
    length: int = 2
    """Numbers per list, 2 or 3; of 97 numbers there are 9,312 or 884,640 lists."""
    n: int = 97
    """Lists are of the numbers 0..n-1; from `length` to 97."""
    frac_train: float = 0.5
    """Share of the lists trained on, rounded to a whole number of them."""


@dataclass(frozen=True)
class ComparisonTask:
    """Facts `entity attribute value`, and which of two entities has the larger value.

    The comparison task of Wang et al. (2024, arXiv 2405.15071), on a world of its own.
    """

    name: str = "comparison"
    """Task file in `mechgrok/tasks`, or a dotted path."""
    entities: int = 1000
    """At least 4."""
    attributes: int = 20
    """At least 1; every entity has a value of each."""
    values: int = 20
    """Values are uniform in 0..values-1; at least 2."""
    ood_share: float = 0.1
    """Share of the entities, drawn anew for each attribute, that no trained comparison has."""
    iid_share: float = 0.1
    """Share of the pairs of the other entities that is kept for the test split."""
    ratio: float = 3.6
    """Comparisons trained on, per fact of an entity that comparisons are trained on."""
    test_rows: int = 3000
    """At most this many comparisons in each of the splits `test` and `ood`."""


@dataclass(frozen=True)
class FinetuneSet:
    """What a model trained on `composition` is taught afterwards: facts by their atomic query."""

    facts: Literal["none", "new", "edited"] = "none"
    """`new`: unused (head, relation) pairs, in chains of two; `edited`: old ones with another tail;
    `none`: no fine-tuning, the task itself."""
    count: int = 60
    """How many facts; an even number of new ones."""
    version: Literal["code", "paper"] = "code"
    """What is kept of the old training set: as the released code does, or as the paper says."""
    keep: int = 3700
    """`code`: queries kept, atomic and two-hop together; `paper`: in-distribution facts kept, with
    every two-hop query that uses one."""


@dataclass(frozen=True)
class CompositionTask:
    """Facts `(head, relation) -> tail`, and queries (head, relation, relation) of two of them.

    Wang et al. (2024, arXiv 2405.15071) and He et al. (2026, arXiv 2601.09049), who publish
    entities 2000, relations 200, out_degree 20, ood_share .05 and phi 18.
    """

    name: str = "composition"
    """Task file in `mechgrok/tasks`, or a dotted path."""
    entities: int = 60
    """At least 2."""
    relations: int = 30
    """At least `out_degree`, and more where new facts are to be taught."""
    out_degree: int = 20
    """Facts per head, each with another relation."""
    ood_share: float = 0.1
    """Share of the facts that no two-hop query of the natural training set uses."""
    iid_share: float = 0.005
    """Chance of a query of two in-distribution facts to be kept for testing."""
    phi: float = 16.0
    """Two-hop queries trained on, per in-distribution fact."""
    regime: str = "natural"
    """Queries added: natural, both_full, both_half, first_hop, second_hop or both_full_sham."""
    injected: int = 18
    """Queries added per out-of-distribution fact (half of it in both_half)."""
    test_rows: int = 3000
    """At most this many queries of each test type."""
    layout: Literal["trm", "causal"] = "trm"
    """`trm`: prompt and padding in, the whole sequence out at once; `causal`: next token, the loss
    on the tail and the closing token."""
    finetune: FinetuneSet = field(default_factory=FinetuneSet)
    """What is taught afterwards, instead."""
    folder: str | None = None
    """A folder of the published JSON files to read instead of drawing a graph."""


TaskConfig = (
    BinaryTask | GroupTask | EquationTask | SequencesTask | ComparisonTask | CompositionTask
)
"""A run's task is one of these, chosen by its `name`."""
