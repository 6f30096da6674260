"""Do progress measures move before test loss and margin do, and does the claim stand its checks?

    python experiments/leads.py RUN [RUN...] --control RUN [RUN...] [--record]
    python experiments/leads.py --small                        # smoke_p17 for 400 steps

`--control` are runs that do not grok, such as those of ablation_controls.py: without weight decay,
and with random labels and the same decay (to which losses in a + b do not apply). A lead stands if
it is there at every threshold, over test loss and over test margin, also in the run cut just before
they move, and if the measure stays still in the control.

Rival predictions, written before it ran. Progress measures (Nanda et al. 2023, section 5): all of
them stand. Hindsight (arXiv 2604.13123): those that need the final keys fail in the cut run, and
measures of sparsity move later than test loss. Decay alone: whatever moves early moves in the
control as well, so that nothing stands.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mechgrok.cli import explain_errors
from mechgrok.config import ConfigError

EXPECTED = Path(__file__).with_suffix(".expected.json")


@explain_errors
def main(arguments: Sequence[str]) -> None:
    """Measure the leads of every run against the control, print and save them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", nargs="*", type=Path, help="run directories")
    parser.add_argument("--control", nargs="+", type=Path, help="runs that do not grok")
    parser.add_argument("--small", action="store_true", help="smoke_p17 for 400 steps")
    parser.add_argument("--runs", type=Path, default=Path("results"), help="where --small trains")
    parser.add_argument("--record", action="store_true", help=f"write {EXPECTED.name}")
    asked = parser.parse_args(list(arguments))
    if asked.small:
        asked.run, asked.control = [_small(asked.runs, 0)], [_small(asked.runs, 1)]
    if not asked.run or not asked.control:
        raise ConfigError("got no run or no --control; expected run directories for both")
    found = [leads(path, control) for control in asked.control for path in asked.run]
    for one in found:
        show(one)
    if asked.record:
        EXPECTED.write_text(json.dumps(found, indent=1) + "\n")


def _small(runs: Path, seed: int) -> Path:
    from mechgrok.training.trainer import train

    changes = {"stop.max_steps": 400, "schedule.checkpoints": ["at 0", "every 50"]}
    path = runs / f"smoke_p17__seed{seed}"
    return train("smoke_p17", seed=seed, run=path, overrides=changes).path


def leads(path: Path, control: Path) -> dict[str, Any]:
    """What `lead` finds in one run."""
    from mechgrok.runs.result import NotApplicable
    from mechgrok.runs.run import Run

    result = Run(path).measure("lead", control=Run(control))
    values = {
        name: value.reason if isinstance(value, NotApplicable) else value
        for name, value in result.values.items()
    }
    return {"run": Run(path).name, "control": Run(control).name, "values": values}


def show(found: Mapping[str, Any]) -> None:
    """One line per value."""
    print(f"\n{found['run']} against {found['control']}, n = 1 run")
    for name, value in found["values"].items():
        print(f"  {name:<72} {value}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
