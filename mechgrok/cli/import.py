"""`mechgrok import`."""

from pathlib import Path
from typing import Literal


def command(
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
