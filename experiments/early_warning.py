"""Does the published residual warn of grokking when the answer is observed, and beat plain alarms?

    python experiments/early_warning.py                    # 48 runs, about an hour of one core
    python experiments/early_warning.py --small            # seconds, to see that it runs
    python experiments/early_warning.py --report-only [--replication DIR] [--record]

It goes on where it was stopped. The signal of arXiv 2605.08237 is the one-step residual of an
operator fitted to quantiles of log-probabilities in a window; its "log-probability of the answer"
is that of the end token. Here both are recorded every second step on 100 training equations.

Fixed before it ran. Addition mod 31, one layer of openai/grok's decoder at its published width,
weight decay 2, at most 3,000 steps, evaluated every 25; one split, 56 % trained on, so that runs
differ in initial weights and batches only. Pilots of seeds 1000-1002 (14 minutes of one thread,
also at decay 1 and half the width) chose size, decay and fraction: there was no onset by 3,000 at
.45 and .5, onset at 1,200 at .6 and at 1,850 at .75, and in one of two runs, at 1,450, at .56.
Seeds 0-23 calibrate, 24-47 are held out.
- Onset: first of three evaluations in a row with validation accuracy at least 10 points above the
  median of the 500 steps after memorising. Memorised, generalised: the same at 99 %.
- Landmarks 500, 750, 1,000 and 1,500: runs not yet past onset are ranked by what is known then.
  Concordance with time to onset (runs without it censored at their end); AUROC for onset, and for
  generalised, by the end or not; the mean over landmarks is the headline.
- The residual as published (rank 10, 32 delays, windows of 125 snapshots, temporal mean; higher
  means sooner), and with rank (10, 4, 2), window (125, 250) and sign by the mean concordance of the
  calibration runs. Signs of the plain signals, each a median over 250 steps, and the best of them
  come from calibration as well: losses, validation accuracy, weight norm and its slope, mean and
  spread of the probes' margins, spread of the quantiles. The clock is .5 by construction.
- Alarms from memorising on, looked at every 50 steps, raised by three looks in a row across a
  threshold that alarms at most 10 % of the calibration runs without onset.
- The same once more with everything later than step 2,000 left out. This was added after the first
  record: by 3,000, 39 of 48 runs had reached onset, where about half were wanted; by 2,000, 22.
- Intervals: 95 %, 2,000 bootstrap draws of held-out runs, the same for all signals.
- Replication at the published size (`--replication`, runs of fingerprint_study.py): landmarks
  1,000, 1,500 and 2,000, within each weight decay, everything chosen above.

Rival predictions, written before it ran:
- The paper's: the residual rises before onset. AUROC about .93 whichever token is observed, and
  alarms lead onset with few false ones.
- The wrong observable: the end token is learnt in the first hundred steps, so that its residual is
  at .5, whereas the answer's ranks runs.
- Plain progress: onset is the end of a slow rise that validation loss and accuracy show; they rank
  runs at least as well as the answer's residual, whose lead over the best of them has an interval
  that includes 0 or lies below it.
- Instability: residuals of both tokens rise in slingshots (training accuracy falls and recovers at
  this decay). They then rank runs by how unstable they are, as train loss does, if at all, and may
  point the other way: unstable runs reach onset later.
- Chance: later slingshots decide; nothing is above .5 at 500 steps.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _study

from mechgrok.cli import explain_errors

if TYPE_CHECKING:
    from _warning_ranking import Followed
    from _warning_signals import Settings

    from mechgrok.runs.run import Run
    from mechgrok.runs.runs import Runs
    from mechgrok.training.plan import Plan

EXPECTED = Path(__file__).with_suffix(".expected.json")
FIGURES = Path(__file__).parents[1] / "figures"
PRESET = "spectral_add40"
SEEDS = {"calibration": range(24), "held_out": range(24, 48)}
LANDMARKS = (500, 750, 1000, 1500)
ONCE = 0.9
"""Test accuracy at one evaluation: at this decay few runs hold 99 % for three in a row."""
HALF = 2000
"""Step by which about half of the runs had reached onset; taken from that count, afterwards."""
AT_SIZE = (1000, 1500, 2000)
"""Landmarks of the published size, where runs memorise at about 700."""
SIZES = {
    "task.modulus": 31,
    "task.frac_train": 0.56,
    "model.n_layers": 1,
    "optim.weight_decay": 2.0,
    "record.fingerprint.every": 2,
    "record.recorders": ["weight_norm"],
    "schedule.evaluate_every": 25,
    "schedule.checkpoints": ["at 0", "every 1000"],
    "stop.max_steps": 3000,
    "stop.after_generalised": 300,
}
SMALL = _study.SMALL | {
    "task.modulus": 13,
    "task.frac_train": 0.6,
    "record.fingerprint.every": 2,
    "record.recorders": ["weight_norm"],
    "optim.lr": 3e-3,
}


@explain_errors
def main(arguments: Sequence[str]) -> None:
    """Train or resume the runs, rank them, write the report."""
    parser = _study.parser(__doc__ or "", "results/early_warning", EXPECTED)
    parser.add_argument("--replication", type=Path, help="runs of fingerprint_study.py")
    asked = parser.parse_args(list(arguments))
    runs, failed = _study.trained(plans(asked), asked)
    report(runs, failed, asked)


def plans(asked: argparse.Namespace) -> "list[Plan]":
    """Calibration runs, then held-out runs."""
    from mechgrok.training.plan import plan

    if asked.small:
        return [plan(PRESET, range(4), {}, SMALL)]
    return [plan(PRESET, seeds, {}, SIZES) for seeds in SEEDS.values()]


def settings(asked: argparse.Namespace) -> "Settings":
    """Landmarks, windows and ranks."""
    from _warning_signals import Settings

    if asked.small:
        return Settings((120, 160), (40, 60), (4, 2), n_delays=8, stride=10, memory=80)
    return Settings(LANDMARKS)


def report(runs: "Runs", failed: Mapping[str, str], asked: argparse.Namespace) -> None:
    """Everything from stored data: numbers, pictures, page."""
    from _warning_figures import concordances, every_run, lead_times
    from _warning_findings import analysis, by_half, sentences
    from _warning_ranking import until
    from _warning_report import write

    of = settings(asked)
    followed = follow(runs, of)
    sets = divided(followed, asked.small)
    calibration, held_out = ([one for _, one in pairs] for pairs in sets.values())
    found: dict[str, Any] = analysis(calibration, held_out, of)
    if asked.replication:
        found["replication"] = replicated(asked.replication, found, of)
    found["reached"] = {
        "runs": len(runs),
        "onset": sum(one.moments.onset is not None for _, one in followed),
        "once_right": sum(
            max(row["test_acc"] for row in run.evaluations()) >= ONCE for run, _ in followed
        ),
        "generalised": sum(one.moments.generalised is not None for _, one in followed),
    }
    half = 200 if asked.small else HALF
    early = [[until(one, half) for one in runs] for runs in (calibration, held_out)]
    found["by_half"] = analysis(early[0], early[1], of)
    found["found"] = sentences(found) + by_half(found["by_half"])
    print("\n".join(found["found"]))
    drawn = {
        "every_run": every_run(sets, of),
        "concordance": concordances(found),
        "lead_times": lead_times(found),
    }
    moments = [one.moments for _, one in followed]
    print(write(asked.runs / "early_warning.html", found, drawn, moments, failed))
    if asked.record:
        record(found, drawn, runs)


def follow(runs: "Runs", of: "Settings") -> "list[tuple[Run, Followed]]":
    """Runs that did not fail, with moments and signals."""
    from _moments import moments
    from _warning_ranking import Followed
    from _warning_signals import signals
    from tqdm import tqdm

    from mechgrok.runs.table import FAILED

    kept = [run for run in runs if run.status.get("state") not in FAILED]
    return [(run, Followed(moments(run), signals(run, of))) for run in tqdm(kept, "signals")]


def divided(
    followed: "Sequence[tuple[Run, Followed]]", small: bool
) -> "dict[str, list[tuple[Run, Followed]]]":
    """Calibration and held-out runs by their seeds; odd and even ones where there are few."""
    rules = {"calibration": lambda s: s % 2 == 0, "held_out": lambda s: s % 2 == 1}
    if not small:
        rules = {name: seeds.__contains__ for name, seeds in SEEDS.items()}
    found = {
        name: [pair for pair in followed if rule(pair[0].seed)] for name, rule in rules.items()
    }
    return found


def replicated(directory: Path, found: Mapping[str, Any], of: "Settings") -> dict[str, Any]:
    """The same at the published size, within each weight decay, with what was chosen above."""
    from dataclasses import replace

    from _warning_findings import within
    from _warning_ranking import Choice

    from mechgrok.runs.run import Run
    from mechgrok.runs.runs import Runs
    from mechgrok.runs.storage import RunError

    runs = Runs(Run(path.parent) for path in sorted(directory.glob("*/config.yaml")))
    groups: dict[str, list[Followed]] = {}
    for run, one in follow(runs, of):
        groups.setdefault(f"weight decay {run.config.optim.weight_decay:g}", []).append(one)
    if not groups:
        raise RunError(f"{directory} holds no run; give --replication the runs of the study")
    return within(groups, replace(of, landmarks=AT_SIZE), Choice(**found["choice"]))


def record(found: Mapping[str, Any], drawn: Mapping[str, Any], runs: "Runs") -> None:
    """Write the numbers and the pictures, with the digests of the runs beside each."""
    from mechgrok.figures import save_sweep_picture

    EXPECTED.write_text(json.dumps(found, indent=1) + "\n")
    command = "python experiments/early_warning.py --report-only --record"
    for name, figure in drawn.items():
        stem, recorded = FIGURES / f"early_warning_{name}", name != "every_run"
        print(save_sweep_picture(figure, stem, runs, command, recorded=recorded))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
