"""Settings of a run from the command line: a preset or file, `--set` and dotted flags."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
    config = with_changes(config, given.changes)
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


def with_changes(config: RunConfig, changes: Sequence[str]) -> RunConfig:
    """A config after `a.b=value` each. Raises ConfigError for a text without one."""
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
