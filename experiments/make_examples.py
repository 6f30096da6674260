"""The runs inside the package: a run cut to a few checkpoints.

    mechgrok train --preset quick --seed 0 --run results/quick__seed0
    python experiments/make_examples.py results/quick__seed0 --name quick
    mechgrok train --preset nanda2023_mainline --seed 0 --run results/nanda2023_mainline__seed0
    python experiments/make_examples.py results/nanda2023_mainline__seed0 --name nanda2023_mainline
    python experiments/two_hop.py --stage pretrain --model trm --regime both_full,natural \
        --seeds 0 --compile
    python experiments/make_examples.py results/two_hop/two_hop_small/pretrain/both_full__seed0 \
        --name two_hop_both_full --steps 0,2000,3500,4750
    python experiments/make_examples.py results/two_hop/two_hop_small/pretrain/natural__seed0 \
        --name two_hop_natural --steps 0,2000,3500,4750

Seconds each, beside the training. Kept are the first checkpoint, the one that has memorised, one
half way from there to generalising, three along the rise of test accuracy, the one that has
generalised, and the last. With `--steps` it is these, of the run as `stop.max_steps` at the last of
them leaves it, so that it need not have finished. Of averaged weights, which are what a run is
evaluated with, the raw ones beside them are left out. `mechgrok/examples/NAME/SHA256SUMS` holds the
digests. The same run gives the same files but for the versions in the card.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mechgrok.cli import explain_errors
from mechgrok.examples import FOLDER, load_example, names
from mechgrok.options import override
from mechgrok.runs import layout
from mechgrok.runs.run import Run, write_config
from mechgrok.runs.storage import RunError, write_bytes, write_json, write_text
from mechgrok.sharing import export_run
from mechgrok.training.schedule import Progress

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


def cut(run: Run, steps: Sequence[int], folder: Path) -> Run:
    """The run as it is left by `stop.max_steps` at the last of some steps, with these checkpoints.

    Raises RunError for a step that has no checkpoint, and where the run was not evaluated last.
    """
    config = override(run.config, {"stop.max_steps": steps[-1]})
    rows = [row for row in run.evaluations() if row["step"] <= steps[-1]]
    absent = sorted(set(steps) - set(run.steps))
    if absent or not rows or rows[-1]["step"] != steps[-1]:
        last = rows[-1]["step"] if rows else "none"
        raise RunError(
            f"{run.path} has no checkpoint at {absent}, or was not evaluated at {steps[-1]} but at "
            f"{last}; its checkpoints are at {run.steps}"
        )
    progress = Progress.start()
    for row in rows:
        progress = progress.after(row, config.schedule.evaluate_every, config.stop.threshold)
    status = {
        "state": "finished",
        "step": steps[-1],
        "reason": progress.stop_reason(steps[-1], config.stop),
        "reached": dict(progress.reached),
        "trigger": progress.trigger(config.stop),
        "seconds": rows[-1]["seconds"],
        "steps": steps[-1],
    }
    for step in steps:
        there = layout.checkpoint(run.path, step)
        write_bytes(layout.checkpoint(folder, step), there.read_bytes())
    lines = (run.path / "metrics.jsonl").read_text().splitlines(keepends=True)
    write_text(folder / "metrics.jsonl", "".join(lines[: len(rows)]))
    write_json(folder / "provenance.json", run.provenance)
    write_json(folder / "status.json", status)
    write_config(folder / "config.yaml", config)
    return Run(folder)


def make(run: Run, name: str, folder: Path, steps: Sequence[int] | None = None) -> Path:
    """Write the example anew, of the moments or of some steps.

    Raises RunError beyond LIMIT, and without `steps` for a run that is not finished.
    """
    if steps is not None:
        with tempfile.TemporaryDirectory() as scratch:
            part = cut(run, steps, Path(scratch) / run.name)
            return _written(part, name, folder, part.steps)
    if run.status["state"] != "finished":
        raise RunError(f"{run.path} is {run.status['state']}; expected a finished run, or --steps")
    return _written(run, name, folder, moments(run))


def _written(run: Run, name: str, folder: Path, steps: Sequence[int]) -> Path:
    new = folder / f".{name}.new"
    shutil.rmtree(new, ignore_errors=True)
    export_run(run, new, steps, data=False, raw=run[-1].kind == "raw")
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
    parser.add_argument("run", type=Path, help="a run; without --steps one that has generalised")
    parser.add_argument("--name", required=True, help="of the example; replaces one of that name")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the examples are")
    parser.add_argument("--steps", help="0,2000,5000: checkpoints to keep; the moments")
    asked = parser.parse_args(list(arguments))
    steps = None if asked.steps is None else sorted({int(step) for step in asked.steps.split(",")})
    made = make(Run(asked.run), asked.name, asked.folder, steps)
    run = Run(made) if asked.folder != FOLDER else load_example(asked.name)
    size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
    print(f"{made}: {len(run)} checkpoints at {run.steps}, {size:,} bytes; examples: {names()}")


if __name__ == "__main__":
    sys.exit(explain_errors(main)(sys.argv[1:]))
