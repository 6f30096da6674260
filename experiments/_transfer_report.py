"""What the finished arms of the transfer experiment show: tables, verdict, mechanism, pictures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _transfer_findings as findings
from _transfer_arms import HORIZON, frozen_body, not_applicable
from scipy import stats

from mechgrok.runs.storage import RunError

if TYPE_CHECKING:
    from _transfer_donors import Donors

SHOWN = ("target", "fraction", "taken", "trained", "donor", "n", "test_acc", "test_acc_no_twin")
SHOWN += ("train_acc", "generalised", "mean_steps_generalised", "mean_steps_memorised")
APART = ("progress", "mainline")
"""Sets with a table of their own."""
LEVEL = 0.5
"""Accuracy at which transfer and test accuracy are said to have risen."""


def report(
    sets: Mapping[str, findings.Runs], donors: "Donors", mainline: "Donors | None" = None
) -> dict[str, Any]:
    """Print what was found, the first paragraph first; returns it for expected.json."""
    runs = {key: run for name in sets if name not in APART for key, run in sets[name].items()}
    if not runs:
        raise RunError("no arm has finished; the same command without --report-only trains them")
    rows = findings.table(runs, HORIZON)
    between = findings.contrasts(runs, donors)
    said = findings.verdict(between, rows)
    found: dict[str, Any] = {"paragraph": findings.paragraph(said, between), "verdict": said}
    found |= {"donors": donors.facts(), "contrasts": between, "arms": rows}
    found["not_applicable"] = not_applicable()
    found["smallest_fraction"] = smallest_fraction(rows)
    found["mechanism"] = mechanism(runs, donors)
    found["progress"] = progress(sets["progress"], donors)
    found["mainline"] = of_mainline(sets["mainline"], mainline)
    show(found)
    return found


def smallest_fraction(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Smallest fraction of T0 at which at least half of the seeds generalised, by arm."""
    found: dict[str, Any] = {}
    for name, design in (("grokked", ("body", "embedding")), ("none", ("nothing",))):
        fits = [
            row
            for row in rows
            if row["target"] == "T0" and row["donor"] == name and row["taken"] == design[0]
        ]
        fits = [row for row in fits if len(design) == 1 or row["trained"] == design[1]]
        if len(fits) < 2:
            continue
        enough = [row["fraction"] for row in fits if 2 * row["generalised"] >= row["n"]]
        label = "frozen grokked body" if name == "grokked" else "scratch"
        tried = sorted(row["fraction"] for row in fits)
        found[label] = {"tried": tried, "smallest": min(enough, default=None)}
    return found


def mechanism(runs: findings.Runs, donors: "Donors") -> dict[str, Any]:
    """Keys, clusters and losses of children of the grokked body, removed clusters, blocks of D_n.

    Every value by seed, and their means.
    """
    import _transfer_mechanism as parts

    found: dict[str, Any] = {}
    for target in ("T0", "T1"):
        for name in ("grokked", "memorised"):
            rows = {
                str(seed): parts.of_child(run[-1], donors.run("grokked", seed)[-1])
                for (arm, seed), run in sorted(runs.items(), key=lambda item: item[0][1])
                if arm == frozen_body(target, name)
            }
            if rows:
                mean = parts.means(list(rows.values()))
                found[f"{target} {name}"] = {"mean": mean, "seeds": rows}
    for name in ("grokked", "memorised"):
        blocks = {
            str(seed): parts.by_block(run[-1])
            for (arm, seed), run in sorted(runs.items(), key=lambda item: item[0][1])
            if arm == frozen_body("T3", name)
        }
        if blocks:
            mean = parts.means(list(blocks.values()))
            found[f"T3 {name}, accuracy by coset block"] = {"mean": mean, "seeds": blocks}
    return found | _removals(runs, donors)


def _removals(runs: findings.Runs, donors: "Donors") -> dict[str, Any]:
    """What removing a cluster before transfer costs, against as many other neurons."""
    import _transfer_mechanism as parts

    without = {name: frozen_body("T0", f"without_{name}") for name in ("cluster", "others")}
    row = findings.contrast(runs, without["others"], [without["cluster"]])
    if row is None:
        return {}
    costs = {
        name: findings.contrast(runs, frozen_body("T0", "grokked"), [arm])
        for name, arm in without.items()
    }
    seeds = [int(seed) for seed in row["seeds"]]
    sizes = {str(seed): parts.removal(donors.run("grokked", seed)[-1]) for seed in seeds}
    return {"removal": {"others - cluster": row, "cost of": costs, "removed": sizes}}


