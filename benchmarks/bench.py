"""Ratios of our training step to the plain hooked one and to its bare matrix products.

    make bench

Both sides of a ratio are timed alternately in one process, each after an untimed step of its own;
a line gives the median over the repeats of the ratio within each. Run it on a quiet machine. Writes
latest.json (name -> median ratio) and latest_run.json (seconds, memory and machine). What measures
cost is in measures.py.
"""

import gc
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path

import torch
import torch.nn.functional as F
from measures import GOALS, costs  # the file beside this one
from torch import Tensor
from tqdm import tqdm

from mechgrok import discovery
from mechgrok.config import RunConfig
from mechgrok.presets import preset
from mechgrok.runs.checkpoint import build_model
from mechgrok.training import losses, optimizers
from mechgrok.training.provenance import machine

REPEATS = 30
HERE = Path(__file__).parent
Step = Callable[[], None]


@dataclass(frozen=True)
class Ratio:
    """One line: `numerator` over `denominator`, and what it should be."""

    name: str
    numerator: Step
    denominator: Step
    goal: str


class Bench:
    """One setting: its model, batch and optimiser, and the steps that are compared."""

    def __init__(self, config: RunConfig) -> None:
        self.task = discovery.load("tasks", config.task.name).make(config.task, config.seeds)
        self.model = build_model(config, self.task)
        train = self.task.splits["train"]
        size = config.optim.batch_size or len(train)
        self.full = len(train) <= size
        self.rows = cycle([rows for rows in train.split(size) if len(rows) == size])
        self.batch = losses.Batch.of(self.task, train[:size], "cpu")
        self.loss = losses.make(config.loss)
        self.optimizer = optimizers.make(
            [p for p in self.model.parameters() if p.requires_grad], config.optim
        )
        self.generator = torch.Generator()
        self.products = self._products()

    def ours(self) -> None:
        """A training step as the trainer does it."""
        self.optimizer.zero_grad()
        self.loss(self.model, self._next(), self.generator)[0].backward()
        self.optimizer.step()

    def hooked(self) -> None:
        """The same step through the model's own forward."""
        batch = self._next()
        self.optimizer.zero_grad()
        logits = self.model(batch.tokens)[:, list(batch.positions)].flatten(0, 1)
        F.cross_entropy(logits.double(), batch.labels.flatten()).backward()
        self.optimizer.step()

    def bare(self) -> None:
        """Forward and both backward products of every weight, nothing else."""
        for x, weight, grad in self.products:
            x @ weight
            grad @ weight.T
            x.T @ grad

    def _next(self) -> losses.Batch:
        """As the trainer: a full batch is gathered once, a minibatch at every step."""
        return self.batch if self.full else losses.Batch.of(self.task, next(self.rows), "cpu")

    def _products(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """(input, weight, output gradient) of W_Q, W_K, W_V, W_O, W_in, W_out and W_U, at the rows
        that have to be computed: distinct (token, position) in layer 0, distinct prefixes after it,
        and only answers in the last layer's W_O, W_in, W_out and W_U."""
        cfg, tokens = self.model.cfg, self.batch.tokens
        columns = range(tokens.shape[1])
        single = sum(len(tokens[:, s].unique()) for s in columns)
        prefixes = [len(tokens[:, : s + 1].unique(dim=0)) for s in columns]
        answers, width = prefixes[-1], cfg.n_heads * cfg.d_head
        sizes: list[tuple[int, int, int]] = []
        for layer in range(cfg.n_layers):
            entering = single if layer == 0 else sum(prefixes)
            leaving = answers if layer == cfg.n_layers - 1 else sum(prefixes)
            sizes += [(entering, cfg.d_model, width)] * 3
            sizes += [(leaving, width, cfg.d_model)]
            sizes += [(leaving, cfg.d_model, cfg.d_mlp), (leaving, cfg.d_mlp, cfg.d_model)]
        sizes += [(answers, cfg.d_model, cfg.d_vocab_out)]
        return [
            (torch.randn(rows, a), torch.randn(a, b), torch.randn(rows, b)) for rows, a, b in sizes
        ]


def timed(step: Step) -> float:
    """Seconds of the second of two calls.

    The first restores what the other side's step left of the heap and the caches: in training, a
    step follows one of its own kind.
    """
    step()
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def median_ratio(ratio: Ratio) -> tuple[float, float, float]:
    """Median ratio, and the medians of both sides in milliseconds."""
    for side in (ratio.numerator, ratio.denominator) * 2:
        side()
    pairs = [(timed(ratio.numerator), timed(ratio.denominator)) for _ in range(REPEATS)]
    sides = [1e3 * statistics.median(side) for side in zip(*pairs, strict=True)]
    return statistics.median(a / b for a, b in pairs), sides[0], sides[1]


def ratios() -> list[Ratio]:
    """Every ratio of steps."""
    config = preset("nanda2023_mainline")
    mainline, two = Bench(config), Bench(preset("two_layer_canonical"))
    post_ln = Bench(preset("spectral_add40"))  # batches of 512 equations of 6 tokens
    small, large = (Bench(replace(config, task=replace(config.task, n=n))) for n in (59, 199))
    return [
        Ratio("mainline_step_over_hooked", mainline.hooked, mainline.ours, ">= 4.5"),
        Ratio("mainline_step_over_products", mainline.ours, mainline.bare, "<= 1.45, towards 1.3"),
        Ratio("two_layer_step_over_hooked", two.hooked, two.ours, "recorded"),
        Ratio("two_layer_step_over_products", two.ours, two.bare, "recorded"),
        Ratio("post_ln_over_hooked", post_ln.hooked, post_ln.ours, ">= 1.7"),
        Ratio("step_p59_over_p113", small.ours, mainline.ours, "recorded; pairs: 0.27"),
        Ratio("step_p199_over_p113", large.ours, mainline.ours, "recorded; pairs: 3.10"),
    ]


def main() -> None:
    found: dict[str, float] = {}
    run = {"machine": machine(), "threads": torch.get_num_threads(), "repeats": REPEATS}
    for ratio in tqdm(ratios(), unit="ratio", leave=False):
        gc.collect()
        value, top, bottom = median_ratio(ratio)
        found[ratio.name] = round(value, 3)
        run[ratio.name + "_ms"] = [round(top, 2), round(bottom, 2)]
        tqdm.write(
            f"{ratio.name:<30} {value:6.2f}   ({top:.1f} / {bottom:.1f} ms)   goal {ratio.goal}"
        )
    for name, value in costs().items():
        run[name] = round(value, 3)
        print(f"{name:<34} {value:8.2f}   goal {GOALS[name]}")
    (HERE / "latest.json").write_text(json.dumps(found, indent=1) + "\n")
    (HERE / "latest_run.json").write_text(json.dumps(run, indent=1) + "\n")
    print(f"{run['machine']}, {run['threads']} threads")


if __name__ == "__main__":
    main()
