"""The command line: `mechgrok train | import | measure | plot | report | hooks | doctor`.

Commands are functions of this file; heavy packages are imported inside them, so that `--help` is
instant. Experiments use `read_train` and `explain_errors`.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mechgrok.config import ConfigError, RunConfig


@dataclass(frozen=True)
class Train:
    """What to train, and where."""

    config: RunConfig
    """Every setting."""
    run: Path | None
    """Run directory; None for results/<preset>__seed<N>."""
    resume: bool
    """Go on with a directory that is there."""


def read_train(arguments: Sequence[str], default: str, prog: str) -> Train:
    """Parse `--preset --seed --run --config --set a.b=c` and every dotted setting.

    The preset or config file is resolved first; the parser of dotted flags is then built from it.
    Raises ConfigError for settings that do not exist; exits on `--help`.
    """
    import argparse

    import tyro

    first = argparse.ArgumentParser(prog=prog, add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default=None)
    first.add_argument("--config", type=Path, default=None)
    first.add_argument("--seed", type=int, default=None)
    first.add_argument("--run", type=Path, default=None)
    first.add_argument("--set", action="append", default=[], dest="changes")
    first.add_argument("--no-resume", action="store_true")
    given, rest = first.parse_known_args(list(arguments))
    config = _base(given.preset, given.config, given.seed, default)
    config = _with_changes(config, given.changes)
    _refuse_unknown_flags(config, rest)
    fixed = tyro.conf.AvoidSubcommands[RunConfig]  # the class of each part is the preset's
    config = tyro.cli(fixed, default=config, args=rest, prog=prog, description=_HELP)
    return Train(config, given.run, not given.no_resume)


_HELP = """Train a run, resuming it when its directory is there.

