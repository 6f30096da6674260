"""`mechgrok report`."""

from pathlib import Path


def command(run: Path, /) -> None:
    """Analyse a run and write its report.html."""
    from mechgrok.report import summary_table, write_report
    from mechgrok.runs.run import Run

    opened = Run(run)
    write_report(opened)
    print(summary_table(opened))
