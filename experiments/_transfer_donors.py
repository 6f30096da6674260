"""Donors of the transfer experiment: runs that are there already, or are trained first."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _recorded import DECIDING
from _transfer_arms import HORIZON, Arm, Jobs

from mechgrok.config import ConfigError, RunConfig, Schedule, Stop, Transfer
from mechgrok.presets import preset

if TYPE_CHECKING:
    from mechgrok.runs.run import Run

MEMORISED, NOT_YET = 0.999, 0.2
"""Least training and most test accuracy of the memorised donor."""
HALF = 0.5
"""Test accuracy of the donor of GrokTransfer's protocol."""
CHANGE_SEED = 4_000
"""Offset of the seeds that null donors are drawn from."""


@dataclass(frozen=True)
class Donors:
    """The donors of every seed; what is missing is trained into `directory`."""

    preset: str
    """Donors are runs of it at weight decay 1."""
    directory: Path
    """Where missing donors go."""
    seeds: tuple[int, ...]
    """One donor run each."""
    given: Path | None = None
    """A folder of runs to look in first."""
    workers: int = 2
    small: bool = False
    found: dict[tuple[str, int], Path] = field(default_factory=dict)

    @property
    def base(self) -> RunConfig:
        """Settings of the grokked donor at seed 0."""
        return replace(preset(self.preset), threads=1)

    @property
    def n(self) -> int:
        """Modulus of the donors' task."""
        task: Any = self.base.task
        return task.n

    @property
    def every(self) -> int:
        """Steps between evaluations of the arms."""
        return 20 if self.small else 50

    @property
    def horizon(self) -> int:
        """Most steps of an arm."""
        return 40 if self.small else HORIZON

    def prepare(self, kinds: Collection[str], train: bool) -> None:
        """Find the runs that these donors are taken from, or train them.

        Raises ConfigError for donors that are still missing.
        """
        self._have("grokked", train)
        for kind in ("memorised", "random_label", "no_decay"):
            if kind in kinds:
                self._have(kind, train)

    def relaxed(self, seed: int) -> bool:
        """Whether the memorised donor of a seed breaks the rule of test <= .2."""
        return memorised(self.run("grokked", seed))[1]

    def run(self, kind: str, seed: int) -> "Run":
        """The run a donor is taken from."""
        from mechgrok.runs.run import Run

        return Run(self.found[(kind if (kind, seed) in self.found else "grokked", seed)])

    def step(self, kind: str, seed: int) -> int:
        """The donor's checkpoint."""
        run = self.run(kind, seed)
        if kind == "memorised":
            return memorised(self.run("grokked", seed))[0]
        if kind == "half_grokked":
            rows = {row["step"]: row["test_acc"] for row in run.evaluations()}
            return next(s for s in run.steps if rows.get(s, 0) >= HALF or s == run.steps[-1])
        return run.steps[-1]

    def transfer(self, arm: Arm, seed: int) -> Transfer:
        """The transfer of an arm."""
        kind = arm.donor
        changes = ("spectrum_matched", "w_out_permuted", "random_init")
        removed: tuple[int, ...] = ()
        if kind.startswith("without_"):
            from _transfer_mechanism import cluster_and_others

            cluster, others = cluster_and_others(self.run("grokked", seed)[-1])
            removed = cluster if kind == "without_cluster" else others
        return Transfer(
            donor=str(self.run(kind, seed).path.resolve()),
            step=self.step(kind, seed) if arm.step is None else arm.step,
            parts=arm.taken,
            change=kind if kind in changes else "none",
            seed=CHANGE_SEED + seed,
            without_neurons=removed,
            train=arm.trained,
        )

    def facts(self) -> list[dict[str, Any]]:
        """Per seed: the grokked and the memorised donor's step and accuracies, and whether the
        latter's run was repeated to the bit."""
        rows = []
        for seed in self.seeds:
            grokked = self.run("grokked", seed)
            last, (step, relaxed) = grokked.evaluations()[-1], memorised(grokked)
            early = _row(grokked, step)
            row = {"seed": seed, "step": last["step"], "test_acc": last["test_acc"]}
            row |= {"memorised_step": step, "memorised_test_acc": early["test_acc"]}
            row |= {"memorised_relaxed": relaxed}
            if ("memorised", seed) in self.found:
                again = _row(self.run("memorised", seed), step)
                same = all(early[k] == again[k] for k in ("train_loss", "test_loss"))
                row["repeated_to_the_bit"] = same
            rows.append(row)
        return rows

    def _have(self, kind: str, training: bool) -> None:
        wanted = {seed: self._config(kind, seed) for seed in self.seeds}
        if kind == "grokked" and self.given is not None:
            for seed, config in wanted.items():
                for path in [] if config is None else _runs_of(self.given, config)[:1]:
                    self.found[kind, seed] = path
        left = {s: c for s, c in wanted.items() if (kind, s) not in self.found and c is not None}
        names = {seed: f"{self.preset}__{kind}__seed{seed}" for seed in left}
        plan = Jobs(self.base, (), {}, tuple((names[seed], c) for seed, c in left.items()))
        failed = train(plan, self.directory, self.workers, self.small) if training else {}
        if failed:
            raise ConfigError(f"donors that could not be trained: {failed}")
        for seed, name in names.items():
            if (self.directory / name / "status.json").exists():
                self.found[kind, seed] = self.directory / name
        lacking = [seed for seed in self.seeds if ("grokked", seed) not in self.found]
        if lacking:
            raise ConfigError(f"no grokked donor for seeds {lacking} in {self.given}")

    def _config(self, kind: str, seed: int) -> RunConfig | None:
        """Settings of a donor's run; None where the grokked run itself has the checkpoint."""
        seeds = self.base.seeds.with_base(seed)
        config = replace(self.base, seeds=seeds)
        if self.small:
            config = replace(config, stop=Stop(max_steps=300, after_generalised=None))
        if kind == "grokked":
            return config
        grokked = self.run("grokked", seed)
        if kind == "memorised":
            step, _ = memorised(grokked)
            if step in grokked.steps:
                return None
            return replace(  # the same run once more, up to the step that was not kept
                grokked.config,
                schedule=Schedule(grokked.config.schedule.evaluate_every, ("at 0", "every 500")),
                stop=Stop(max_steps=step, after_generalised=None),
            )
        stop = Stop(max_steps=grokked.steps[-1], after_generalised=None)
        keep = Schedule(config.schedule.evaluate_every, ("at 0", "every 1000"))
        config = replace(config, stop=stop, schedule=keep)
        if kind == "random_label":
            return replace(config, task=replace(config.task, operation="random_labels"))
        return replace(config, optim=replace(config.optim, weight_decay=0.0))


