"""Runs of a sweep as cluster jobs, through submitit (Slurm; its local and debug executors)."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from mechgrok.config import ConfigError
from mechgrok.runs.storage import RunError
from mechgrok.training import worker
from mechgrok.training.plan import Endings, Job
from mechgrok.training.processes import config_file, last_line

POLL: Final = {"slurm": 15.0, "local": 0.2, "debug": 0.0}
"""Seconds between two looks at the jobs; the clusters that can be asked for."""
MINUTES: Final = 24 * 60
"""Time limit of a job when none is given; a job that runs into it is put back and resumes."""


class Work:
    """What a job does; submitit calls `checkpoint` before a job is taken away, and puts it back."""

    def __call__(self, config: str, directory: str) -> None:
        """Train one run. Raises RunError with the reason when it fails."""
        code, reason = worker.work(config, directory)
        if code != worker.FINISHED:
            raise RunError(reason)

    def checkpoint(self, config: str, directory: str) -> Any:
        """The same again; the run directory knows how far it got."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, config, directory)


def run_cluster(
    jobs: Sequence[Job],
    logs: Path,
    workers: int,
    cluster: str,
    parameters: Mapping[str, Any] | None = None,
) -> Endings:
    """Submit every job, then yield each as it ends, with the reason when it failed.

    `parameters` are submitit's (`slurm_partition`, `timeout_min`, ...). Jobs go on when this
    process ends. Raises ConfigError for an unknown cluster, or without the extra `cluster`;
    RunError when the cluster does not take the jobs.
    """
    if cluster not in POLL:
        raise ConfigError(f"cluster = {cluster!r}; expected one of {list(POLL)}")
    submitted = _submit(jobs, logs, workers, cluster, parameters or {})
    left = list(zip(jobs, submitted, strict=True))
    while left:
        for pair in list(left):
            if _done(pair[1]):
                left.remove(pair)
                yield pair[0], _reason(pair[1])
        time.sleep(POLL[cluster] if left else 0)


def _submit(
    jobs: Sequence[Job], logs: Path, workers: int, cluster: str, parameters: Mapping[str, Any]
) -> list[Any]:
    try:
        import submitit
    except ImportError as error:
        raise ConfigError("a cluster needs submitit: pip install 'mechgrok[cluster]'") from error
    logging.getLogger("submitit").setLevel(logging.ERROR)
    try:
        executor = submitit.AutoExecutor(folder=logs / "submitit", cluster=cluster)
        asked: dict[str, Any] = {"timeout_min": MINUTES, "cpus_per_task": _threads(jobs)}
        if cluster == "slurm":
            asked["slurm_array_parallelism"] = workers
        executor.update_parameters(**(asked | dict(parameters)))
        configs = [config_file(job, logs) for job in jobs]
        return executor.map_array(Work(), configs, [str(job.directory) for job in jobs])
    except Exception as error:  # submitit raises what its commands raise
        raise RunError(
            f"{cluster} did not take the jobs ({type(error).__name__}: {error}). Finished runs are "
            f"as they were; start the same command where sbatch and srun answer, or without "
            f"--cluster to train here"
        ) from error


def _threads(jobs: Sequence[Job]) -> int:
    return max((job.config.threads or 1 for job in jobs), default=1)


def _done(submitted: Any) -> bool:
    try:
        return submitted.done()
    except RunError:  # the debug executor trains here and now
        return True


def _reason(submitted: Any) -> str | None:
    """Why a job failed, in the run's own words where it has some."""
    error = submitted.exception()
    if error is None:
        return None
    log = Path(submitted.paths.stderr)
    state = f"job {submitted.job_id} ended as {submitted.state}"
    if isinstance(error, RunError):
        return f"{state}: {error}"
    return f"{state}: {last_line(log) if log.exists() else f'{log} is missing'}"
