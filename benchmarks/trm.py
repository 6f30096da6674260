"""Ratios of the Tiny Recursive Model's training step: its hooked forward over ours, and compiled.

    python benchmarks/trm.py [--compile]

Hidden 128, batch 512, 5 tokens, H=2, L=2, two layers, no puzzle positions, one thread, AdamW. All
sides are timed alternately in one process, in processor time, and a line gives the median over the
repeats of the ratio within each. `medium` is ours with `matmul_precision=medium`, which is faster
where the processor multiplies bfloat16. `--compile` adds both under torch.compile, whose first step
takes a minute.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from mechgrok.config import AdamW, TRMModel
from mechgrok.models import trm_fast
from mechgrok.models.trm import build
from mechgrok.training import optimizers

REPEATS, ROWS, TOKENS, VOCABULARY = 15, 512, 5, 97


class Bench:
    """The model, a batch, and the steps that are compared; they share the weights."""

    def __init__(self) -> None:
        chance = torch.Generator().manual_seed(0)
        sizes = {"d_vocab": VOCABULARY, "n_ctx": TOKENS, "d_vocab_out": VOCABULARY}
        self.model = build(TRMModel(), **sizes, seed=0)
        self.tokens, self.labels = torch.randint(
            VOCABULARY, (2, ROWS, TOKENS), generator=chance
        ).unbind()
        self.optimizer = optimizers.make(self.model.parameters(), AdamW())

    def hooked(self) -> None:
        """Through the hooked forward, with no hook attached."""
        self._step(lambda: self.model(self.tokens))

    def ours(self, compiled: bool = False) -> None:
        """As the trainer does it."""
        self.model.cfg.compile = compiled
        positions = range(TOKENS)
        self._step(lambda: trm_fast.segments(self.model, self.tokens, positions)[-1].logits)

    def medium(self, compiled: bool = False) -> None:
        """Ours, with factors of the large products in bfloat16."""
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("medium")
        self.ours(compiled)
        torch.set_float32_matmul_precision(before)

    def bare(self) -> None:
        """The matrix products of the step alone, 24 for each of the three of an MLP over channels:
        12 applications of a block, 6 of them with two more products each backwards."""
        cfg: Any = self.model.cfg
        x, wide = torch.ones(ROWS * TOKENS, cfg.d_model), torch.ones(cfg.d_model, cfg.d_mlp)
        for _ in range(24 * 3):
            x @ wide

    def _step(self, forward: Callable[[], torch.Tensor]) -> None:
        self.optimizer.zero_grad()
        F.cross_entropy(forward().flatten(0, 1), self.labels.flatten()).backward()
        self.optimizer.step()


def timed(step: Callable[[], None]) -> float:
    """Seconds of processor time."""
    start = time.process_time()
    step()
    return time.process_time() - start


def main() -> None:
    torch.set_num_threads(1)
    bench = Bench()
    sides: dict[str, Callable[[], None]] = {
        "hooked": bench.hooked,
        "ours": bench.ours,
        "medium": bench.medium,
        "bare products": bench.bare,
    }
    if "--compile" in sys.argv[1:]:
        sides["compiled"] = lambda: bench.ours(compiled=True)
        sides["compiled medium"] = lambda: bench.medium(compiled=True)
    for side in sides.values():
        side()
    rounds = [{name: timed(side) for name, side in sides.items()} for _ in range(REPEATS)]
    for name in sides:
        seconds = statistics.median(found[name] for found in rounds)
        ratio = statistics.median(found["hooked"] / found[name] for found in rounds)
        print(f"{name:15s} {1e3 * seconds:7.1f} ms   hooked / {name} {ratio:.2f}")


if __name__ == "__main__":
    main()
