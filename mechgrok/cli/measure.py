"""`mechgrok measure`."""

from pathlib import Path


def command(
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
