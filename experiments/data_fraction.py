"""How much of the table must be trained on for it to generalise, and how long does that take?

    python experiments/data_fraction.py            # 7 runs at p = 113, 6 at p = 59
    python experiments/data_fraction.py --small    # seconds, to see that it runs

About 30 core-minutes, two runs at a time, one seed per fraction: points, no interval over runs. It
goes on where it was stopped. Beside ours stand the published losses of Nanda et al. (2023),
`mod_addition_frac_train_sweep`: the step after the peak at which test loss is below 1, and the
peak. Their seeds and stop rule (test loss 3e-6) differ from ours.

Rival predictions, written before it ran:
- The fraction decides: p = 59 at a fraction behaves like p = 113 at the same one, both within a
  factor 2, and both need about a quarter.
- The rows per token (fraction * p) decide: p = 59 at .4 takes as long as p = 113 at .21, p = 59 at
  .25 is far below what p = 113 was ever seen to generalise from, and does not by 15,000 steps.
- There is no threshold: time grows as a power of 1 / fraction and every run would generalise given
  long enough; then those that do here lie on one line in log-log, without a bend.
Either way from .6 on it should generalise with no plateau (generalised / memorised below 10).
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechgrok.cli import explain_errors

if TYPE_CHECKING:
    from mechgrok.runs.run import Run
    from mechgrok.runs.runs import Runs

EXPECTED = Path(__file__).with_suffix(".expected.json")
FIGURES = Path(__file__).parents[1] / "figures"
SWEEP = Path(__file__).parent / "sweeps" / "train_fraction.yaml"
FRACTION = "task.frac_train"
LARGE = {
    "seeds": [0],
    "grid": {FRACTION: [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]},
    "overrides": {
        "stop.max_steps": 12_000,
        "stop.after_generalised": 300,
        "schedule.evaluate_every": 25,
        "schedule.checkpoints": ["at 0", "every 500"],
    },
}
SMALL = {"stop.max_steps": 60, "schedule.evaluate_every": 10}
PUBLISHED: Mapping[float, tuple[int, float | None]] = {
    0.3: (7583, 26.6),
    0.4: (2615, 10.1),
    0.5: (744, None),
    0.6: (270, None),
    0.7: (129, None),
    0.8: (177, None),
    0.9: (156, None),
}
"""Step at which test loss is below 1 after its peak, and the peak in nats where it was noted.

From .6 on the peak lies between 4.9 and 5.6; at .28 it takes 14,465 steps, at .25 21,419.
"""


@explain_errors
def main(arguments: Sequence[str]) -> None:
    """Train or resume the runs, print ours beside the published."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("results/sweeps/train_fraction"))
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--small", action="store_true", help="smoke_p17 for 60 steps")
    parser.add_argument("--record", action="store_true", help=f"write {EXPECTED.name}, a picture")
    asked = parser.parse_args(list(arguments))
    runs = trained(asked)
    rows = [row(run) for run in runs]
    show(rows)
    if asked.record:
        EXPECTED.write_text(json.dumps(rows, indent=1) + "\n")
        picture(runs)


def trained(asked: argparse.Namespace) -> "Runs":
    """Both sizes; their page is written beside them."""
    from mechgrok.runs.runs import Runs
    from mechgrok.sweep_page import write_sweep_page
    from mechgrok.training import sweep
    from mechgrok.training.plan import plan, read_plan

    small = read_plan(SWEEP)
    plans = [plan("nanda2023_mainline", **LARGE), small]
    if asked.small:
        plans = [plan("smoke_p17", [0], small.grid, SMALL)]
    found, failed = [], {}
    for one in plans:
        failed |= sweep.run_plan(one, asked.runs, asked.workers)
        found += list(sweep.opened(one.jobs(asked.runs), asked.runs))
    runs = Runs(found)
    print(write_sweep_page(runs, asked.runs / "sweep.html", failed, [FRACTION, "task.n"]))
    return runs


def row(run: "Run") -> dict[str, Any]:
    """One run, and what was published for its fraction."""
    task: Any = run.config.task
    curve = [(e["step"], e["test_loss"]) for e in run.evaluations()]
    below, peak = below_one(curve)
    times = run.measure("times")
    published = PUBLISHED.get(task.frac_train) if task.n == 113 else None
    return {
        "n": task.n,
        "frac_train": task.frac_train,
        "seed": run.seed,
        "rows_per_token": round(task.frac_train * task.n, 1),
        "memorised": step(times["memorised"]),
        "generalised": step(times["generalised"]),
        "ratio": step(times["ratio"]),
        "last_step": times["last_step"],
        "test_loss_below_1": below,
        "published_below_1": None if published is None else published[0],
        "peak_test_loss": peak,
        "published_peak": None if published is None else published[1],
        "state": run.status["state"],
    }


def below_one(curve: Sequence[tuple[int, float]]) -> tuple[int | None, float]:
    """First step after the peak with a test loss below 1 (None: not reached), and the peak."""
    at, peak = max(curve, key=lambda point: point[1])
    return next((step for step, loss in curve if step > at and loss < 1), None), peak


def step(value: Any) -> Any:
    """A number, or None where it does not apply."""
    return value if isinstance(value, int | float) else None


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """One line per run; a dash is what was not reached, or not published."""
    import pandas as pd

    frame = pd.DataFrame(rows).astype(object)
    print(frame.where(frame.notna(), "-").to_string(index=False))


def picture(runs: "Runs") -> None:
    """Time over fraction at both sizes, with the digests of the runs beside it."""
    from mechgrok.figures import save_sweep_picture
    from mechgrok.plotting import plot

    command = "python experiments/data_fraction.py --record"
    drawn = plot(runs, "small_multiples", by=FRACTION)
    print(save_sweep_picture(drawn, FIGURES / "data_fraction", runs, command))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
