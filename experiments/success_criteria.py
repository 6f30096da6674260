"""Has a run grokked by every criterion, and do runs that must not pass fail where they should?

    python experiments/success_criteria.py RUN                # pass or fail, and the files of C5
    python experiments/success_criteria.py RUN --step 0       # the same of the untrained model
    python experiments/success_criteria.py RUN [RUN...] --record   # into the recorded table
    python experiments/success_criteria.py --small            # smoke_p17 for 100 steps

C1 grokking curve, C2 spectrum, C3 ablation with controls (on the split that the model solves), C4
progress measures at every checkpoint, C5 the files, in RUN/success_criteria unless `--out` says
where. C4 and C5 ask whether something is there, so a run that did not grok may pass them.

What must fail, written before it ran. Everything that did not grok fails C1 and C3. The untrained
model and the one without weight decay fail C2 as well. Random labels fail C4: no answer is a + b.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mechgrok.cli import explain_errors
from mechgrok.config import ConfigError, RunConfig

EXPECTED = Path(__file__).with_suffix(".expected.json")
FOLDER = "success_criteria"
GROKS = ("nanda2023_mainline", "tl_grokking_demo", "quick", "two_layer_canonical")
MUST_FAIL: Mapping[str, tuple[str, ...]] = {
    "grokked": (),
    "untrained": ("C1", "C2", "C3"),
    "random labels": ("C1", "C3", "C4"),
    "weight decay 0": ("C1", "C2", "C3"),
    "two_layer_literal": ("C1", "C3"),
    "smoke_p17": ("C1", "C3"),
    "clean_p47": ("C1", "C3"),
}
"""Criteria that must fail, by what a run is; all others are free, and of a grokked run all hold."""


@explain_errors
def main(arguments: Sequence[str]) -> None:
    """Judge the runs, print every line, export, and check or record the verdicts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", nargs="*", type=Path, help="run directories")
    parser.add_argument("--step", type=int, default=None, help="the run as it was at this step")
    parser.add_argument("--out", type=Path, default=None, help="folder for the files of C5")
    parser.add_argument("--small", action="store_true", help="smoke_p17 for 100 steps")
    parser.add_argument("--runs", type=Path, default=Path("results"), help="where --small trains")
    parser.add_argument("--record", action="store_true", help=f"write {EXPECTED.name}")
    asked = parser.parse_args(list(arguments))
    if asked.small:
        asked.run = [_small(asked.runs)]
    if not asked.run:
        raise ConfigError("got no run; expected run directories, such as results/quick__seed0")
    rows = [judged(path, asked.step, asked.out) for path in asked.run]
    table(rows)
    if asked.small:
        return
    recorded = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {}
    wrong = [line for row in rows for line in contradictions(row, recorded.get(row["name"]))]
    if asked.record and not wrong:
        found = recorded | {row["name"]: row for row in rows}
        EXPECTED.write_text(json.dumps(dict(sorted(found.items())), indent=1) + "\n")
    if wrong:
        raise ConfigError("not as it must be: " + "; ".join(wrong))


def _small(runs: Path) -> Path:
    from mechgrok.training.trainer import train

    changes = {"stop.max_steps": 100}
    return train("smoke_p17", seed=0, run=runs / "smoke_p17__seed0", overrides=changes).path


def judged(path: Path, step: int | None, out: Path | None) -> dict[str, Any]:
    """Every criterion of one run, printed, and what is recorded of it."""
    from _criteria import judge
    from _exported import copy_run, export

    from mechgrok.report import follow
    from mechgrok.runs.run import Run

    run = Run(path)
    name = run.name if step is None else f"{run.name}__step_{step}"
    folder = (out or path / FOLDER) / name
    if step is not None:
        run = copy_run(run, folder, step)
    follow(run)
    criteria = {**judge(run), "C5 files": export(run, folder)}
    kind = kind_of(run.config, run.steps[-1])
    print(f"\n{name}: {kind or 'no expectation'}, step {run.steps[-1]:,}, seed {run.seed}, n = 1")
    for criterion, lines in criteria.items():
        print(f"{'pass' if all(line.holds for line in lines) else 'FAIL'}  {criterion}")
        print("\n".join(map(str, lines)))
    print(f"files: {folder}")
    return _row(name, kind, run, criteria)


def _row(name: str, kind: str | None, run: Any, criteria: Mapping[str, Any]) -> dict[str, Any]:
    from _criteria import shown

    return {
        "name": name,
        "kind": kind,
        "seed": run.seed,
        "step": run.steps[-1],
        "passed": {c[:2]: all(line.holds for line in lines) for c, lines in criteria.items()},
        "numbers": {
            c[:2]: {line.what: shown(line.number) for line in lines}
            for c, lines in criteria.items()
        },
        "controls": {c[:2]: [line.control for line in lines] for c, lines in criteria.items()},
        "machine": run.provenance["machine"],
        "threads": run.provenance["threads"],
    }


def kind_of(config: RunConfig, step: int) -> str | None:
    """What a run is in `MUST_FAIL`; None for settings about which nothing is expected."""
    from mechgrok.options import differences
    from mechgrok.presets import NAMES, preset

    if config.preset not in NAMES:
        return None
    parts = ("task.", "model.", "loss.", "optim.")
    changed = {
        name: new
        for name, (_, new) in differences(preset(config.preset), config).items()
        if name.startswith(parts)
    }
    known = {"task.operation": "random_labels"}, {"optim.weight_decay": 0.0}
    if changed and changed not in known:
        return None
    if step == 0:
        return "untrained"
    if changed:
        return "random labels" if "task.operation" in changed else "weight decay 0"
    return "grokked" if config.preset in GROKS else config.preset


def contradictions(row: Mapping[str, Any], recorded: Mapping[str, Any] | None) -> list[str]:
    """Verdicts that are not what this kind of run must have, or not those recorded."""
    wrong = []
    for criterion, passed in row["passed"].items():
        if row["kind"] == "grokked" and not passed:
            wrong.append(f"{row['name']} fails {criterion}")
        if passed and criterion in MUST_FAIL.get(row["kind"], ()):
            wrong.append(f"{row['name']} passes {criterion}, which {row['kind']} must fail")
        if recorded is not None and recorded["step"] == row["step"]:
            before = recorded["passed"][criterion]
            if before != passed:
                wrong.append(f"{row['name']} {criterion}: passed {passed}, recorded {before}")
    return wrong


def table(rows: Sequence[Mapping[str, Any]]) -> None:
    """One line per run; a verdict in brackets is one that must be."""
    print(f"\n{'run':<44}" + "".join(f"{c:>8}" for c in rows[0]["passed"]))
    for row in rows:
        must = MUST_FAIL.get(row["kind"], ())
        sure = {c: row["kind"] == "grokked" or c in must for c in row["passed"]}
        words = {c: "pass" if passed else "FAIL" for c, passed in row["passed"].items()}
        cells = [f"({word})" if sure[c] else word for c, word in words.items()]
        print(f"{row['name']:<44}" + "".join(f"{cell:>8}" for cell in cells))
    print("in brackets: what this kind of run must show")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
