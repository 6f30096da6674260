"""The arms of the transfer experiment: what is taken from which donor, what is trained, on what."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechgrok.config import BinaryTask, GroupTask, RunConfig, Schedule, Seeds, Stop, Transfer
from mechgrok.training.plan import Job, Plan

if TYPE_CHECKING:
    from _transfer_donors import Donors

BOTH = ("embedding", "body")
CORE = ("grokked", "memorised", "spectrum_matched", "w_out_permuted", "random_init")
DONORS = (*CORE, "random_label", "no_decay")
TARGETS = {
    "T0": "the same operation",
    "T1": "addition mod p - 1, which is multiplication mod p",
    "T2": "subtraction",
    "T3": "the dihedral group of order p - 1",
    "T4": "random labels",
}
FRACTIONS = {"T0": 0.3, "T1": 0.4, "T2": 0.4, "T3": 0.4, "T4": 0.4}
AS_NAMED = "same names"
"""Suffix of a target whose tokens keep the donor's names."""
EMBEDDING_FITS = ("T0", "T2", "T4")
"""Targets with as many tokens as the donor's task."""
SETS = (
    "core", "usual", "targets", "furuta", "groktransfer", "mechanism", "progress", "fractions",
    "mainline", "rest",
)  # fmt: skip
HORIZON = 4_000
INIT, DATA, RELABEL = 1_000, 2_000, 3_000
"""Offsets of a child's seeds: no fresh part, split or naming is the donor's own."""


@dataclass(frozen=True)
class Arm:
    """One cell of the design; with a seed it is a run."""

    target: str
    """T0 .. T4, or one of them with AS_NAMED."""
    donor: str
    """One of DONORS, half_grokked, without_cluster, without_others, or none."""
    taken: tuple[str, ...] = ("body",)
    """Parts that are the donor's; the others are fresh."""
    trained: tuple[str, ...] = ("embedding",)
    fraction: float = 0.3
    """Share of the target's rows that is trained on."""
    step: int | None = None
    """A checkpoint of the grokked donor's run, for the progress measure."""
    horizon: int = HORIZON

    @property
    def name(self) -> str:
        """For file names and tables."""
        words = [f"{self.target.replace(' ', '-')}-{self.fraction:g}", self.design, self.donor]
        return "__".join([*words, *([] if self.step is None else [f"at{self.step}"])])

    @property
    def design(self) -> str:
        """What is the donor's and what is trained, in a word."""
        taken = "+".join(self.taken) or "nothing"
        return f"{taken}-taken_{'+'.join(self.trained)}-trained"


def frozen_body(target: str, donor: str, fraction: float | None = None, **more: Any) -> Arm:
    """Fresh embedding, the donor's body frozen: the main contrast."""
    share = FRACTIONS[target] if fraction is None else fraction
    return Arm(target, donor, ("body",), ("embedding",), share, **more)


def scratch(target: str, fraction: float | None = None) -> Arm:
    """Everything fresh, everything trained."""
    return Arm(target, "none", (), BOTH, FRACTIONS[target] if fraction is None else fraction)


def arms(name: str) -> list[Arm]:
    """The arms of a set, but those of `progress`, which depend on the donor's checkpoints."""
    if name == "core":
        return [frozen_body(target, donor) for target in ("T0", "T1", "T3") for donor in CORE]
    if name == "targets":
        return [frozen_body(target, donor) for target in ("T2", "T4") for donor in CORE]
    if name == "usual":  # fine-tuning as it is done: the whole grokked model, everything trained
        found = [Arm("T0", "grokked", BOTH, BOTH, FRACTIONS["T0"])]
        found += [Arm("T0", "grokked", ("body",), BOTH, FRACTIONS["T0"])]
        return found + [scratch(target) for target in ("T0", "T1", "T3")]
    if name == "furuta":  # Furuta et al. 2024: one part pre-grokked and frozen, names as they are
        return [
            Arm(f"{target} {AS_NAMED}", "grokked", (part,), (rest,), FRACTIONS[target])
            for target in ("T0", "T2")
            for part, rest in (BOTH, BOTH[::-1])
        ]
    if name == "groktransfer":  # Xu et al. 2025: W_E of a model that has begun to generalise
        named = [f"{target} {AS_NAMED}" for target in ("T0", "T2")]
        found = [Arm(t, "half_grokked", ("W_E",), BOTH, FRACTIONS[t[:2]]) for t in named]
        return found + [Arm(t, "none", (), BOTH, FRACTIONS[t[:2]]) for t in named]
    if name == "mechanism":
        return [frozen_body("T0", donor) for donor in ("without_cluster", "without_others")]
    if name == "fractions":
        return [
            arm
            for share in (0.2, 0.4)
            for arm in (frozen_body("T0", "grokked", share), scratch("T0", share))
        ]
    if name == "mainline":
        donors = ("grokked", "memorised", "spectrum_matched", "random_init")
        return [frozen_body("T0", donor) for donor in donors]
    if name == "rest":
        return factorial()
    return []


