"""`mechgrok view`."""

from pathlib import Path


def command(
    run: Path,
    /,
    step: int | None = None,
    against: Path | None = None,
    against_step: int | None = None,
    out: Path | None = None,
    shifts: int = 1,
) -> None:
    """Attention, patch grids and circuit of a checkpoint, or of two, on one offline page.

    Args:
        run: A run directory.
        step: The checkpoint; by default the last.
        against: Another run to compare with.
        against_step: Its checkpoint, or without another run a second one of this run.
        out: Where to write the page; by default view.html in the run directory.
        shifts: Pairs of runs per operand where the circuit is not saved yet.
    """
    from mechgrok.view import view_run

    print(view_run(run, step, against, against_step, out, shifts))