--preset NAME (one of `mechgrok presets`), --config FILE (a run's config.yaml), --seed N,
--run DIR, --set a.b=c (as often as needed), --no-resume; and every setting below."""


def _base(name: str | None, file: Path | None, seed: int | None, default: str) -> RunConfig:
    from mechgrok.presets import preset, with_seed

    if name is not None and file is not None:
        raise ConfigError("--preset and --config exclude each other; give one")
    if file is None:
        return preset(name or default, seed)
    from mechgrok.runs.run import read_config

    config = read_config(file)
    return config if seed is None else with_seed(config, seed)


def _with_changes(config: RunConfig, changes: Sequence[str]) -> RunConfig:
    import yaml

    from mechgrok.options import override

    pairs = [change.partition("=") for change in changes]
    for name, equals, _ in pairs:
        if not equals:
            raise ConfigError(f"--set {name!r}; expected a.b=value")
    return override(config, {name: yaml.safe_load(value) for name, _, value in pairs})


def _refuse_unknown_flags(config: RunConfig, rest: Sequence[str]) -> None:
    """An unknown dotted flag is named with the nearest ones, as `--set` names it."""
    from mechgrok.options import dotted, unknown

    known = {name.replace("_", "-") for name in dotted(config)}
    groups = {name.rpartition(".")[0] for name in known}
    for flag in rest:
        name = flag[2:].partition("=")[0].replace("_", "-")
        if flag.startswith("--") and name not in known | groups | {"help"}:
            if name.replace("no-", "", 1) not in known and ".no-" not in name:
                raise ConfigError(unknown(name.replace("-", "_"), list(dotted(config))))


def train(*arguments: str) -> None:
    """Train a preset or config."""
    from mechgrok.report import summary_table
    from mechgrok.training.trainer import train

    asked = read_train(arguments, "nanda2023_mainline", "mechgrok train")
    run = train(asked.config, run=asked.run, resume=asked.resume)
    print(summary_table(run))


def measure(
    run: Path, /, names: tuple[str, ...] = (), step: int | None = None, all: bool = False
) -> None:
    """Measure a run and print the table.

    Args:
        run: A run directory.
        names: Measures; none for the report's.
        step: Only this checkpoint; by default every one.
        all: Every measure there is; those that the report does not follow, at the last step.
    """
    import pandas as pd

    from mechgrok import report
    from mechgrok.runs.run import Run

    opened = Run(run)
    if names or all:
        steps = opened.steps if step is None else [step]
        results = report.measured(opened, names, steps)
    else:
        results = report.analyse(opened, None if step is None else [step])
    shown = {"max_rows": None, "width": 160, "float_format": "{:.7g}".format}  # losses reach 1e-9
    with pd.option_context(*(x for k, v in shown.items() for x in (f"display.{k}", v))):
        print(pd.concat([result.table() for result in results]).to_string(index=False, na_rep="-"))


def import_(
    file: Path,
    /,
    run: Path,
    format: Literal["nanda", "transformer_lens"] = "nanda",
    config: Path | None = None,
    seed: int | None = None,
    frac_train: float | None = None,
) -> None:
    """Make a run directory of somebody else's checkpoint.

    Args:
        file: The published file.
        run: The new run directory.
        format: Whose layout it has.
        config: YAML of what a transformer_lens file cannot tell (act_fn, attn_scale, ...).
        seed: Of its split, where stored losses cannot tell it; with frac_train.
        frac_train: Share of the rows it was trained on.
    """
    from mechgrok._origin import describe
    from mechgrok.sharing import import_model, read_settings

    settings = None if config is None else read_settings(config)
    made = import_model(file, run, format, config=settings, seed=seed, frac_train=frac_train)
    print(describe(made))


def plot(run: Path, /, names: tuple[str, ...] = (), out: Path | None = None) -> None:
    """Save figures of a run's saved results into its figures/.

    Args:
        run: A run directory.
        names: Figures; none for all of the report's.
        out: A folder for pictures only, each with its source (command and run digests) beside it.
    """
    from mechgrok import report
    from mechgrok.figures import save_figure, save_picture
    from mechgrok.plotting import plot
    from mechgrok.runs.run import Run

    opened = Run(run)
    for name in names or report.FIGURES:
        if out is not None:
            command = f"mechgrok plot {run} --names {name} --out {out}"
            print(save_picture(plot(opened, name), out / name, opened, command))
            continue
        for path in save_figure(plot(opened, name), opened.path / "figures" / name):
            print(path)


def report(run: Path, /) -> None:
    """Analyse a run and write its report.html."""
    from mechgrok.report import summary_table, write_report
    from mechgrok.runs.run import Run

    opened = Run(run)
    write_report(opened)
    print(summary_table(opened))


def hooks(run: str = "nanda2023_mainline", /) -> None:
    """List every hook point of a model with its shape and meaning.

    Args:
        run: A run directory, or a preset's name.
    """
    from mechgrok.models.hooked import hook_table

    for name, shape, meaning in hook_table(*_model_and_rows(run)):
        print(f"{name:<34} {shape:<34} {meaning}")


def _model_and_rows(name: str) -> tuple[Any, Any]:
    from mechgrok import discovery
    from mechgrok.presets import NAMES, preset
    from mechgrok.runs.checkpoint import build_model
    from mechgrok.runs.run import Run

    if name in NAMES and not Path(name).exists():
        config = preset(name)
        task = discovery.load("tasks", config.task.name).make(config.task, config.seeds)
        return build_model(config, task), task.tokens[:2]
    checkpoint = Run(name)[-1]
    return checkpoint.model, checkpoint.task.tokens[:2]


def presets() -> None:
    """List the presets."""
    from mechgrok.presets import NAMES

    print("\n".join(NAMES))


def doctor() -> None:
    """Versions, threads, device, and whether pictures can be made."""
    import torch

    from mechgrok.figures import browser
    from mechgrok.training.provenance import machine, versions

    for name, found in versions().items():
        print(f"{name:<18} {found}")
    print(f"{'python':<18} {sys.version.split()[0]}")
    print(f"{'machine':<18} {machine()}")
    print(f"{'threads':<18} {torch.get_num_threads()}")
    print(f"{'device':<18} {'cuda (untested)' if torch.cuda.is_available() else 'cpu'}")
    print(f"{'browser':<18} {browser() or 'none: figures are html only'}")


COMMANDS: dict[str, Callable[..., None]] = {
    "train": train,
    "import": import_,
    "measure": measure,
    "plot": plot,
    "report": report,
    "hooks": hooks,
    "presets": presets,
    "doctor": doctor,
}


def explain_errors(command: Callable[[Sequence[str]], None]) -> Callable[[Sequence[str]], int]:
    """A command's exit code: an error that explains itself is one line on stderr, and 1."""

    def run(arguments: Sequence[str]) -> int:
        try:
            command(arguments)
        except Exception as error:
            if not _is_ours(error):
                raise
            print(f"error: {error}", file=sys.stderr)
            return 1
        return 0

    return run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command of the command line; returns the exit code."""
    return explain_errors(_dispatch)(sys.argv[1:] if arguments is None else arguments)


def _dispatch(given: Sequence[str]) -> None:
    if not given or given[0] in ("-h", "--help"):
        print("usage: mechgrok COMMAND [...]; `mechgrok COMMAND --help` says more\n")
        for name, command in COMMANDS.items():
            print(f"  {name:<9} {(command.__doc__ or '').splitlines()[0]}")
        return
    if given[0] not in COMMANDS:
        raise ConfigError(f"unknown command {given[0]!r}; expected one of {sorted(COMMANDS)}")
    if given[0] == "train":
        return train(*given[1:])
    import tyro

    tyro.cli(COMMANDS[given[0]], args=given[1:], prog=f"mechgrok {given[0]}")


def _is_ours(error: Exception) -> bool:
    """Errors that explain themselves; anything else is a bug and keeps its traceback."""
    own = ("ConfigError", "RunError", "TrainingDiverged", "HookError", "PublishedError")
    return type(error).__name__ in own and type(error).__module__.startswith("mechgrok.")


if __name__ == "__main__":
    sys.exit(main())
