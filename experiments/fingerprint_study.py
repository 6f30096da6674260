"""Do spectra of fingerprints tell how a transformer groks? The grids of arXiv 2605.08237.

    python experiments/fingerprint_study.py                # batch: 10 runs of spectral_add40
    python experiments/fingerprint_study.py --grid full    # 30 runs, of which batch is a part
    python experiments/fingerprint_study.py --small        # seconds, to see that it runs

About 90 core-minutes for batch, two runs at a time; it goes on where it was stopped. `batch` has
seeds 47-51 at weight decay 1 and 2, `full` seeds 42-51 at 0, 1 and 2. Training stops 1,000 steps
after test accuracy first stayed at 99 %, and at 6,000 at the latest, which counts as censored; runs
without decay go to 10,000. Every second step the log-probability of the answer and of the end token
are recorded on 100 training equations, the same in all runs; evaluations are 50 steps apart.

Fixed before it ran. Memorised and generalised: first of three evaluations in a row at 99 %. Onset:
first of three in a row with test accuracy at least 10 points above the plateau, the median over the
evaluations from memorising to 500 steps later. Spectra: 19 quantiles, steps from 20 on, 32 delays,
rank 10, `affine`, `rayleigh`; an eigenvalue is trusted if its residual is at most .1. Runs are
compared up to the last step that all of them have, since the length alone changes a spectrum.

Rival predictions, written before it ran:
- The paper's: decay changes the dynamics of learning. Spectra at decay 2 are farther from those at
  1 than seeds are from each other (permuting seeds: p = 2/252, the least 5 against 5 can give),
  also without the pole of decay itself, (1 - lr * decay)^2; the answer and the end token say the
  same; the windowed residual is highest before onset in every run.
- Only decay's own pole: the groups differ as long as that eigenvalue is in, and no longer when it
  is taken out, or when rates are counted in units of lr * decay.
- Noise: fingerprints are of rank 1 or 2 (99 % of the energy), most of ten eigenvalues have
  residuals above .1, how many are trusted follows the rank and delays asked for, and distances
  within a decay are as large as between.
- The wrong observable: the end token is learnt in the first hundred steps and flat from then on, so
  that its spectra and windows carry no trace of onset, whereas the answer's do.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _study

from mechgrok.cli import explain_errors

if TYPE_CHECKING:
    from mechgrok.training.plan import Plan

EXPECTED = Path(__file__).with_suffix(".expected.json")
FIGURES = Path(__file__).parents[1] / "figures"
PRESET = "spectral_add40"
DECAY = "optim.weight_decay"
SEEDS = {"batch": range(47, 52), "full": range(42, 52)}
RECORDED = {
    "record.fingerprint.every": 2,
    "schedule.checkpoints": ["at 0", "every 500"],
}
NO_DECAY = {"stop.max_steps": 10_000, "stop.after_generalised": None}


@explain_errors
def main(arguments: Sequence[str]) -> None:
    """Train or resume the runs of a grid, write the report."""
    parser = _study.parser(__doc__ or "", "results/fingerprint_study", EXPECTED)
    parser.add_argument("--grid", choices=list(SEEDS), default="batch")
    asked = parser.parse_args(list(arguments))
    runs, failed = _study.trained(plans(asked), asked)

    import _fingerprint_report as report
    from _fingerprint_findings import findings
    from _fingerprint_spectra import SMALL, Settings

    study = report.study(runs, failed, SMALL if asked.small else Settings())
    found = report.numbers(study)
    sentences = findings(found)
    print(*sentences, sep="\n\n")
    print(report.write(study, found, sentences, asked.runs / f"{asked.grid}.html"))
    if asked.record:
        EXPECTED.write_text(json.dumps({"found": sentences, **found}, indent=1) + "\n")
        command = "python experiments/fingerprint_study.py --record"
        print(*report.save_pictures(study, found, FIGURES, command), sep="\n")


def plans(asked: argparse.Namespace) -> "list[Plan]":
    """The grid asked for; `--small` has two seeds of a tiny model."""
    from mechgrok.training.plan import plan

    decays: dict[str, list[Any]] = {DECAY: [1.0, 2.0]}
    if asked.small:
        return [plan(PRESET, [47, 48], decays, RECORDED | _study.SMALL)]
    seeds = SEEDS[asked.grid]
    found = [plan(PRESET, seeds, decays, RECORDED)]
    if asked.grid == "full":
        found.append(plan(PRESET, seeds, {DECAY: [0.0]}, RECORDED | NO_DECAY))
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
