"""`mechgrok plot`."""

from pathlib import Path


def command(run: Path, /, names: tuple[str, ...] = (), out: Path | None = None) -> None:
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
        for path in save_figure(plot(opened, name), opened.work / "figures" / name):
            print(path)
