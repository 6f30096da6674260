"""`mechgrok import`."""

from pathlib import Path
from typing import Literal


def command(
    file: Path,
    /,
    run: Path,
    format: Literal["nanda", "transformer_lens", "mechgrok", "example"] = "nanda",
    config: Path | None = None,
    seed: int | None = None,
    frac_train: float | None = None,
) -> None:
    """Make a run directory of somebody else's checkpoint, or of an exported run.

    Args:
        file: The published file, the folder that `mechgrok export` wrote, or an example's name.
        run: The new run directory.
        format: Whose layout it has.
        config: YAML of what a transformer_lens file cannot tell (act_fn, attn_scale, ...).
        seed: Of its split, where stored losses cannot tell it; with frac_train.
        frac_train: Share of the rows it was trained on.
    """
    from mechgrok.examples import load_example
    from mechgrok.sharing import import_model, import_run, read_settings
    from mechgrok.sharing.origin import describe

    if format in ("mechgrok", "example"):
        _refuse_settings(config=config, seed=seed, frac_train=frac_train)
        source = load_example(str(file)).path if format == "example" else file
        print(describe(import_run(source, run)))
        return
    settings = None if config is None else read_settings(config)
    made = import_model(file, run, format, config=settings, seed=seed, frac_train=frac_train)
    print(describe(made))


def _refuse_settings(**given: object) -> None:
    from mechgrok.config import ConfigError

    asked = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
    if asked:
        raise ConfigError(f"{' '.join(asked)}: an exported run holds its settings; leave it out")
