"""Does removing the key frequencies break a grokked model, and only that one?

    python experiments/ablation_controls.py            # p = 113, about 15 minutes on two cores
    python experiments/ablation_controls.py --small    # seconds, to see that it runs

Four models of one size go through one check (keys lose at least 90 points of accuracy; size-matched
controls, and all non-keys at once, lose at most 5): the grokked mainline, the same model untrained,
trained on random labels, and trained without weight decay. Each is judged on the split it solves,
the untrained one on the training split.

Rival predictions, written before it ran. If the check only asks whether frequencies matter, all
trained models pass it. If it finds a Fourier circuit, only the grokked one passes; the memorising
ones lose accuracy under the controls as well, and the untrained one has nothing to lose.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mechgrok.cli import explain_errors

EXPECTED = Path(__file__).with_suffix(".expected.json")
CONTROL_STEPS = 4_000
CASES: Mapping[str, Mapping[str, Any]] = {
    "grokked": {},
    "random_labels": {"task.operation": "random_labels", "stop.max_steps": CONTROL_STEPS},
    "weight_decay_0": {"optim.weight_decay": 0.0, "stop.max_steps": CONTROL_STEPS},
}
KEPT = (
    "passed",
    "failed_lines",
    "keys",
    "original_accuracy",
    "keys_points_lost",
    "controls_points_lost",
    "non_keys_points_lost",
    "keys_power_removed",
    "controls_power_removed",
)


@explain_errors
def main(arguments: Sequence[str]) -> None:
    """Train or resume the four models, check each, print and save the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("results"), help="where runs are kept")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small", action="store_true", help="smoke_p17 for 100 steps")
    parser.add_argument("--record", action="store_true", help=f"write {EXPECTED.name}")
    asked = parser.parse_args(list(arguments))
    found = {name: check(name, asked) for name in ("grokked", "untrained", *list(CASES)[1:])}
    show(found)
    if asked.record:
        EXPECTED.write_text(json.dumps(found, indent=1) + "\n")


def check(name: str, asked: argparse.Namespace) -> dict[str, Any]:
    """The ablation check of one model."""
    from mechgrok.training.trainer import train

    preset = "smoke_p17" if asked.small else "nanda2023_mainline"
    trained = "grokked" if name == "untrained" else name
    changes = dict(CASES[trained]) | ({"stop.max_steps": 100} if asked.small else {})
    suffix = "" if trained == "grokked" else f"__{name}"
    directory = asked.runs / f"{preset}__seed{asked.seed}{suffix}"
    run = train(preset, seed=asked.seed, run=directory, overrides=changes)
    step = 0 if name == "untrained" else run.steps[-1]
    result = run.measure("frequency_ablation", step=step)
    kept = {key: result.values[key] for key in KEPT}
    return {"step": step, "seed": run.seed, "split": result.definition["split"], **kept}


def show(found: Mapping[str, Mapping[str, Any]]) -> None:
    """One line per model, and below it the lines of the check that failed."""
    print(f"{'points lost by removing':<24} {'keys':>7} {'controls':>9} {'non-keys':>9}   check")
    for name, row in found.items():
        lost = [row[f"{what}_points_lost"] for what in ("keys", "controls", "non_keys")]
        verdict = "passes" if row["passed"] else "fails"
        print(f"{name:<24} {lost[0]:7.1f} {lost[1]:9.1f} {lost[2]:9.1f}   {verdict}")
        print(f"    on {row['split']}, accuracy {row['original_accuracy']:.3f}, step {row['step']}")
        for line in row["failed_lines"]:
            print(f"    failed: {line}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
