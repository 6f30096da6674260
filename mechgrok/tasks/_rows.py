"""The contract of a task: rows of tokens, where answers are read, and which rows are trained on."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from mechgrok.config import ConfigError

if TYPE_CHECKING:
    from datasets import DatasetDict

END = "<|eos|>"
"""The token that closes a row, where a task has one."""

IGNORE = -100
"""Label of an answer position that a row does not use; torch's own ignore index."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Everything a task gives a trainer and an analysis. Concrete tasks only add how it is made."""

    vocabulary: tuple[str, ...]
    """Token names; the index is the id."""
    tokens: Int[Tensor, "rows n_ctx"]
    """Every row of the task."""
    answer_positions: Int[Tensor, "rows n_answers"]
    """Positions whose logits are read."""
    labels: Int[Tensor, "rows n_answers"]
    """Right answers; IGNORE where a row has fewer answers than others."""
    splits: Mapping[str, Int[Tensor, " _"]]
    """Row indices by name; at least train and test; splits may overlap (probe sets)."""
    d_vocab_out: int
    """Number of output classes."""
    tags: Mapping[str, Shaped[Tensor, " rows"]] = field(default_factory=dict)
    """Per-row facts, such as whether the swapped twin is in training."""
    watched: Mapping[str, str] = field(default_factory=lambda: {"train": "train", "test": "test"})
    """Splits evaluated during training, by the name their columns begin with (`train_loss`)."""

    def __post_init__(self) -> None:
        """Refuse rows that no model could be trained on."""
        check_tokens(self.tokens, len(self.vocabulary))
        wrong = (self.labels != IGNORE) & ((self.labels < 0) | (self.labels >= self.d_vocab_out))
        if wrong.any():
            raise ValueError(
                f"label {int(self.labels[wrong][0])} is outside the {self.d_vocab_out} classes"
            )
        if bool((self.labels == IGNORE).all(dim=1).any()):
            raise ValueError("a row has no answer: every one of its labels is IGNORE")
        for name in ("train", "test"):
            if name not in self.splits or len(self.splits[name]) == 0:
                raise ValueError(f"the {name} split is empty; have {sorted(self.splits)}")

    @property
    def d_vocab(self) -> int:
        """Number of input tokens."""
        return len(self.vocabulary)

    @property
    def n_ctx(self) -> int:
        """Tokens per row."""
        return self.tokens.shape[1]

    @property
    def positions(self) -> tuple[int, ...]:
        """The answer positions when all rows share them.

        Raises ValueError when they differ from row to row.
        """
        first = self.answer_positions[0]
        if not bool((self.answer_positions == first).all()):
            raise ValueError("answer positions differ between rows; read answer_positions instead")
        return tuple(first.tolist())

    @property
    def ends(self) -> bool:
        """Whether the last answer of every row is the closing END, rather than a result."""
        if END not in self.vocabulary or self.labels.shape[1] < 2:
            return False
        return bool((self.labels[:, -1] == self.vocabulary.index(END)).all())

    @property
    def sha256(self) -> str:
        """Digest of tokens, labels and answer positions."""
        digest = hashlib.sha256()
        for tensor in (self.tokens, self.labels, self.answer_positions):
            digest.update(tensor.contiguous().to(torch.int64).numpy().tobytes())
        return digest.hexdigest()

    def mask(self, split: str) -> Bool[Tensor, " rows"]:
        """Whether each row is in a split."""
        found = torch.zeros(len(self.tokens), dtype=torch.bool)
        found[self.splits[split]] = True
        return found

    def text(self, split: str) -> list[str]:
        """The rows of a split: each up to the last position an answer is read at, and that answer.

        What may follow in a row is filling.
        """
        rows = self.splits[split]
        present = self.labels[rows] != IGNORE
        last = torch.where(present, self.answer_positions[rows], -1).max(dim=1)
        answers = self.labels[rows].gather(1, last.indices[:, None])[:, 0].tolist()
        known = zip(self.tokens[rows].tolist(), last.values.tolist(), answers, strict=True)
        return [
            " ".join(self.vocabulary[token] for token in [*row[: end + 1], answer])
            for row, end, answer in known
        ]

    def files(self) -> dict[str, str]:
        """Text of further files, by name, in which a task is published; usually none."""
        return {}

    def to_dataset(self) -> "DatasetDict":
        """The splits as a `datasets.DatasetDict`: tokens, answer_positions, labels and the tags."""
        from datasets import Dataset, DatasetDict

        return DatasetDict(
            {name: Dataset.from_dict(self._columns(rows)) for name, rows in self.splits.items()}
        )

    def _columns(self, rows: Int[Tensor, " _"]) -> dict[str, Any]:
        return {name: column[rows].tolist() for name, column in self._tensors()}

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        yield "tokens", self.tokens
        yield "answer_positions", self.answer_positions
        yield "labels", self.labels
        yield from self.tags.items()


def check_tokens(tokens: Int[Tensor, "rows n_ctx"], d_vocab: int) -> None:
    """Raise ValueError when a token id is not one of 0..d_vocab-1."""
    if tokens.numel() == 0:
        raise ValueError("no rows; the task is empty")
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= d_vocab:
        raise ValueError(f"token ids reach from {low} to {high}; expected 0..{d_vocab - 1}")


def twin_in_train(
    n: int, a: Int[Tensor, " rows"], b: Int[Tensor, " rows"], train: Int[Tensor, " train"]
) -> Int[Tensor, " rows"]:
    """1 where the row (b, a) is trained on; a twin that is not a row counts as absent."""
    table = torch.zeros(n, n, dtype=torch.long)
    table[a[train], b[train]] = 1
    return table[b, a]


def n_train(frac_train: float, rows: int, what: str) -> int:
    """Rows trained on, rounded as the published code of Power et al. (2022) does.

    Raises ConfigError for a share that is none, or leaves a split empty.
    """
    if not 0 < frac_train < 1:
        raise ConfigError(
            f"task.frac_train = {frac_train}; expected a share strictly between 0 and 1"
        )
    wanted = round(rows * frac_train)
    if not 0 < wanted < rows:
        raise ConfigError(
            f"task.frac_train = {frac_train} leaves {wanted} of {rows} {what} for training; "
            f"expected at least one on each side"
        )
    return wanted
