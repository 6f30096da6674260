"""The arms of fine-tuning: which run each starts from, at which step, and what it is taught."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _two_hop_design import STEPS, Pretraining, config_of

from mechgrok.config import FinetuneSet, RunConfig, Schedule, Stop, Transfer

if TYPE_CHECKING:
    from mechgrok.runs.run import Run

BOTH = ("embedding", "body")
FROZEN = {"two_hop_small": (("embedding",), ("body",)), "two_hop_published": ()}
"""What is trained in the arms that freeze the rest: embeddings and head, or the recursion."""
STARTS = {"two_hop_small": ("both_full", "natural")}
"""Regimes that fine-tuning starts from, and whose data scratch is taught; otherwise all there."""
INIT = 1_000
"""Offset of the initial weights of scratch arms: not those that pretraining began with."""
SCRATCH = "scratch"


@dataclass(frozen=True)
class Lesson:
    """What fine-tuning of a preset is, the same in every arm."""

    count: int
    """New, or edited, facts."""
    keep: int
    """Old queries that are kept."""
    batch: int
    """Rows of a step."""
    lr: float
    steps: int
    every: int
    """Steps between evaluations."""
    ema: float
    """Decay of the averaged weights."""


LESSONS = {
    "two_hop_small": Lesson(60, 3_700, 256, 1e-3, 500, 50, 0.99),
    "two_hop_published": Lesson(2_000, 8_000, 512, 2e-5, 39_040, 976, 0.999),
}
TINY = {
    "two_hop_small": Lesson(20, 300, 64, 1e-3, 40, 20, 0.99),
    "two_hop_published": Lesson(40, 2_000, 32, 2e-5, 4, 2, 0.999),
}
"""Of `--small`."""


@dataclass(frozen=True)
class Arm:
    """One arm; with a seed it is a run."""

    start: str
    """A regime whose run it starts from, or scratch."""
    regime: str
    """The regime whose queries are kept; of a pretrained start its own."""
    facts: str
    """new or edited."""
    trained: tuple[str, ...] = BOTH

    @property
    def name(self) -> str:
        """For directories and tables."""
        start = self.start if self.start != SCRATCH else f"{SCRATCH}_on_{self.regime}"
        frozen = "" if self.trained == BOTH else f"__{'+'.join(self.trained)}-only"
        return f"{start}__{self.facts}{frozen}"


def arms(name: str, regimes: Sequence[str]) -> list[Arm]:
    """Every arm of a preset, those that answer the main question first."""
    found = [Arm(regime, regime, "new") for regime in regimes]
    found += [
        Arm(SCRATCH, regime, "new") for regime in regimes if regime in ("both_full", "natural")
    ]
    found += [Arm(regime, regime, "edited") for regime in regimes]
    frozen = [Arm(r, r, "new", trained) for trained in FROZEN[name] for r in regimes]
    return found + frozen


def few(listed: Sequence[Arm]) -> list[Arm]:
    """The arms of `--small`: one of each kind, and natural's."""
    first = {(a.start == SCRATCH, a.facts, a.trained): a for a in reversed(listed)}
    natural = [arm for arm in listed if arm == Arm("natural", "natural", "new")]
    return [*reversed(first.values()), *natural]


@dataclass(frozen=True)
class Start:
    """The checkpoint an arm starts from."""

    run: "Run"
    step: int
    train_acc: float
    rule: str
    """How it was chosen."""

    @property
    def file(self) -> Path:
        """The checkpoint file."""
        from mechgrok.runs import layout

        return layout.checkpoint(self.run.path, self.step)

    def facts(self) -> dict[str, Any]:
        """For expected.json."""
        return {
            "run": self.run.name,
            "step": self.step,
            "train_acc": self.train_acc,
            "rule": self.rule,
        }


def start_of(name: str, regime: str, run: "Run", both_full: "Run | None") -> Start:
    """The last checkpoint; of natural the one matched to both_full's last, where that is there.

    It is looked for up to the same step on all seeds, also on the one that is trained longer.
    """
    rows = _kept(run)
    if regime != "natural" or both_full is None:
        return Start(run, rows[-1]["step"], rows[-1]["train_acc"], "last")
    until = STEPS["natural"] if name == "two_hop_small" else rows[-1]["step"]
    theirs = _kept(both_full)[-1]
    rows = [row for row in rows if row["step"] <= until]
    return Start(run, *matched(rows, theirs["step"], theirs["train_acc"]))


def ready(name: str, regime: str, run: "Run") -> bool:
    """Whether the checkpoint that `start_of` takes can no longer change."""
    if run.status["state"] == "finished":
        return True
    enough = name == "two_hop_small" and regime == "natural"
    return enough and run.steps[-1] >= STEPS["natural"]


def _kept(run: "Run") -> list[dict[str, Any]]:
    """Evaluations at which a checkpoint was kept."""
    kept = set(run.steps)
    return [row for row in run.evaluations() if row["step"] in kept]


def matched(
    rows: Sequence[Mapping[str, Any]], step: int, train_acc: float
) -> tuple[int, float, str]:
    """Step, training accuracy and rule: nearest in step of those at least as accurate; where none
    is, the most accurate one (the first of several), which the rule says."""
    as_good = [row for row in rows if row["train_acc"] >= train_acc]
    if as_good:
        found = min(as_good, key=lambda row: abs(row["step"] - step))
        rule = f"nearest to step {step} with train accuracy >= {train_acc:.4f}"
    else:
        found = max(rows, key=lambda row: row["train_acc"])
        rule = f"most accurate; none reaches both_full's {train_acc:.4f} of step {step}"
    return found["step"], found["train_acc"], rule


def finetuning(
    name: str,
    arm: Arm,
    seed: int,
    start: Start | None,
    small: bool = False,
    max_steps: int | None = None,
    device: str = "cpu",
    compiled: bool = False,
) -> RunConfig:
    """The settings of an arm's run at a seed; scratch has no start."""
    lesson = (TINY if small else LESSONS)[name]
    own = Pretraining(arm.regime, "trm", seed, lesson.steps)
    base = config_of(name, own, small, device, compiled)
    task: Any = base.task
    wanted = FinetuneSet(facts=arm.facts, count=lesson.count, keep=lesson.keep)  # pyright: ignore[reportArgumentType]
    began: dict[str, Any] = {"seeds": replace(base.seeds, init=INIT + seed)}
    if start is not None:
        began = {"init_from": str(start.file), "init_weights": "ema"}
    return replace(
        base,
        preset=f"{name}_finetune",
        task=replace(task, finetune=wanted),
        optim=replace(base.optim, batch_size=lesson.batch, lr=lesson.lr, ema=lesson.ema),
        schedule=Schedule(lesson.every, ("at 0", f"every {lesson.every * 5}")),
        transfer=Transfer(train=arm.trained),
        stop=Stop(lesson.steps if max_steps is None else max_steps, after_generalised=None),
        **began,
    )
