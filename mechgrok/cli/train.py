"""`mechgrok train`."""

from mechgrok.cli._settings import read_train


def command(*arguments: str) -> None:
    """Train a preset or config."""
    from mechgrok.report import summary_table
    from mechgrok.training.trainer import train

    asked = read_train(arguments, "nanda2023_mainline", "mechgrok train")
    run = train(asked.config, run=asked.run, resume=asked.resume)
    print(summary_table(run))
