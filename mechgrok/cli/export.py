"""`mechgrok export`."""

from pathlib import Path


def command(
    run: Path,
    /,
    out: Path | None = None,
    steps: tuple[int, ...] = (),
    data: bool = True,
) -> None:
    """Write a run as a folder that is ready for a hub, with a model card.

    Args:
        run: A run directory.
        out: A new or empty folder; by default exports/<name of the run>.
        steps: Checkpoints to take; by default all.
        data: Also the task's rows as parquet.
    """
    from mechgrok.runs.run import Run
    from mechgrok.sharing import export_run

    opened = Run(run)
    made = export_run(opened, out or Path("exports") / opened.name, steps or None, data=data)
    for path in sorted(made.iterdir()):
        print(path)
    print(f"next: mechgrok import {made} --format mechgrok --run DIR, or mechgrok push {made} REPO")
