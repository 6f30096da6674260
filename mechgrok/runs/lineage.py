"""What a checkpoint comes from: its run, the runs before that one, and the first initialisation."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from mechgrok import discovery
from mechgrok.config import RunConfig
from mechgrok.runs.run import Run


def lineage(config: RunConfig, path: Path | None) -> tuple[str, ...]:
    """`run PATH`, then those of `init_from` or of a transfer's donor, then the initialisation.

    A donor counts for all of its child: what is fresh there is trained to fit the donor's basis. A
    parent that is no longer there ends the list with its path.
    """
    own = () if path is None else (f"run {path.resolve()}",)
    parent = config.init_from or config.transfer.donor
    if parent is None:
        return (*own, _initialisation(config))
    found = Path(parent)
    directory = found if found.is_dir() else found.parent.parent
    if not (directory / "config.yaml").exists():
        return (*own, f"file {found.resolve()}")
    return (*own, *lineage(Run(directory).config, directory))


def _initialisation(config: RunConfig) -> str:
    """Digest of everything that decides a fresh model's weights."""
    task = discovery.load("tasks", config.task.name).make(config.task, config.seeds)
    sizes = (task.d_vocab, task.n_ctx, task.d_vocab_out)
    said = json.dumps([asdict(config.model), sizes, config.seeds.init], sort_keys=True)
    digest = hashlib.sha256(said.encode()).hexdigest()[:12]
    return f"initialisation {digest}, seed {config.seeds.init}"
