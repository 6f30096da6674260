"""`mechgrok data`."""

import json
from pathlib import Path
from typing import Any


def command(
    name: str,
    /,
    out: Path,
    seed: int | None = None,
    set: tuple[str, ...] = (),
    parquet: bool = False,
) -> None:
    """Write the rows of a preset's or task's data.

    One text file of equations per split, vocabulary.json, settings.json, the JSON files of a task
    that is published as such (composition; `task.folder` reads them), and SHA256SUMS of them all
    (`sha256sum --check SHA256SUMS`).

    Args:
        name: A preset, or a task with its default settings.
        out: A new or empty folder.
        seed: Sets every seed the preset leaves free.
        set: `a.b=c`, settings to change, such as `task.regime=both_full`.
        parquet: Also a parquet file per split with tokens, labels and tags.
    """
    from mechgrok import discovery
    from mechgrok.cli._settings import with_changes
    from mechgrok.runs.checksums import new_folder, write_sums
    from mechgrok.runs.storage import write_text

    config = with_changes(_config(name, seed), set)
    task = discovery.load("tasks", config.task.name).make(config.task, config.seeds)
    new_folder(out)
    for file, text in _files(config, task).items():
        write_text(out / file, text)
    if parquet:
        for split, rows in task.to_dataset().items():
            rows.to_parquet(out / f"{split}.parquet")
    write_sums(out, [path.name for path in out.iterdir()])
    for file in sorted(out.iterdir()):
        print(file)


def _files(config: Any, task: Any) -> dict[str, str]:
    """Text of every file by its name."""
    from mechgrok.options import to_dict

    settings: dict[str, Any] = {"task": to_dict(config.task), "seeds": to_dict(config.seeds)}
    settings |= {"rows": {k: len(v) for k, v in task.splits.items()}, "sha256": task.sha256}
    rows = {f"{split}.txt": "".join(f"{r}\n" for r in task.text(split)) for split in task.splits}
    return {
        **rows,
        "vocabulary.json": json.dumps(list(task.vocabulary), indent=0) + "\n",
        "settings.json": json.dumps(settings, indent=1) + "\n",
        **task.files(),
    }


def _config(name: str, seed: int | None) -> Any:
    """A preset's settings, or the default ones with a task of that name."""
    from difflib import get_close_matches

    from mechgrok import discovery
    from mechgrok.config import ConfigError, RunConfig
    from mechgrok.options import override
    from mechgrok.presets import NAMES, preset, with_seed

    if name in NAMES:
        return preset(name, seed)
    tasks = discovery.names("tasks")
    if name not in tasks:
        known = [*NAMES, *tasks]
        near = get_close_matches(name, known, n=3) or known
        raise ConfigError(f"unknown preset or task {name!r}; did you mean one of {near}?")
    config = override(RunConfig(), {"task.name": name})
    return config if seed is None else with_seed(config, seed)
