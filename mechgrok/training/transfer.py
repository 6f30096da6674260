"""Train chosen parts on a new task, from a donor's others."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from mechgrok import discovery
from mechgrok.config import (
    BinaryTask,
    ConfigError,
    GroupTask,
    RunConfig,
    Seeds,
    TaskConfig,
    Transfer,
)
from mechgrok.options import override
from mechgrok.runs.checkpoint import Checkpoint
from mechgrok.runs.run import Run
from mechgrok.training.trainer import train as train_config

WORDS: Final = re.compile(
    r"(?:(?P<op>\w+) mod (?P<n>\d+)|(?P<group>[CDAS]_\d+))(?P<re>, relabelled)?"
)
"""`add mod 58, relabelled`, `D_29`."""
TRAINED: Final = {
    "embedding": (("body",), ("embedding",)),
    "body": (("embedding",), ("body",)),
    "all": (("embedding", "body"), ("embedding", "body")),
}
"""What is taken from the donor by default, and what is trained, by the word for it."""
INIT, DATA, RELABEL = 1_000, 2_000, 3_000
"""Offsets of a child's seeds, so that no fresh part, split or naming is its donor's own."""


def transfer(
    donor: Checkpoint,
    *,
    task: TaskConfig | str,
    train: str = "embedding",
    take: Sequence[str] | None = None,
    change: str = "none",
    seed: int = 0,
    run: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Run:
    """Train a new run whose other parts are a donor's; returns the run, resuming what is there.

        child = mg.transfer(late, task="add mod 58, relabelled", train="embedding", seed=0)

    `train` is embedding (W_E, W_U, b_U; the donor's body frozen), body (the donor's embedding
    frozen) or all (both taken, nothing frozen). `take` names what is taken instead; what is not
    taken is freshly initialised, from seeds that are not the donor's. `change` makes a null donor
    of the weights. Settings of model, loss and optimiser are the donor's; others are `overrides`.
    `run` defaults to `results/<preset>__<task>__<train>__seed<N>`.

    Raises ConfigError for a task that cannot be read and parts that do not fit, RunError for a
    donor without a run directory and as `mg.train`.
    """
    config = config_of(
        donor, task=task, train=train, take=take, change=change, seed=seed, overrides=overrides
    )
    directory = Path("results") / "__".join(
        [config.preset, _slug(config.task), train, f"seed{seed}"]
    )
    return train_config(config, run=directory if run is None else run, progress=progress)


def config_of(
    donor: Checkpoint,
    *,
    task: TaskConfig | str,
    train: str = "embedding",
    take: Sequence[str] | None = None,
    change: str = "none",
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
) -> RunConfig:
    """The settings of such a run; errors as `transfer`."""
    if train not in TRAINED:
        raise ConfigError(f"train = {train!r}; expected one of {list(TRAINED)}")
    if donor.run is None:
        raise ConfigError(
            "the donor belongs to no run directory; open it with mg.load_run(...)[-1]"
        )
    taken, trained = TRAINED[train]
    asked = Transfer(
        donor=str(donor.run.path),
        step=donor.step,
        parts=taken if take is None else tuple(take),
        change=change,  # pyright: ignore[reportArgumentType] (checked by `override`)
        seed=INIT + seed,
        train=trained,
    )
    base = replace(
        donor.config,
        preset=f"{donor.config.preset}_transfer",
        task=read_task(task, donor.config.task),
        seeds=child_seeds(seed),
        init_from=None,
        transfer=asked,
    )
    config = override(base, overrides or {})
    discovery.load("tasks", config.task.name).make(config.task, config.seeds)  # says what is wrong
    return config


def child_seeds(seed: int) -> Seeds:
    """Seeds of a child: none of initialisation, split and names is that of a donor of `seed`."""
    own = Seeds().with_base(seed)
    return replace(
        own, init=INIT + seed, data=DATA + seed, labels=DATA + seed, relabel=RELABEL + seed
    )


def read_task(given: TaskConfig | str, like: TaskConfig) -> TaskConfig:
    """A task's settings, or words: `add mod 58`, `D_29`, each with `, relabelled` or without.

    Words leave fraction, split and outputs as in the donor's task. Raises ConfigError for other
    words.
    """
    if not isinstance(given, str):
        return given
    found = WORDS.fullmatch(given.strip())
    if found is None:
        raise ConfigError(
            f"cannot read the task {given!r}; expected words like 'add mod 58, relabelled' or "
            f"'D_29', or settings such as BinaryTask(...)"
        )
    kept = {
        name: getattr(like, name)
        for name in ("frac_train", "split", "outputs")
        if hasattr(like, name)
    }
    kept["relabel"] = found["re"] is not None
    if found["group"]:
        return GroupTask(group=found["group"], **kept)
    return BinaryTask(operation=found["op"], n=int(found["n"]), **kept)


def _slug(task: TaskConfig) -> str:
    words = [
        getattr(task, "operation", None),
        getattr(task, "n", None),
        getattr(task, "group", None),
    ]
    return "-".join(str(word) for word in words if word is not None) or task.name
