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
    from mechgrok import report
    from mechgrok.runs.run import Run

    opened = Run(run)
    if names or all:
        steps = opened.steps if step is None else [step]
        results = report.measured(opened, names, steps)
    else:
        results = report.analyse(opened, None if step is None else [step])
    print(f"{opened.name}, seed {opened.seed}")
    for result in results:
        at = "run" if result.step is None else f"{result.step:,}"
        table = result.table()
        for row in zip(table["measure"], table["value"], table["note"], strict=True):
            print(line(at, *row))


def line(step: str, measure: object, value: object, note: object) -> str:
    """One value: losses reach 1e-9, so 7 digits; what does not apply is a dash with its reason."""
    shown = f"{value:.7g}" if isinstance(value, float) and value == value else str(value)
    missing = value is None or value != value
    return f"{step:>10}  {measure!s:<52}  {f'-  ({note})' if missing else shown}"
