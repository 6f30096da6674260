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


TaskConfig = BinaryTask | GroupTask | EquationTask
"""A run's task is one of these, chosen by its `name`."""