def memorised(run: "Run") -> tuple[int, bool]:
    """Last evaluation with train >= .999 and test <= .2, and whether the rule had to be relaxed.

    Where test accuracy is above .2 by the time training accuracy is .999 there is none; then it is
    the first with train >= .999, a control that has more of the circuit. Raises ConfigError for a
    run that never memorised.
    """
    fitted = [row for row in run.evaluations() if row["train_acc"] >= MEMORISED]
    if not fitted:
        raise ConfigError(f"{run.path} never reached {MEMORISED} on its training rows")
    early = [row["step"] for row in fitted if row["test_acc"] <= NOT_YET]
    return (early[-1], False) if early else (fitted[0]["step"], True)


def train(plan: Jobs, directory: Path, workers: int, small: bool) -> dict[str, str]:
    """Train what has not ended; small runs in this process, where starting costs more than they."""
    from mechgrok.training import sweep
    from mechgrok.training.trainer import train as train_here

    if not small:
        return sweep.run_plan(plan, directory, workers) if plan.listed else {}
    for job in plan.jobs(directory):
        train_here(job.config, run=job.directory, progress=False)
    return {}


def _row(run: "Run", step: int) -> dict[str, Any]:
    return next(row for row in run.evaluations() if row["step"] == step)


def _runs_of(folder: Path, config: RunConfig) -> list[Path]:
    """Finished runs in a folder that differ from a config only in when they look and stop."""
    from mechgrok.options import differences
    from mechgrok.runs.run import Run

    found = []
    for path in sorted(p.parent for p in folder.glob("*/config.yaml")):
        run = Run(path)
        changed = {name.split(".")[0] for name in differences(config, run.config)}
        if not changed & {*DECIDING, "transfer", "perturbation"}:
            if run.status["state"] == "finished":
                found.append(path)
    return found
