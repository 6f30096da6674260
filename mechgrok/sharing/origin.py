"""What an imported run says of the file it was made of: its split, its curves, what it lacks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mechgrok.models.published import Origin, Published
from mechgrok.runs import layout
from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError


@dataclass(frozen=True)
class Split:
    """Which rows the model was trained on, and how that is known."""

    seed: int
    """Of the shuffle (`task.split` nanda2023)."""
    frac_train: float
    """Share of all rows."""
    how: str
    """Recovered, given or as stored."""


def refuse_used(directory: Path) -> None:
    """Raise RunError for a directory that holds a run, or part of one."""
    if (directory / "config.yaml").exists() or (directory / "metrics.jsonl").exists():
        raise RunError(f"{directory} holds a run already; give another --run")
    if directory.exists() and layout.steps(directory, "checkpoints"):
        raise RunError(f"{directory} has checkpoints already; give another --run")


def describe(run: Run) -> str:
    """What was imported, in a few lines for a terminal."""
    if "imported" not in run.provenance:
        shared = run.provenance["shared"]
        said = f"run {shared['run']}, exported by mechgrok {shared['exported_by']}"
        counted = f"{len(run)} checkpoints, {run.status['state']} at step {run.status['step']:,}"
        return f"{run.path}: {said}; {counted}\nnext: mechgrok report {run.path}"
    facts, task = run.provenance["imported"], run.task
    split = facts["split"]
    lines = [
        f"{run.path}: {facts['file']} ({facts['format']}), {task.config.operation} mod {task.n}",
        f"split: seed {split['seed']}, fraction {split['frac_train']:g} ({split['how']})",
        *(f"contradiction: {said}" for said in facts["contradictions"]),
        *(f"not stored: {what}" for what in facts["not_stored"]),
        f"next: mechgrok report {run.path}",
    ]
    return "\n".join(lines)


def rows(origin: Origin) -> list[dict[str, float]]:
    """Stored losses at the epochs where both are stored; nothing is filled in."""
    train, test = (origin.losses.get(split, ()) for split in ("train", "test"))
    if not train or not test or origin.test_stride is None:
        return []
    steps = range(0, len(train), origin.test_stride)
    return [
        {"step": step, "train_loss": train[step], "test_loss": loss}
        for step, loss in zip(steps, test, strict=True)
    ]


def facts(published: Published, split: Split) -> dict[str, Any]:
    """What provenance.json says of the file."""
    origin = published.origin
    said = origin.config
    contradictions = [
        f"config {name} {said[name]}, but the run has {value} ({split.how})"
        for name, value in (("seed", split.seed), ("frac_train", split.frac_train))
        if name in said and said[name] != value
    ]
    return {
        "file": origin.file,
        "format": origin.format,
        "sha256": origin.sha256,
        "config": dict(said),
        "optimizer": dict(origin.optimizer),
        "contradictions": [*origin.contradictions, *contradictions],
        "split": vars(split),
        "losses": _losses_said(origin),
        "not_stored": _not_stored(origin),
    }


def _losses_said(origin: Origin) -> str:
    if not rows(origin):
        return "no curve stored; the one evaluation was made at import"
    return (
        f"as stored, before each epoch's update, at every {origin.test_stride} epochs, where both "
        f"are stored; the last evaluation precedes the weights"
    )


def _not_stored(origin: Origin) -> list[str]:
    """What a run has and the file has not; its config.yaml holds a default there."""
    lacking = ["accuracies over training", "learning rate and seconds per evaluation"]
    lacking += ["warm-up", "seed of the initial weights", "checkpoints before the last"]
    if not origin.optimizer:
        lacking.append("optimizer: lr, weight_decay, betas and eps are defaults")
    if origin.steps is None:
        lacking.append("number of updates: step 0 stands for the end")
    if "fn_name" not in origin.config:
        lacking.append("operation: taken to be addition")
    return lacking
