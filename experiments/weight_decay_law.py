"""How does grokking time depend on weight decay?

    python experiments/weight_decay_law.py            # 40 runs of `quick`, 2 of the mainline
    python experiments/weight_decay_law.py --small    # seconds, to see that it runs

About 80 core-minutes, two runs at a time; it goes on where it was stopped. The runs are those of
sweeps/weight_decay.yaml (p = 59, five weight decays, eight seeds), and the mainline (p = 113, seed
0) at weight decay 1 and 3.

The step at which test accuracy stays at 99 % is fitted as scale * decay^exponent by maximum
likelihood of log-normal times, a run that did not generalise counting as later than its last
evaluation; the interval resamples seeds. The exponent is not meaningful where a single power does
not hold, so the slopes between neighbouring decays are printed too.

Rival predictions, written before it ran:
- Decay must shrink the memorising weights by a fixed factor, exp(-lr * decay * t), so that time
  goes as 1 / decay (Omnigrok, Liu et al. 2023, and the saved losses of Nanda et al. at 0.1 and 1):
  an exponent of -1 within its interval, equal slopes between all neighbours, and the mainline three
  times faster at 3 than at 1.
- More decay is slower (Nanda et al. 2023, appendix D.1, which gives about 3,000 steps at 0.3, 5,000
  to 10,000 at 1 and 20,000 at 3): a positive exponent, and the mainline at 3 not before 15,000.
- There is an optimum: decay speeds generalising up until it hinders the fit itself. Slopes of
  opposite signs, or runs at 5 that do not generalise or do not stay there, the fitted exponent
  between -1 and 0.
"""

import argparse
import json
import math
import sys
from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechgrok.cli import explain_errors

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechgrok.maths.survival import Time
    from mechgrok.runs.runs import Runs

EXPECTED = Path(__file__).with_suffix(".expected.json")
FIGURES = Path(__file__).parents[1] / "figures"
SWEEP = Path(__file__).parent / "sweeps" / "weight_decay.yaml"
DECAY = "optim.weight_decay"
MAINLINE = {
    "seeds": [0],
    "grid": {DECAY: [1, 3]},
    "overrides": {"stop.max_steps": 20_000, "stop.after_generalised": 500},
}
SMALL = {"stop.max_steps": 60, "schedule.evaluate_every": 10}


@explain_errors
def main(arguments: Sequence[str]) -> None:
    """Train or resume the runs, print the comparison and the law."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("results/sweeps/weight_decay"))
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--small", action="store_true", help="smoke_p17 for 60 steps")
    parser.add_argument("--record", action="store_true", help=f"write {EXPECTED.name}, a picture")
    asked = parser.parse_args(list(arguments))
    quick, mainline = trained(asked)
    found = {"quick": compared(quick), "mainline": compared(mainline)}
    groups = quick.times().groups(DECAY)
    found["law"] = {"slopes": slopes(groups), **law(quick)}
    print(json.dumps(found["law"], indent=1))
    if asked.record:
        EXPECTED.write_text(json.dumps(found, indent=1) + "\n")
        picture(quick, found)


def trained(asked: argparse.Namespace) -> "tuple[Runs, Runs]":
    """The sweep and the mainline points; the page of the sweep is written beside them."""
    from mechgrok.sweep_page import write_sweep_page
    from mechgrok.training import sweep
    from mechgrok.training.plan import Plan, plan, read_plan

    first = read_plan(SWEEP)
    if asked.small:
        first = plan("smoke_p17", [0, 1], first.grid, SMALL)
        second: Plan = plan("smoke_p17", [7], MAINLINE["grid"], SMALL)
    else:
        second = plan("nanda2023_mainline", **MAINLINE)
    failed = sweep.run_plan(first, asked.runs, asked.workers)
    quick = sweep.opened(first.jobs(asked.runs), asked.runs)
    print(write_sweep_page(quick, asked.runs / "sweep.html", failed, [DECAY]))
    sweep.run_plan(second, asked.runs, asked.workers)
    return quick, sweep.opened(second.jobs(asked.runs), asked.runs)


def compared(runs: "Runs") -> dict[str, Any]:
    """The comparison by weight decay, and every run's time."""
    frame = runs.times().compare(by=DECAY)
    print(frame.to_string(index=False))
    each = runs.times().table()[["run", DECAY, "seed", "generalised_after", "generalised_by"]]
    return {"compared": plain(frame), "runs": plain(each)}


def plain(frame: Any) -> list[dict[str, Any]]:
    """Rows ready for JSON; what is missing is null."""
    return json.loads(frame.to_json(orient="records"))


def slopes(groups: "Mapping[Hashable, Sequence[Time]]") -> dict[str, float | None]:
    """Slope of log median time between neighbouring decays; None where a median is censored."""
    from mechgrok.maths.survival import kaplan_meier

    medians: dict[float, float | None] = {}
    for value, times in groups.items():
        curve = kaplan_meier(times)
        below = [s for s, share in zip(curve.steps, curve.share, strict=True) if share <= 0.5]
        medians[float(str(value))] = float(below[0]) if below else None
    found: dict[str, float | None] = {}
    for (a, first), (b, second) in pairwise(medians.items()):
        slope = math.log(second / first) / math.log(b / a) if first and second else None
        found[f"{a:g} to {b:g}"] = slope
    return found


def law(runs: "Runs") -> dict[str, Any]:
    """Exponent of time over weight decay, with a 95 % bootstrap interval over seeds from 5 on."""
    import numpy as np

    from mechgrok.maths.power_law import bootstrap_exponent, power_law
    from mechgrok.maths.statistics import MIN_RUNS

    times = runs.times().moments["generalised"]
    optims: list[Any] = [run.config.optim for run in runs]
    pairs = [(o.weight_decay, time) for o, time in zip(optims, times, strict=True)]
    if len({decay for decay, time in pairs if not time.censored}) < 2:
        return {"exponent": None, "note": "fewer than two decays at which a run generalised"}
    seeds: dict[int, list[tuple[float, Any]]] = {}
    for run, pair in zip(runs, pairs, strict=True):
        seeds.setdefault(run.seed, []).append(pair)
    fit = power_law(*zip(*pairs, strict=True))
    found = {"exponent": fit.exponent, "scale": fit.scale, "spread": fit.spread}
    found |= {"runs": len(pairs), "censored": sum(t.censored for _, t in pairs)}
    if len(seeds) < MIN_RUNS:
        return found | {"note": f"{len(seeds)} seeds, fewer than {MIN_RUNS}: no interval"}
    return found | {"interval": bootstrap_exponent(seeds, np.random.default_rng(0))}


def draw(found: Mapping[str, Any]) -> "go.Figure":
    """Every recorded run's time over weight decay."""
    from mechgrok.maths.survival import Time
    from mechgrok.plotting import plot

    groups: dict[Hashable, list[Time]] = {}
    for row in found["quick"]["runs"]:
        after, by = row["generalised_after"], row["generalised_by"]
        groups.setdefault(row[DECAY], []).append(Time(after, by))
    return plot(groups, "times_by", by=DECAY)


def picture(runs: "Runs", found: Mapping[str, Any]) -> None:
    """The same as a picture, with the digests of the runs beside it."""
    from mechgrok.figures import save_sweep_picture

    stem, command = FIGURES / "weight_decay_law", "python experiments/weight_decay_law.py --record"
    print(save_sweep_picture(draw(found), stem, runs, command, recorded=True))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
