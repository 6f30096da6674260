"""Fingerprints while training: log-probabilities of fixed rows, before every n-th update.

Nothing of the run feels it: eval mode, no gradients, no generator, and a log-softmax in float64
(log-probabilities near 0 round to nothing in float32). The published code (arXiv 2605.08237) means
the answer and reads the closing token after it; both are kept here, each under its own name.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechgrok.config import ConfigError, RunConfig
from mechgrok.models.fixed_rows import FixedRows
from mechgrok.models.shared_prefix import at_own_positions
from mechgrok.runs import layout, row_file
from mechgrok.runs.fingerprints import FORMAT
from mechgrok.runs.row_file import RowFile
from mechgrok.training import probes
from mechgrok.training.evaluation import evaluating
from mechgrok.training.hidden import HiddenQuantiles
from mechgrok.training.losses import IGNORE, Batch


class Values:
    """What is recorded of a model's logits on the probes."""

    def __init__(self, task: Any, rows: Int[Tensor, " probes"], device: str) -> None:
        """The probes' tokens, answers and closing tokens, put on the device once."""
        self.batch = Batch.of(task, rows, device)
        self.rows = FixedRows(self.batch.tokens, self.batch.positions)
        self.at = at = self.batch.answer_positions
        self.shared = bool((at == torch.tensor(self.batch.positions, device=device)).all())
        self.ends = task.ends
        self.labels = self.batch.labels.clamp(min=0)[:, :, None]  # IGNORE is never read
        self.first = (self.batch.labels != IGNORE).int().argmax(dim=1, keepdim=True)

    def of(self, model: nn.Module) -> dict[str, Float[np.ndarray, " probes"]]:
        """Values by observable; the raw weights', not those of an average."""
        # where the fast way is exact it knows no mode, and setting one takes as long as a layer
        mode = nullcontext() if self.rows.covers(model) else evaluating(model)
        with mode, torch.inference_mode():
            logits = self.rows.logits(model)
            logits = (
                logits if self.shared else at_own_positions(logits, self.at, self.batch.positions)
            )
            logits = logits.double()
            own = logits.gather(2, self.labels)[:, :, 0]
            log_probs = logits.log_softmax(2).gather(2, self.labels)[:, :, 0]
            others = logits.scatter_(2, self.labels, -torch.inf).amax(2)
            found = {
                "answer_log_prob": log_probs.gather(1, self.first)[:, 0],
                "margin": (own - others).gather(1, self.first)[:, 0],
            }
            if self.ends:
                found["end_log_prob"] = log_probs[:, -1]
        return {name: value.cpu().numpy() for name, value in found.items()}


class Fingerprint:
    """The recorder of one run; `record` is called before the update of every step."""

    def __init__(
        self, config: RunConfig, task: Any, model: nn.Module, directory: Path, steps_per_epoch: int
    ) -> None:
        """Choose the probes; nothing is written. Raises ConfigError for impossible settings."""
        asked = config.record.fingerprint
        if asked.every < 0:
            raise ConfigError(
                f"record.fingerprint.every = {asked.every}; expected 0 (off) or a number of steps"
            )
        self.every, self.path = asked.every, layout.fingerprints(directory)
        self.file: RowFile | None = None
        if not self.every:
            return
        seed = config.seeds.probe
        chosen = probes.choose(task, asked.splits, asked.probes, seed)
        self.values = Values(task, chosen.rows, config.device)
        self.hidden: HiddenQuantiles | None = None
        if asked.hook is not None:
            self.hidden = HiddenQuantiles.at(asked, seed, model, self.values.batch.tokens)
        self.fields = self._fields(len(chosen.rows))
        self.description = {
            "format": FORMAT,
            "every": self.every,
            "probes": chosen.rows.tolist(),
            "places": chosen.places.tolist(),
            "splits": list(chosen.splits),
            "seed": seed,
            "steps_per_epoch": steps_per_epoch,
            **({} if self.hidden is None else self.hidden.description()),
        }

    def start(self, resumed: int | None) -> None:
        """A new file, or the one that is there without the rows from step `resumed` on.

        Raises RunError when it has fewer rows than that, or was recorded differently.
        """
        if not self.every:
            return
        kept = 0 if resumed is None else self._rows_before(resumed)
        if not kept:
            row_file.create(self.path, self.fields, self.description)
        self.file = RowFile(self.path)
        row_file.refuse_other(self.file, self.fields, self.description)
        self.file.cut(kept)

    def record(self, step: int, model: nn.Module) -> bool:
        """Add a row where one is due; false when it would not be finite, and is not added."""
        if self.file is None or step % self.every:
            return True
        row = self.observe(model)
        if not all(np.isfinite(value).all() for value in row.values()):
            return False
        self.file.append({"step": step, **row})
        return True

    def observe(self, model: nn.Module) -> Mapping[str, np.ndarray]:
        """The parts of one row."""
        found: dict[str, np.ndarray] = dict(self.values.of(model))
        if self.hidden is not None:
            found["hidden"] = self.hidden.of(model)
        return found

    def sync(self) -> None:
        """Put what was recorded on the disk; before the checkpoint that counts on it."""
        if self.file is not None:
            self.file.sync()

    def close(self) -> None:
        """As `sync`, and give back the room that was not needed."""
        if self.file is not None:
            self.file.close()

    def _rows_before(self, step: int) -> int:
        return -(-step // self.every)

    def _fields(self, n: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        names = ["answer_log_prob", "margin", *(["end_log_prob"] if self.values.ends else [])]
        hidden = {} if self.hidden is None else {"hidden": ("<f4", (self.hidden.size,))}
        return {"step": ("<i8", ()), **{name: ("<f8", (n,)) for name in names}, **hidden}
