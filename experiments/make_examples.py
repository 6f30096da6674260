"""The runs inside the package: a finished run cut to eight checkpoints.

    mechgrok train --preset quick --seed 0 --run results/quick__seed0
    python experiments/make_examples.py results/quick__seed0 --name quick
    mechgrok train --preset nanda2023_mainline --seed 0 --run results/nanda2023_mainline__seed0
    python experiments/make_examples.py results/nanda2023_mainline__seed0 --name nanda2023_mainline

Seconds each, beside the training. Kept are the first checkpoint, the one that has memorised, one
half way from there to generalising, three along the rise of test accuracy, the one that has
generalised, and the last; `mechgrok/examples/NAME/SHA256SUMS` holds their digests. The same run
gives the same files but for the versions in the card.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from mechgrok.cli import explain_errors
from mechgrok.examples import FOLDER, load_example, names
from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError
from mechgrok.sharing import export_run

RISE = (0.25, 0.5, 0.75)
"""Test accuracies of the checkpoints along the rise."""
LIMIT = 25_000_000
"""Bytes of all examples together."""


def moments(run: Run) -> list[int]:
    """Steps of the checkpoints that are kept; raises RunError for a run without them."""
    memorised, generalised = run.at("memorised").step, run.at("generalised").step
    accuracy = {row["step"]: row["test_acc"] for row in run.evaluations()}
    between = [s for s in run.steps if memorised < s < generalised and s in accuracy]
    if not between:
        raise RunError(f"{run.path} has no checkpoint between memorising and generalising")
    half = min(between, key=lambda s: abs(s - (memorised + generalised) / 2))
    rise = [min(between, key=lambda s, at=at: abs(accuracy[s] - at)) for at in RISE]
    return sorted({run.steps[0], memorised, half, *rise, generalised, run.steps[-1]})


def make(run: Run, name: str, folder: Path) -> Path:
    """Write the example anew; raises RunError for a run that is not finished, and beyond LIMIT."""
    if run.status["state"] != "finished":
        raise RunError(f"{run.path} is {run.status['state']}; expected a finished run")
    new = folder / f".{name}.new"
    shutil.rmtree(new, ignore_errors=True)
    export_run(run, new, moments(run), data=False)
    others = [p for p in folder.rglob("*") if p.is_file() and (folder / name) not in p.parents]
    size = sum(path.stat().st_size for path in others)
    if size > LIMIT:
        shutil.rmtree(new)
        raise RunError(f"the examples would take {size:,} bytes, more than {LIMIT:,}")
    shutil.rmtree(folder / name, ignore_errors=True)
    return new.rename(folder / name)


def main(arguments: Sequence[str]) -> None:
    """Make it, open it, say what it is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="a finished run that has generalised")
    parser.add_argument("--name", required=True, help="of the example; replaces one of that name")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the examples are")
    asked = parser.parse_args(list(arguments))
    made = make(Run(asked.run), asked.name, asked.folder)
    run = Run(made) if asked.folder != FOLDER else load_example(asked.name)
    size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
    print(f"{made}: {len(run)} checkpoints at {run.steps}, {size:,} bytes; examples: {names()}")


if __name__ == "__main__":
    sys.exit(explain_errors(main)(sys.argv[1:]))
