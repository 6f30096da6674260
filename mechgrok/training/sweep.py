"""Many runs: a grid and seeds, on local processes or a cluster, resumed where they stand.

A sweep's directory holds the run directories, `logs/` (each run's config and what its process said,
and submitit's files), `failures.json` (why runs failed, by name) and `sweep.html`.
"""

import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from mechgrok.config import ConfigError, RunConfig
from mechgrok.runs.run import Run, write_config
from mechgrok.runs.runs import Runs
from mechgrok.runs.storage import RunError, lock, read_json, write_json
from mechgrok.training.cluster import run_cluster
from mechgrok.training.plan import Job, Plan, plan
from mechgrok.training.processes import run_local

WORKERS: Final = 2
"""Runs at a time; each has one thread."""


def sweep(
    config: RunConfig | str,
    *,
    seeds: Sequence[int] = (0,),
    grid: Mapping[str, Sequence[Any]] | None = None,
    overrides: Mapping[str, Any] | None = None,
    runs: str | Path | None = None,
    threads: int | None = 1,
    workers: int = WORKERS,
    cluster: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Runs:
    """Train a preset or config at every point of a grid with every seed; returns the runs.

    `grid` gives values by dotted field; `runs` is the directory (default
    `results/sweeps/<preset>`), in which the same call goes on after any end: what has finished is
    not trained again. A run that fails is named with its reason, does not stop the others, and is
    in `failures(runs)`. `cluster="slurm"` submits with submitit's `parameters`; otherwise `workers`
    processes work here.

    Raises ConfigError or RunError before anything starts for settings that do not exist and
    directories of other runs; RunError when no run got anywhere, or another process sweeps there.
    """
    asked = plan(config, seeds, grid, overrides, threads)
    directory = Path(runs) if runs is not None else default_directory(asked)
    run_plan(asked, directory, workers, cluster, parameters, progress)
    return opened(asked.jobs(directory), directory)


def default_directory(asked: Plan) -> Path:
    """`results/sweeps/<preset>`."""
    return Path("results") / "sweeps" / asked.base.preset


def run_plan(
    asked: Plan,
    directory: Path,
    workers: int = WORKERS,
    cluster: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> dict[str, str]:
    """Train what has not ended; returns why runs failed, by name. Errors as `sweep`.

    Ctrl-C saves what is being trained (runs on a cluster go on) and is raised again.
    """
    if workers < 1:
        raise ConfigError(f"workers = {workers}; expected at least 1")
    jobs = asked.jobs(directory)
    with lock(directory):
        left = [job for job in jobs if not job.ended()]
        logs = directory / "logs"
        logs.mkdir(exist_ok=True)
        for job in left:
            write_config(logs / f"{job.name}.yaml", job.config)
        failed = {n: r for n, r in failures(directory).items() if n not in {j.name for j in left}}
        write_json(directory / "failures.json", failed)
        ending = (
            run_local(left, logs, workers)
            if cluster is None
            else run_cluster(left, logs, workers, cluster, parameters)
        )
        with closing(ending), _display(len(jobs), len(jobs) - len(left), progress) as bar:
            for job, reason in ending:
                if reason is not None:
                    failed[job.name] = reason
                    write_json(directory / "failures.json", failed)
                _say(bar, job, reason, progress)
    return {job.name: failed[job.name] for job in jobs if job.name in failed}


def failures(directory: Path) -> dict[str, str]:
    """Why runs of a sweep failed, by the run's name; empty for none."""
    path = Path(directory) / "failures.json"
    return read_json(path) if path.exists() else {}


def opened(jobs: Sequence[Job], directory: Path) -> Runs:
    """The runs that have evaluations, in order. Raises RunError with the reasons when none has."""
    found = [job.directory for job in jobs if _evaluated(job.directory)]
    if not found:
        reasons = "; ".join(f"{k}: {v}" for k, v in list(failures(directory).items())[:3])
        raise RunError(f"none of the {len(jobs)} runs in {directory} got anywhere. {reasons}")
    return Runs(Run(path) for path in found)


def _evaluated(directory: Path) -> bool:
    return (directory / "config.yaml").exists() and bool(Run(directory).evaluations())


def _display(total: int, done: int, progress: bool) -> Any:
    terminal = progress and sys.stderr.isatty()
    return tqdm(total=total, initial=done, unit="run", disable=not terminal, smoothing=0)


def _say(bar: Any, job: Job, reason: str | None, progress: bool) -> None:
    bar.update()
    if reason is not None:
        bar.write(f"failed: {job.name}: {reason}", file=sys.stderr)
    elif progress and bar.disable:
        print(f"{job.name}: {Run(job.directory).status.get('reason')}", flush=True)
