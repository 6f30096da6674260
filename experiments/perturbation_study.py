"""How far apart do runs end whose initial weights differ by a thousandth?

    python experiments/perturbation_study.py                     # 5 runs at size, 11 of `quick`
    python experiments/perturbation_study.py --grid published    # the 22 of arXiv 2605.08237
    python experiments/perturbation_study.py --small             # seconds, to see that it runs

About 90 core-minutes, two runs at a time; it goes on where it was stopped. Every weight is
multiplied once, before training, by 1 + scale * N(0, 1); initialisation before that, split and
order of batches are those of the control.
- `size`: spectral_add40, seed 42, decay 1: a control and perturbation seeds 100-103, scale 1e-3.
- `quick`: quick (full batch), seed 7, the median of its recorded times: a control; seeds 100 and
  101 at scales 1e-5, 1e-4, 1e-3 and 1e-2 (equal directions, so that a linear response would show as
  equal curves after division by the scale), seed 102 at 1e-5 and 1e-3.
- `published`: spectral_add40, seed 42, decay 1 and 2: a control and seeds 100-109, scale 1e-3.

Fixed before it ran. Distance of weights: |w - w'| / |w'| over all weights, w' the control's, at
checkpoints that all runs share; of fingerprints: Wasserstein-2 of the answer's log-probability over
the probes (nats); of predictions: mean absolute difference of that log-probability probe by probe
(nats), and share of test equations answered differently. Growth rate: slope of the log of a
distance from step 20 on, up to the first step at which it is above a tenth, and at least 4 points.
Seeds to compare with: fingerprint_study.py's at decay 1 (split and probes shared, other
initialisation and batches), and the recorded seeds of `quick` (other split too).

Rival predictions, written before it ran:
- Chaos: a thousandth grows exponentially to order 1 before or about when the run memorises, at one
  rate whatever the scale (a tenth of the scale only costs log(10) / rate more steps); runs then are
  as far apart as seeds, and so are their times: spread over perturbations / over seeds near 1.
- One basin: distances stay near the scale, in proportion to it; perturbed runs generalise within an
  evaluation or two of the control, spread ratio below a fifth, and answer alike.
- One law, many weights (Redman et al. 2023): weights part as far as seeds', but fingerprints and
  spectra do not: spectral distances between perturbed runs are well below those between seeds,
  while the step of generalising still differs.
- Perturbing is seeding: no statistic, the spectra included, tells perturbations from seeds.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _study
import fingerprint_study

from mechgrok.cli import explain_errors

if TYPE_CHECKING:
    from mechgrok.runs.run import Run
    from mechgrok.training.plan import Plan

EXPECTED = Path(__file__).with_suffix(".expected.json")
FIGURES = Path(__file__).parents[1] / "figures"
PRESET = "spectral_add40"
GRIDS = ("size", "quick", "published")
SCALE, SEED = "perturbation.scale", "perturbation.seed"
DECAY = "optim.weight_decay"
RECORDED = {
    "record.fingerprint.every": 2,
    "schedule.checkpoints": ["at 0", "log 4 until 1000", "every 20 until 400", "every 250"],
}
"""Rules by step alone, so that all runs have the same checkpoints up to the end of the shorter."""


@explain_errors
def main(arguments: Sequence[str]) -> None:
    """Train or resume the runs, write the report."""
    parser = _study.parser(__doc__ or "", "results/perturbation_study", EXPECTED)
    parser.add_argument(
        "--seeds-from", type=Path, default=Path("results/fingerprint_study"),
        help="where fingerprint_study.py keeps its runs",
    )  # fmt: skip
    parser.add_argument("--grid", nargs="+", choices=GRIDS, default=["size", "quick"])
    asked = parser.parse_args(list(arguments))
    runs, failed = _study.trained(plans(asked), asked)

    import _perturbation_report as report
    from _fingerprint_spectra import SMALL, Settings
    from _perturbation_findings import findings

    settings = SMALL if asked.small else Settings()
    groups = report.groups(runs, failed, seeds(asked), settings)
    found = [report.numbers(group) for group in groups]
    sentences = findings(found)
    print(*sentences, sep="\n\n")
    print(report.write(groups, found, failed, sentences, asked.runs / "perturbation_study.html"))
    if asked.record:
        stored = {"found": sentences, "failed": failed, "groups": found}
        EXPECTED.write_text(json.dumps(stored, indent=1) + "\n")
        command = "python experiments/perturbation_study.py --record"
        print(*report.save_pictures(groups, found, FIGURES, command), sep="\n")


def seeds(asked: argparse.Namespace) -> "list[Run]":
    """Runs of other seeds, from fingerprint_study.py; `--small` has two of its own.

    Raises RunError when they are not there.
    """
    from mechgrok.runs.run import Run
    from mechgrok.runs.storage import RunError
    from mechgrok.training import sweep
    from mechgrok.training.plan import plan

    if asked.small:
        own = plan(PRESET, [47, 48], {DECAY: [1.0]}, RECORDED | _study.SMALL)
        if not asked.report_only:
            sweep.run_plan(own, asked.runs, asked.workers)
        return list(sweep.opened(own.jobs(asked.runs), asked.runs))
    batch = fingerprint_study.plans(argparse.Namespace(small=False, grid="batch"))
    jobs = [job for one in batch for job in one.jobs(asked.seeds_from)]
    left = [job.name for job in jobs if not job.ended()]
    if left and {"size", "published"} & set(asked.grid):
        raise RunError(
            f"{asked.seeds_from} lacks {len(left)} of the {len(jobs)} runs of other seeds, the "
            f"first {left[0]}; run experiments/fingerprint_study.py, or name them by --seeds-from"
        )
    return [Run(job.directory) for job in jobs if job.ended()]


def plans(asked: argparse.Namespace) -> "list[Plan]":
    """Control and perturbed runs of every grid asked for, the controls first."""
    if asked.small:
        return perturbed(PRESET, 42, {1e-3: [100, 101]}, changes=_study.SMALL)
    found: list[Plan] = []
    if "size" in asked.grid:
        found += perturbed(PRESET, 42, {1e-3: range(100, 104)})
    if "quick" in asked.grid:
        three, two = range(100, 103), range(100, 102)
        found += perturbed("quick", 7, {1e-5: three, 1e-3: three, 1e-4: two, 1e-2: two})
    if "published" in asked.grid:
        found += perturbed(PRESET, 42, {1e-3: range(100, 110)}, [1.0, 2.0])
    return found


def perturbed(
    preset: str,
    seed: int,
    scales: dict[float, Sequence[int]],
    decays: Sequence[float] = (1.0,),
    changes: dict[str, Any] | None = None,
) -> "list[Plan]":
    """A control and its perturbed runs, at every weight decay."""
    from mechgrok.training.plan import plan

    settings = RECORDED | (changes or {})
    grids: list[dict[str, list[Any]]] = [{}]
    grids += [{SCALE: [scale], SEED: list(seeds)} for scale, seeds in scales.items()]
    return [plan(preset, [seed], {DECAY: list(decays)} | grid, settings) for grid in grids]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
