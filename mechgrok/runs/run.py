"""A run directory, read as plain data; a run is also a sequence of its checkpoints.

No model is imported here: checkpoints and measures are reached through `discovery.load`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mechgrok import discovery
from mechgrok.config import ConfigError, RunConfig
from mechgrok.maths.statistics import Crossing, first_sustained
from mechgrok.options import from_dict, to_dict
from mechgrok.runs import analysis, layout
from mechgrok.runs.fingerprints import Fingerprints, read_fingerprints
from mechgrok.runs.result import Result
from mechgrok.runs.series import Series, measure_of
from mechgrok.runs.storage import RunError, read_json, read_lines, write_text

if TYPE_CHECKING:
    import pandas as pd

    from mechgrok.runs.checkpoint import Checkpoint

MEMORISED = ("train_acc", 0.99)
GENERALISED = ("test_acc", 0.99)
"""Metric and threshold of the two times; three consecutive evaluations must hold it."""


class Run(Sequence[Any]):
    """A run directory: `run[-1]`, `run.checkpoint(step=...)`, `run.at("generalised")`."""

    def __init__(self, path: str | Path, work: str | Path | None = None) -> None:
        """Open an existing run directory.

        Results of measures, figures and pages are written to `work`, by default the directory
        itself; give another folder for a run that is not to be written to.

        Raises RunError when it is not one, or was written by a newer version.
        """
        self.path = Path(path)
        self.work = self.path if work is None else Path(work)
        if not (self.path / "config.yaml").exists():
            raise RunError(f"{self.path} is not a run directory: it has no config.yaml")
        written = self.provenance.get("format")
        if not isinstance(written, int) or written > layout.FORMAT:
            raise RunError(
                f"{self.path} has run format {written}; this version reads up to {layout.FORMAT}: "
                f"install a newer mechgrok"
            )

    @property
    def name(self) -> str:
        """Name of the directory."""
        return self.path.resolve().name

    @cached_property
    def config(self) -> RunConfig:
        """The resolved settings."""
        return read_config(self.path / "config.yaml")

    @cached_property
    def task(self) -> Any:
        """The task, made anew from config and seeds."""
        return discovery.load("tasks", self.config.task.name).make(
            self.config.task, self.config.seeds
        )

    @property
    def seed(self) -> int:
        """The base seed."""
        return self.config.seeds.base

    @property
    def steps(self) -> list[int]:
        """Steps that have a checkpoint."""
        return layout.steps(self.path, "checkpoints")

    @property
    def fingerprints(self) -> Fingerprints:
        """What was recorded of single rows. Raises RunError with what to do when nothing was."""
        return read_fingerprints(self.path)

    @property
    def provenance(self) -> dict[str, Any]:
        """Layout version, package versions, commit, machine, threads, device."""
        return read_json(self.path / "provenance.json")

    @property
    def status(self) -> dict[str, Any]:
        """state (running, finished, interrupted, diverged), step and reason."""
        return read_json(self.path / "status.json")

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator["Checkpoint"]:
        return (self.checkpoint(step) for step in self.steps)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self.checkpoint(step) for step in self.steps[index]]
        if not self.steps:
            raise RunError(f"{self.path} has no checkpoint yet")
        return self.checkpoint(self.steps[index])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self.path.resolve() == other.path.resolve()

    def __hash__(self) -> int:
        return hash(self.path.resolve())

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {len(self)} checkpoints)"

    def checkpoint(self, step: int, weights: str | None = None) -> "Checkpoint":
        """The checkpoint at exactly `step`; `weights` is raw or ema (default: ema where kept).

        Raises RunError naming the nearest steps when there is none.
        """
        if step not in self.steps:
            near = sorted(self.steps, key=lambda s: abs(s - step))[:3]
            raise RunError(f"{self.name} has no checkpoint at step {step}; nearest: {sorted(near)}")
        return discovery.load("runs", "checkpoint").of_run(self, step, weights)

    def at(self, moment: str) -> "Checkpoint":
        """The first checkpoint at or after a moment: initial, memorised, generalised or final.

        Raises RunError when the run did not get there.
        """
        if moment in ("initial", "final"):
            return self[0 if moment == "initial" else -1]
        rules = {"memorised": MEMORISED, "generalised": GENERALISED}
        if moment not in rules:
            raise RunError(f"unknown moment {moment!r}; expected initial, final or {list(rules)}")
        crossing = self.crossing(*rules[moment])
        reached = [s for s in self.steps if crossing is not None and s >= crossing.by]
        if not reached:
            raise RunError(f"{self.name} has not {moment} by step {self.steps[-1]}")
        return self.checkpoint(reached[0])

    def crossing(self, metric: str, threshold: float) -> Crossing | None:
        """First of three consecutive evaluations with a metric at or above a threshold."""
        rows = self.evaluations()
        if rows and metric not in rows[0]:
            raise RunError(f"{self.path} has no {metric} over training; it has {sorted(rows[0])}")
        return first_sustained([r["step"] for r in rows], [r[metric] for r in rows], threshold)

    def evaluations(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl."""
        return [json.loads(line) for line in read_lines(self.path / "metrics.jsonl")]

    def metrics(self) -> "pd.DataFrame":
        """The lines of metrics.jsonl: step, losses, accuracies (fractions), lr, seconds."""
        import pandas as pd

        return pd.DataFrame(self.evaluations())

    def measure(self, name: str, step: int | None = None, **options: Any) -> Result:
        """A measure of one checkpoint (default: the last) or of the run, cached."""
        return self.measure_steps([name], None if step is None else [step], **options)[name][-1]

    def measure_steps(
        self, names: Sequence[str], steps: Sequence[int] | None = None, **options: Any
    ) -> dict[str, list[Result]]:
        """Measures of several checkpoints (default: the last), each opened once for all."""
        chosen = self.steps[-1:] if steps is None else steps
        return analysis.measure(self, list(names), chosen, options)

    def result(self, name: str, step: int | None = None, **options: Any) -> Result:
        """A saved result, never computed; the last step's by default.

        Without options it is of the measure's own, or of the only others it was measured with.
        Raises RunError with what makes it when it is missing.
        """
        found = self.results(name, **options)
        if step is None:
            return found[-1]
        for result in reversed(found):  # the newest first
            if result.step == step:
                return result
        raise RunError(self._not_saved(name, step, options))

    def results(self, name: str, **options: Any) -> list[Result]:
        """All saved results of a measure with these options, by step; chosen and raised as
        `result` does."""
        found = [one.result for one in analysis.saved(self, name, options)]
        if not found:
            raise RunError(self._not_saved(name, None, options))
        return sorted(found, key=lambda r: -1 if r.step is None else r.step)

    def _not_saved(self, name: str, step: int | None, options: Mapping[str, Any]) -> str:
        given = "" if step is None else f", step={step}"
        given += "".join(f", {k}={v!r}" for k, v in options.items())
        command = f"mechgrok measure {self.path}" + ("" if step is None else f" --step {step}")
        cure = f"call run.measure({name!r}{given})" if options else f"run: {command}"
        told = [one.options for one in analysis.read(self.work, name)]
        others = sorted({" ".join(f"{k}={v}" for k, v in one.items()) for one in told} - {""})
        kept = f"; saved: {', '.join(others)}" if others else ""
        at = "" if step is None else f" at step {step}"
        with_them = " with these options" if options else ""
        return f"{self.path} has no saved {name!r}{at}{with_them}; {cure}{kept}"

    def series(self, names: str | Sequence[str], **options: Any) -> Series:
        """Metrics and measures over all steps; a measure's headline, or `measure.value`."""
        wanted = [names] if isinstance(names, str) else list(names)
        rows = self.evaluations()
        metrics = [name for name in wanted if rows and name in rows[0]]
        others = sorted({measure_of(name) for name in wanted if name not in metrics})
        measured = self.measure_steps(others, self.steps, **options) if others else {}
        return Series.collect(self.name, self.seed, wanted, rows, measured)


def read_config(path: Path) -> RunConfig:
    """A config.yaml. Raises RunError when it is not one."""
    try:
        return from_dict(RunConfig, yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError, ConfigError) as error:
        raise RunError(f"cannot read {path}: {error}") from error


def write_config(path: Path, config: RunConfig) -> None:
    """Write a config.yaml."""
    write_text(path, yaml.safe_dump(to_dict(config), sort_keys=False))
