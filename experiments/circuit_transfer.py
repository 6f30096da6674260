"""Does a grokked circuit transfer to a new task, and is it the circuit that does?

    python experiments/circuit_transfer.py                       # trains its own donors
    python experiments/circuit_transfer.py --donors DIR          # `quick` runs that are there
    python experiments/circuit_transfer.py --sets core,usual     # more than the core set
    python experiments/circuit_transfer.py --small               # seconds, to see that it runs

A model is split into its embedding (W_E, W_U, b_U) and its body (attention, MLP, W_pos). In the
core set the body of a donor is frozen, and a fresh embedding is trained on a target task whose
tokens are renamed at random: T0 the donor's own operation (30 % of pairs), T1 addition mod p - 1
(40 %), T3 the dihedral group of order p - 1 (40 %). Donors: a grokked `quick` run; the same run
memorised (last evaluation with train >= .999 and test <= .2); and three nulls of the grokked one:
its singular values with random singular vectors, rows of W_out permuted against its neurons, a new
initialisation. Eight seeds, 4,000 steps, one optimiser for all.

Other sets: `usual` fine-tuning and scratch; `targets`, the core donors on T2 subtraction and T4
random labels; `furuta` (Furuta et al. 2024, arXiv 2402.16726: one part pre-grokked and frozen,
tokens named as in the donor); `groktransfer` (Xu et al. 2025, arXiv 2504.13292: W_E of a model that
has begun to generalise; here of one as wide as the target, not narrower); `mechanism`, `progress`,
`fractions`, `mainline` (p = 113, two seeds) and `rest`, the whole factorial. About a minute an arm
on one thread; it goes on where it was stopped, with what it has.

The run is the unit: paired differences over seeds, exact two-sided test by flips of sign, bootstrap
interval over seeds. A circuit transfers if the lower 95 % bound of (frozen grokked - the best
control at each seed) is above 0 on T0 and on T1, and that lead is smaller on T3.

Rival predictions, written before it ran:
- Portable circuit: the frozen grokked body wins on T0 and T1, not on T2, T3 and T4, and beats the
  spectrum-matched body. The lower bound above is positive on both.
- Weight scale: what helps is the size and rank of the weights. The spectrum-matched body ties.
- Generic pretraining: any trained body helps. The memorised body ties.
- The embedding carries it: the donor's embedding with a fresh body does better than its body with a
  fresh embedding.
- Easy optimisation: a grokked body is easier to train through. Random labels (T4) are memorised
  faster with it than with any control.
Of the mechanism: the body computes with circles, not with names, so that the target's key
frequencies need not be the donor's (overlap at its hypergeometric chance), but neurons that shared
a frequency share one again (adjusted Rand index near 1); removing one cluster before transfer costs
more than removing as many other neurons of the same norms. The transfer accuracy of a run's
checkpoints rises before its own test accuracy if the circuit forms before the memory is cleaned up,
and with it if both are one event.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from _transfer_arms import SETS, arms, frozen_body, plan_of, run_name

from mechgrok.cli import explain_errors

if TYPE_CHECKING:
    from _transfer_arms import Arm
    from _transfer_donors import Donors

    from mechgrok.runs.run import Run

EXPECTED = Path(__file__).with_suffix(".expected.json")
FIGURES = Path(__file__).parents[1] / "figures"
PROGRESS_SEEDS, PROGRESS_HORIZON = 3, 1_000


@explain_errors
def main(arguments: Sequence[str]) -> None:
    """Train or resume the arms that are asked for, then say what all finished ones show."""
    asked = parsed(arguments)
    if not asked.report_only:
        for name in asked.sets:
            train_set(asked, name)
    from _transfer_report import record, report

    donors, mainline = donors_of(asked, "core"), donors_of(asked, "mainline")
    sets = {
        name: finished(asked, name, mainline if name == "mainline" else donors) for name in SETS
    }
    found = report(sets, donors, mainline)
    if asked.record:
        record(found, sets, EXPECTED, FIGURES)


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("results/circuit_transfer"))
    parser.add_argument("--donors", type=Path, help="a folder of finished donors to look in first")
    parser.add_argument("--sets", default="core", help=f"some of {','.join(SETS)}, in this order")
    parser.add_argument("--seeds", type=int, default=8, help="seeds 0 to this number")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--small", action="store_true", help="smoke_p17, two seeds, 40 steps")
    parser.add_argument(
        "--report-only", action="store_true", help="from finished runs, no training"
    )
    parser.add_argument("--record", action="store_true", help=f"write {EXPECTED.name}, pictures")
    asked = parser.parse_args(list(arguments))
    asked.sets = asked.sets.split(",")
    unknown = [name for name in asked.sets if name not in SETS]
    if unknown:
        parser.error(f"unknown sets {unknown}; expected some of {list(SETS)}")
    return asked


def donors_of(asked: argparse.Namespace, name: str) -> "Donors":
    """The donors of a set: `quick`, or the mainline for the set of that name."""
    from _transfer_donors import Donors

    mainline = name == "mainline"
    full = "nanda2023_mainline" if mainline else "quick"
    limit = 2 if asked.small or mainline else 8
    return Donors(
        preset="smoke_p17" if asked.small else full,
        directory=asked.runs / "donors",
        seeds=tuple(range(min(asked.seeds, limit))),
        given=asked.donors,
        workers=asked.workers,
        small=asked.small,
    )


def wanted(name: str, donors: "Donors") -> "list[tuple[Arm, int]]":
    """The runs of a set, all arms of one seed before the next."""
    if name != "progress":
        return [(arm, seed) for seed in donors.seeds for arm in arms(name)]
    return [
        (frozen_body("T0", "grokked", step=step, horizon=PROGRESS_HORIZON), seed)
        for seed in donors.seeds[:PROGRESS_SEEDS]
        for step in donors.run("grokked", seed).steps
    ]


def directory_of(asked: argparse.Namespace, name: str) -> Path:
    """Where a set's runs are; sets of `quick` share theirs, as they share arms."""
    return asked.runs / ("mainline" if name == "mainline" else "arms")


def train_set(asked: argparse.Namespace, name: str) -> None:
    """Train what of a set has not ended, its donors first."""
    from _transfer_donors import train

    donors = donors_of(asked, name)
    donors.prepare({arm.donor for arm in arms(name)}, train=True)
    plan = plan_of(wanted(name, donors), donors)
    print(f"{name}: {len(plan.listed)} runs", flush=True)
    failed = train(plan, directory_of(asked, name), asked.workers, asked.small)
    for run, reason in failed.items():
        print(f"failed: {run}: {reason}", file=sys.stderr)


def finished(
    asked: argparse.Namespace, name: str, donors: "Donors"
) -> "dict[tuple[Arm, int], Run]":
    """The finished runs of a set, whichever sets were asked for now."""
    from mechgrok.runs.run import Run

    folder = directory_of(asked, name)
    if not folder.exists():
        return {}
    donors.prepare({arm.donor for arm in arms(name)}, train=False)
    found = {}
    for arm, seed in wanted(name, donors):
        path = folder / run_name(arm, seed)
        if (path / "status.json").exists() and Run(path).status["state"] == "finished":
            found[arm, seed] = Run(path)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
