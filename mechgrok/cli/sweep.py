"""`mechgrok sweep`."""

from pathlib import Path
from typing import Any, Literal


def command(
    file: Path | None = None,
    /,
    preset: str = "quick",
    grid: tuple[str, ...] = (),
    seeds: str = "0:1",
    set: tuple[str, ...] = (),
    runs: Path | None = None,
    workers: int = 2,
    threads: int = 1,
    cluster: Literal["slurm", "local", "debug"] | None = None,
    slurm: tuple[str, ...] = (),
    dry_run: bool = False,
) -> None:
    """Train a grid of settings with several seeds, and put all runs on one page.

    Args:
        file: A YAML file with preset, grid, seeds, set and threads, instead of the flags.
        preset: What is varied.
        grid: `optim.weight_decay=0.3,1,3`, one per field.
        seeds: `0:8` or `0,3,7`.
        set: `a.b=c`, for all runs.
        runs: Directory of the runs; by default results/sweeps/<file or preset>.
        workers: Runs at a time.
        threads: Threads of each run.
        cluster: Submit jobs, instead of local processes; local and debug are submitit's own.
        slurm: Parameters of submitit, such as slurm_partition=gpu or timeout_min=60.
        dry_run: Only print the command of every run.
    """
    from mechgrok.config import ConfigError
    from mechgrok.runs.storage import RunError
    from mechgrok.sweep_page import write_sweep_page
    from mechgrok.training import sweep
    from mechgrok.training.plan import plan, read_grid, read_plan, read_seeds

    if file is not None and (grid or set):
        raise ConfigError("a sweep file and --grid or --set exclude each other; edit the file")
    asked = (
        read_plan(file)
        if file is not None
        else plan(preset, read_seeds(seeds), read_grid(grid), _pairs(set), threads)
    )
    named = asked.base.preset if file is None else file.stem
    directory = runs or Path("results") / "sweeps" / named
    jobs = asked.jobs(directory)
    if dry_run:
        print("\n".join(job.command() for job in jobs))
        return
    failed = sweep.run_plan(asked, directory, workers, cluster, _pairs(slurm))
    opened = sweep.opened(jobs, directory)
    print(opened.table().to_string(index=False))
    print(write_sweep_page(opened, directory / "sweep.html", failed, list(asked.grid)))
    if failed:
        raise RunError(f"{len(failed)} of {len(jobs)} runs failed: {', '.join(failed)}")


def _pairs(given: tuple[str, ...]) -> dict[str, Any]:
    import yaml

    from mechgrok.config import ConfigError

    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"got {text!r}; expected a.b=value")
        found[name] = yaml.safe_load(value)
    return found