def factorial() -> list[Arm]:
    """Every cell of embedding x body x frozen or trained x donor that exists, on all targets."""
    found = []
    for target in TARGETS:
        share = FRACTIONS[target]
        for donor in DONORS:
            found += [Arm(target, donor, ("body",), t, share) for t in (("embedding",), BOTH)]
            if target in EMBEDDING_FITS:
                found += [Arm(target, donor, BOTH, t, share) for t in (("embedding",), BOTH)]
                if donor != "w_out_permuted":  # whose embedding is the grokked one's
                    pair = (("embedding",), BOTH)
                    found += [Arm(target, donor, ("embedding",), t, share) for t in pair]
        found += [Arm(target, "none", (), t, share) for t in (("embedding",), BOTH)]
    return found


def not_applicable() -> list[dict[str, str]]:
    """Cells of the factorial that do not exist, and why."""
    apart = [t for t in TARGETS if t not in EMBEDDING_FITS]
    why = "the donor's embedding has a row per token of its own task"
    found = [{"target": t, "cells": "embedding from the donor", "why": why} for t in apart]
    same = "its embedding is the grokked donor's: that arm stands for it"
    return [*found, {"target": "all", "cells": "embedding of w_out_permuted alone", "why": same}]


def config_of(arm: Arm, seed: int, donors: "Donors") -> RunConfig:
    """The run of an arm at a seed: same optimiser, steps and evaluations everywhere."""
    base, n = donors.base, donors.n
    own = Seeds().with_base(seed)
    seeds = replace(own, init=INIT + seed, data=DATA + seed, labels=DATA + seed)
    transfer = Transfer(train=arm.trained, parts=arm.taken)
    if arm.donor != "none":
        transfer = donors.transfer(arm, seed)
    return replace(
        base,
        preset=f"{base.preset}_transfer",
        task=task_of(arm, n),
        seeds=replace(seeds, relabel=RELABEL + seed),
        schedule=Schedule(evaluate_every=donors.every, checkpoints=("at 0", "every 2000")),
        transfer=transfer,
        stop=Stop(max_steps=min(arm.horizon, donors.horizon), after_generalised=None),
        threads=1,
    )


def task_of(arm: Arm, n: int) -> BinaryTask | GroupTask:
    """The target's settings."""
    code, renamed, share = arm.target[:2], AS_NAMED not in arm.target, arm.fraction
    if code == "T3":
        return GroupTask(group=f"D_{(n - 1) // 2}", frac_train=share, relabel=renamed)
    operation = {"T2": "subtract", "T4": "random_labels"}.get(code, "add")
    modulus = n - 1 if code == "T1" else n
    return BinaryTask(operation=operation, n=modulus, frac_train=share, relabel=renamed)


@dataclass(frozen=True)
class Jobs(Plan):
    """Arms as jobs of a sweep, one seed after the other."""

    listed: tuple[tuple[str, RunConfig], ...] = ()
    """Directory name and settings."""

    def jobs(self, directory: Path) -> list[Job]:
        """Every run; raises RunError for a directory that holds another one."""
        from mechgrok.training.guards import refuse_other

        found = [Job(config, directory / name) for name, config in self.listed]
        for job in found:
            refuse_other(job.directory, job.config)
        return found


def plan_of(wanted: Sequence[tuple[Arm, int]], donors: "Donors") -> Jobs:
    """The sweep of some arms at some seeds."""
    listed = [(run_name(arm, seed), config_of(arm, seed, donors)) for arm, seed in wanted]
    return Jobs(donors.base, (), {}, tuple(listed))


def run_name(arm: Arm, seed: int) -> str:
    """Name of a run's directory."""
    return f"{arm.name}__seed{seed}"
