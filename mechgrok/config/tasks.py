"""Settings of the tasks; `name` is the file in `mechgrok/tasks`."""

from dataclasses import dataclass
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


TaskConfig = BinaryTask | GroupTask | EquationTask | SequencesTask | ComparisonTask
"""A run's task is one of these, chosen by its `name`."""
