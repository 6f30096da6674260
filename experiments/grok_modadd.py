"""Train a transformer on modular addition until it groks, and lay its Fourier circuit open.

    python experiments/grok_modadd.py                       # the mainline of Nanda et al. (2023)
    python experiments/grok_modadd.py --preset quick --seed 1 --optim.weight-decay 0.3

Without arguments it trains `nanda2023_mainline` into results/nanda2023_mainline__seed0, or goes on
with it where it stopped, and ends with a table and report.html. What recorded runs did stands in
presets.expected.json.
"""

import sys
from collections.abc import Sequence

from mechgrok.cli import explain_errors, read_train


@explain_errors
def main(arguments: Sequence[str]) -> None:
    """Train (or resume), analyse, report."""
    asked = read_train(arguments, "nanda2023_mainline", "grok_modadd.py")
    from mechgrok.report import summary_table, write_report
    from mechgrok.training.trainer import train

    run = train(asked.config, run=asked.run, resume=asked.resume)
    write_report(run)
    print(summary_table(run))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