def progress(runs: findings.Runs, donors: "Donors") -> list[dict[str, Any]]:
    """Per donor run: test accuracy of each checkpoint, and what its frozen body reaches on T0.

    `rank_correlation` is Spearman's over checkpoints (a description of one run, not a test);
    `half_by` the first checkpoints at which either has passed .5 of its own way from the first to
    the last checkpoint.
    """
    found = []
    for seed in sorted({seed for _, seed in runs}):
        reached = {
            int(arm.step): findings.outcome(run)["test_acc"]
            for (arm, s), run in runs.items()
            if s == seed and arm.step is not None
        }
        rows = {row["step"]: row["test_acc"] for row in donors.run("grokked", seed).evaluations()}
        steps = sorted(step for step in reached if step in rows)
        if len(steps) < 3:
            continue
        transfer, own = [reached[s] for s in steps], [rows[s] for s in steps]
        correlation: Any = stats.spearmanr
        found.append(
            {
                "seed": seed,
                "steps": steps,
                "transfer_acc": transfer,
                "test_acc": own,
                "rank_correlation": float(correlation(transfer, own).statistic),
                "half_by": {"transfer": _half(steps, transfer), "test": _half(steps, own)},
            }
        )
    return found


def _half(steps: Sequence[int], values: Sequence[float]) -> int:
    low, high = values[0], values[-1]
    return next(s for s, v in zip(steps, values, strict=True) if v >= low + LEVEL * (high - low))


def of_mainline(runs: findings.Runs, donors: "Donors | None") -> dict[str, Any]:
    """The main contrast at p = 113: every seed, without an interval over two of them."""
    if not runs or donors is None:
        return {}
    grokked = frozen_body("T0", "grokked")
    others = {arm.donor: arm for arm, _ in runs if arm != grokked}
    found = {name: findings.contrast(runs, grokked, [arm]) for name, arm in others.items()}
    return {"donors": donors.facts(), "arms": findings.table(runs, HORIZON), "contrasts": found}


def show(found: Mapping[str, Any]) -> None:
    """The paragraph, then the tables."""
    import pandas as pd

    print(found["paragraph"])
    for name, one in found["verdict"].items():
        print(f"  {name}: {one['holds']}; {one['because']}")
    mainline = found["mainline"].get("arms", [])
    for title, rows in (("", found["arms"]), ("p = 113", mainline)):
        if rows:
            print(title)
            print(pd.DataFrame(rows)[list(SHOWN)].round(3).to_string(index=False))
    for target, rows in found["contrasts"].items():
        flat = rows if "difference" not in rows else {"": rows}
        for control, row in flat.items():
            print(f"  {target}, frozen grokked - {control}: {findings.shown(row)}")
    for name, one in found["mechanism"].items():
        print(f"  {name}: {json.dumps(one.get('mean', one.get('others - cluster')))}")
    for one in found["progress"]:
        print(
            f"  progress, seed {one['seed']}: rank correlation {one['rank_correlation']:.2f}, "
            f"half way by step {one['half_by']['transfer']} (transfer), {one['half_by']['test']} "
            f"(test)"
        )


def record(
    found: Mapping[str, Any], sets: Mapping[str, findings.Runs], expected: Path, figures: Path
) -> None:
    """Write expected.json, and the pictures with the digests of their runs."""
    from _transfer_figures import arms_figure, others_figure, progress_figure

    from mechgrok.figures import save_sweep_picture

    expected.write_text(json.dumps(found, indent=1) + "\n")
    command = "python experiments/circuit_transfer.py --record"
    core = list(sets["core"].values())
    if core:
        drawn = arms_figure(found["arms"])
        print(save_sweep_picture(drawn, figures / "circuit_transfer", core, command, recorded=True))
    others = [run for name in sets if name not in ("core", *APART) for run in sets[name].values()]
    if others:
        drawn, stem = others_figure(found["arms"]), figures / "circuit_transfer_others"
        print(save_sweep_picture(drawn, stem, others, command, recorded=True))
    if found["progress"]:
        drawn, runs = progress_figure(found["progress"]), list(sets["progress"].values())
        stem = figures / "circuit_transfer_progress"
        print(save_sweep_picture(drawn, stem, runs, command, recorded=True))
