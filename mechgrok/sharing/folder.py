"""A run as a folder for others: safetensors, settings, a model card, the task's data, checksums.

The folder is a run directory as well (`mechgrok.load_run` opens it), without what only going on
needs. Nothing in it names a folder of this machine.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from mechgrok import discovery
from mechgrok.config import RunConfig
from mechgrok.options import dotted, override
from mechgrok.runs import layout
from mechgrok.runs.checkpoint import EMA, build_model, load_weights
from mechgrok.runs.checksums import check_sums, new_folder, write_sums
from mechgrok.runs.run import Run, write_config
from mechgrok.runs.storage import (
    RunError,
    lock,
    read_tensors,
    remove_temporary,
    write_bytes,
    write_json,
    write_tensors,
    write_text,
)
from mechgrok.sharing.card import data_card, model_card
from mechgrok.sharing.origin import refuse_used
from mechgrok.training.provenance import versions

COPIED: Final = ("metrics.jsonl", "fingerprints/snapshots.rows")
"""Files of a run that go over byte for byte, where they are there."""
DATA: Final = "data"
"""Folder of the task's rows; a data set of its own for a hub."""
CARD: Final = "README.md"
"""The card of a folder; yours to edit, so without a digest."""
TASK: Final = "task"
"""Folder of the files that `task.folder` reads, where the run has one."""
PATHS: Final = ("init_from", "transfer.donor")
"""Settings that name another run; of which only the name goes along."""
FOLDERS: Final = re.compile(r"(?<![\w.:/])/(?:[^\s/:;,'\"]+/)+")
"""The folders before the last name of an absolute path, inside any text."""


def export_run(
    run: Run,
    out: str | Path,
    steps: Sequence[int] | None = None,
    *,
    data: bool = True,
    raw: bool = True,
) -> Path:
    """Write a run into a new or empty folder, ready for `import_run` or a hub; returns the folder.

    `steps` chooses checkpoints (default: all); `data` adds the task's rows as parquet; without
    `raw` only averaged weights go along, in half the bytes. Evaluates the last checkpoint for the
    card.

    Raises RunError for a run without a checkpoint or with a damaged one, for a step that is not
    there, without `raw` for a run that keeps no average, and for a folder that holds something.
    """
    folder = Path(out)
    chosen = _chosen(run, steps)
    if not raw:
        run.checkpoint(chosen[-1], "ema")  # refuses a run that keeps none
    config = portable(run.config)
    last = run.checkpoint(chosen[-1])  # damaged, or of another config: said before any work
    new_folder(folder)
    for step in chosen:
        _copy_checkpoint(run, config, step, folder, "" if raw else EMA)
    for name in COPIED:
        if (run.path / name).exists():
            write_bytes(folder / name, (run.path / name).read_bytes())
    shared = {"run": run.name, "exported_by": versions()["mechgrok"]}
    more = {"config_digest": config.digest(), "task_sha256": run.task.sha256, "shared": shared}
    write_json(folder / "provenance.json", without_folders(run.provenance | more))
    write_json(folder / "status.json", without_folders(run.status))
    if vars(run.config.task).get("folder"):
        for name, text in run.task.files().items():
            write_text(folder / TASK / name, text)
    write_config(folder / "config.yaml", config)
    if data:
        _write_data(folder / DATA, run)
    write_text(folder / CARD, model_card(run, config, last, chosen, data))
    write_sums(folder, [name for name in _files(folder) if Path(name).name != CARD])
    return folder


def import_run(source: str | Path, run: str | Path) -> Run:
    """Make a run directory of an exported folder; weights keep their bits. Returns the run.

    Raises RunError for a file that is missing, damaged or edited (by its sha256), for a task that
    this version does not make the same, for weights that do not fit the model, and for a directory
    that holds a run.
    """
    folder, directory = Path(source), Path(run)
    refuse_used(directory)
    listed = check_sums(folder)
    given = Run(folder)
    config = _local(given.config, directory)
    steps = [step for step in given.steps if _name(folder, step) in listed]
    with lock(directory):
        refuse_used(directory)
        remove_temporary(directory)
        _copy([name for name in listed if name.startswith(f"{TASK}/")], folder, directory)
        _check(given, config, steps[-1])
        _copy([name for name in listed if name in COPIED], folder, directory)
        for step in steps:
            _copy_checkpoint(given, config, step, directory)
        more = {"config_digest": config.digest()}
        write_json(directory / "provenance.json", given.provenance | more)
        write_json(directory / "status.json", given.status)
        write_config(directory / "config.yaml", config)  # last: only now is it a run
    return Run(directory)


def portable(config: RunConfig) -> RunConfig:
    """A config without folders of this machine: of another run its name, of a task's `task`."""
    known = dotted(config)
    changes: dict[str, Any] = {n: Path(known[n]).name for n in PATHS if known[n]}
    if known.get("task.folder"):
        changes["task.folder"] = TASK
    return override(config, changes)


def without_folders(value: Any) -> Any:
    """Plain data in which every absolute path is cut to its last name."""
    if isinstance(value, dict):
        return {key: without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_folders(item) for item in value]
    return FOLDERS.sub("", value) if isinstance(value, str) else value


def _chosen(run: Run, steps: Sequence[int] | None) -> list[int]:
    if not run.steps:
        raise RunError(f"{run.path} has no checkpoint to export; train it first")
    if steps is None:
        return run.steps
    absent = sorted(set(steps) - set(run.steps))
    if absent or not steps:
        raise RunError(f"{run.path} has no checkpoint at {absent}; it has {run.steps}")
    return sorted(set(steps))


def _write_data(folder: Path, run: Run) -> None:
    """A parquet file per split, and the names of the tokens."""
    folder.mkdir(parents=True)
    for split, rows in run.task.to_dataset().items():
        rows.to_parquet(folder / f"{split}.parquet")
    write_json(folder / "vocabulary.json", list(run.task.vocabulary))
    write_text(folder / CARD, data_card(run))


def _files(folder: Path) -> list[str]:
    return [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]


def _name(folder: Path, step: int) -> str:
    return layout.checkpoint(folder, step).relative_to(folder).as_posix()


def _local(config: RunConfig, directory: Path) -> RunConfig:
    """The config with the folder its task reads where the run will have it."""
    if not vars(config.task).get("folder"):
        return config
    return override(config, {"task.folder": str(directory / TASK)})


def _copy(names: Sequence[str], source: Path, target: Path) -> None:
    for name in names:
        write_bytes(target / name, (source / name).read_bytes())


def _copy_checkpoint(
    run: Run, config: RunConfig, step: int, target: Path, prefix: str = ""
) -> None:
    """One checkpoint of a run, its tensors of a prefix, under the digest of a config."""
    run.checkpoint(step)  # refuses one of another config
    tensors, header = read_tensors(layout.checkpoint(run.path, step))
    header |= {"config": config.digest()}
    kept = {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    write_tensors(layout.checkpoint(target, step), kept, header)


def _check(given: Run, config: RunConfig, step: int) -> None:
    """Refuse a task that comes out differently here, and weights that do not fit the model."""
    task = discovery.load("tasks", config.task.name).make(config.task, config.seeds)
    if task.sha256 != given.provenance.get("task_sha256"):
        there = given.provenance.get("versions", {}).get("mechgrok")
        raise RunError(
            f"{given.path}: its settings make other rows here than where it was trained (mechgrok "
            f"{there} there, {versions()['mechgrok']} here); install that version"
        )
    load_weights(build_model(config, task), given.checkpoint(step).weights)
