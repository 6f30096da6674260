"""What a sweep trains: a config and directory per point of the grid and seed, checked first."""

import itertools
import re
import shlex
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from mechgrok.config import ConfigError, RunConfig
from mechgrok.options import differences, dotted, unknown
from mechgrok.presets import preset, with_seed
from mechgrok.runs.run import Run
from mechgrok.training.guards import refuse_other
from mechgrok.training.trainer import resolve

FIELDS: Final = ("preset", "seeds", "grid", "set", "threads")
"""What a sweep file may hold."""


@dataclass(frozen=True)
class Job:
    """One run of a sweep."""

    config: RunConfig
    """Its settings, checked."""
    directory: Path
    """Its run directory; named by preset, grid values and seed."""

    @property
    def name(self) -> str:
        """Name of the directory."""
        return self.directory.name

    def ended(self) -> bool:
        """Whether there is nothing left to train: finished or diverged under the same stop rule."""
        if not (self.directory / "status.json").exists():
            return False
        run = Run(self.directory)
        same = run.config.stop == self.config.stop
        return same and run.status.get("state") in ("finished", "diverged")

    def command(self) -> str:
        """The same run by hand."""
        base = preset(self.config.preset, self.config.seeds.base)
        changes = {name: new for name, (_, new) in differences(base, self.config).items()}
        sets = [f"--set {shlex.quote(f'{n}={_flow(v)}')}" for n, v in changes.items()]
        words = ["mechgrok train --preset", base.preset, f"--seed {base.seeds.base}", *sets]
        return " ".join([*words, "--run", shlex.quote(str(self.directory))])


Endings: TypeAlias = Generator[tuple[Job, str | None], None, None]
"""Every job as it ends, with the reason when it failed."""


@dataclass(frozen=True)
class Plan:
    """A base config, varied over a grid and seeds."""

    base: RunConfig
    """What all runs share."""
    seeds: tuple[int, ...]
    """Base seeds; every point of the grid is run with each."""
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Values by dotted field."""

    def jobs(self, directory: Path) -> list[Job]:
        """Every run, seeds first: all points at the first seed, then at the second.

        Raises ConfigError for a field that does not exist (with the nearest names), a value of the
        wrong type, an empty list, or two runs that are the same; RunError for a directory that
        holds another run. Nothing is written.
        """
        self._check()
        found = [
            self._job(seed, values, directory) for seed in self.seeds for values in self._points()
        ]
        names = [job.name for job in found]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"the grid gives the same run twice: {twice}")
        for job in found:
            refuse_other(job.directory, job.config)
        return found

    def _check(self) -> None:
        known = dotted(self.base)
        for name, values in self.grid.items():
            if name not in known and not any(name.startswith(f"{p}.") for p in _renamed(self.grid)):
                raise ConfigError(unknown(name, list(known)))
            if isinstance(values, str) or not isinstance(values, Sequence) or not values:
                raise ConfigError(f"grid {name} = {values!r}; expected a list of values")
        if not self.seeds:
            raise ConfigError("a sweep needs at least one seed, such as --seeds 0:5")

    def _points(self) -> list[dict[str, Any]]:
        lists = (list(values) for values in self.grid.values())
        return [dict(zip(self.grid, point, strict=True)) for point in itertools.product(*lists)]

    def _job(self, seed: int, values: Mapping[str, Any], directory: Path) -> Job:
        config = resolve(with_seed(self.base, seed), overrides=values)
        known = dotted(config)
        parts = [f"{name}={_slug(known[name])}" for name in self.grid]
        return Job(config, directory / "__".join([config.preset, *parts, f"seed{seed}"]))


def read_plan(path: Path) -> Plan:
    """A sweep file: preset, seeds, grid, set, threads.

    Raises ConfigError when it cannot be read or holds anything else.
    """
    try:
        data = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds {data!r}; expected the fields {list(FIELDS)}")
    for name in data:
        if name not in FIELDS:
            raise ConfigError(f"{path}: {unknown(str(name), list(FIELDS))}")
    return plan(
        data.get("preset", "quick"),
        seeds=read_seeds(data.get("seeds", "0:1")),
        grid=data.get("grid"),
        overrides=data.get("set"),
        threads=data.get("threads", 1),
    )


def plan(
    config: RunConfig | str,
    seeds: Sequence[int],
    grid: Mapping[str, Sequence[Any]] | None = None,
    overrides: Mapping[str, Any] | None = None,
    threads: int | None = 1,
) -> Plan:
    """A preset or config over a grid; every run has `threads` threads (None: the config's)."""
    base = resolve(config, overrides=overrides)
    if threads is not None:
        base = resolve(base, overrides={"threads": threads})
    return Plan(base, tuple(int(seed) for seed in seeds), dict(grid or {}))


def read_seeds(given: Any) -> list[int]:
    """`0:5`, `0,3,7`, a number, or a list of numbers. Raises ConfigError for anything else."""
    try:
        if isinstance(given, str):
            first, colon, end = given.partition(":")
            if colon:
                return list(range(int(first), int(end)))
            return [int(part) for part in given.split(",")]
        return [int(seed) for seed in (given if isinstance(given, list) else [given])]
    except (TypeError, ValueError):
        raise ConfigError(f"seeds = {given!r}; expected 0:5, 0,3,7 or a list of numbers") from None


def read_grid(given: Sequence[str]) -> dict[str, list[Any]]:
    """`optim.weight_decay=0.3,1,3`, once per field. Raises ConfigError without a value or twice."""
    found: dict[str, list[Any]] = {}
    for text in given:
        name, equals, values = text.partition("=")
        if not equals or not values.strip():
            raise ConfigError(f"--grid {text!r}; expected a.b=value,value")
        if name in found:
            raise ConfigError(f"--grid {name} is given twice; list its values in one")
        try:
            found[name] = yaml.safe_load(f"[{values}]")
        except yaml.YAMLError as error:
            raise ConfigError(f"--grid {text!r} cannot be read: {error}") from None
    return found


def _renamed(grid: Mapping[str, Any]) -> list[str]:
    """Parts whose class the grid itself chooses, such as `task` by `task.name`."""
    return [name.removesuffix(".name") for name in grid if name.endswith(".name")]


def _flow(value: Any) -> str:
    """A value as one line of YAML."""
    return (
        yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()
    )


def _slug(value: Any) -> str:
    """A value as part of a file name."""
    return re.sub(r"[^\w.+-]+", "-", _flow(value)).strip("-")
