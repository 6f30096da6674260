"""openai/grok's settings as published: the same losses as a plain loop, and what three runs do.

    python experiments/openai_grok.py                     # all parts; trains what is not there
    python experiments/openai_grok.py s5                  # two minutes
    python experiments/openai_grok.py power2022_division  # 20,000 steps, about half an hour
    python experiments/openai_grok.py --small             # seconds, to see that it runs

Parts: `s5` trains `power2022_s5` for 100 steps beside a loop in plain torch that shares no code
with the package (own equations, forward, AdamW and warm-up) and starts from the same weights;
`spectral_add40` (seed 47, weight decay 1) and `power2022_division` (seed 0, cut at 20,000 steps;
published to a million) are one run each. `--spectral RUN` and `--division RUN` take runs that are
there already. One seed each: what is seen is one draw, not a rate.

Rival predictions, written before it ran:
- s5. Same algorithm: losses differ by rounding only, so float64 is at least a thousand times closer
  than float32, and below 1e-9. Another algorithm (decay, shuffle, warm-up, composition): a
  difference that float64 does not remove.
- spectral_add40, the plateau of validation accuracy before generalising. Commutativity: rows whose
  swapped twin is trained on are mostly right and the others at chance (about .01). Partial circuit:
  both kinds are equally often right.
- power2022_division without weight decay. As figure 1 of the paper: memorised within 1,000 steps
  and validation still far from .99 at 20,000 (they show about 1e5 to 1e6). Half of the table is
  much: generalised by 20,000.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechgrok.cli import explain_errors
from mechgrok.config import ConfigError

if TYPE_CHECKING:
    from mechgrok.runs.run import Run

EXPECTED = Path(__file__).with_suffix(".expected.json")
FIGURE = Path(__file__).parents[1] / "figures" / "openai_grok"
COMMAND = "python experiments/openai_grok.py --record"
RUNS: Mapping[str, tuple[int, Mapping[str, Any]]] = {
    "spectral_add40": (47, {}),
    "power2022_division": (0, {"stop.max_steps": 20_000}),
}
"""Seed and changed settings of each run."""
PARTS = ("s5", *RUNS)
FALL = 0.95
"""Train accuracy below which a run that has memorised counts as thrown back (a slingshot)."""
HALF = 0.5
"""The plateau ends where validation accuracy stays at or above this for three evaluations."""
TINY = {"model.d_model": 32, "model.d_mlp": 64}


@explain_errors
def main(arguments: Sequence[str]) -> None:
    """Train or open the runs of the parts, print and keep what they did."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all without any")
    parser.add_argument("--runs", type=Path, default=Path("results"), help="where runs are kept")
    parser.add_argument("--spectral", type=Path, help="a spectral_add40 run that is there already")
    parser.add_argument("--division", type=Path, help="the same for power2022_division")
    parser.add_argument("--small", action="store_true", help="a few steps of a small model")
    parser.add_argument("--record", action="store_true", help=f"write {EXPECTED.name}, a picture")
    asked = parser.parse_args(list(arguments))
    parts = asked.parts or list(PARTS)
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise ConfigError(f"unknown part {unknown[0]!r}; expected some of {list(PARTS)}")
    given = {"spectral_add40": asked.spectral, "power2022_division": asked.division}
    found: dict[str, Any] = {"s5": beside_the_reference(asked)} if "s5" in parts else {}
    runs = {part: opened(asked, part, given[part]) for part in RUNS if part in parts}
    found |= {part: row(run) for part, run in runs.items()}
    show(found)
    if asked.record:
        record(found, runs)


def beside_the_reference(asked: argparse.Namespace) -> dict[str, Any]:
    """Largest differences of losses and final weights, in float32 and in float64."""
    steps, every = (4, 2) if asked.small else (100, 10)
    return {dtype: compared(asked, dtype, steps, every) for dtype in ("float32", "float64")}


def compared(asked: argparse.Namespace, dtype: str, steps: int, every: int) -> dict[str, Any]:
    """Our run's losses and the plain loop's, from the same weights and in the same order."""
    import _plain_grok
    import torch
    from tqdm import tqdm

    from mechgrok.training.trainer import train

    changes = {
        "model.dtype": dtype,
        "loss.dtype": dtype,
        "stop.max_steps": steps,
        "schedule.evaluate_every": every,
        "schedule.checkpoints": ["at 0"],
        **(TINY if asked.small else {}),
    }
    path = asked.runs / f"power2022_s5__{dtype}__seed0"
    ours = train("power2022_s5", seed=0, run=path, overrides=changes)
    threads = torch.get_num_threads()
    torch.set_num_threads(ours.provenance["threads"])
    weights = _plain_grok.their_names(ours.checkpoint(0).model)
    plain = _plain_grok.train(weights, steps, every, ours.config.seeds.batch)
    theirs = list(tqdm(plain, total=steps // every + 1, desc=f"plain torch, {dtype}"))
    torch.set_num_threads(threads)
    names = ("train_loss", "test_loss")
    pairs = zip(ours.evaluations(), theirs, strict=True)
    differences = [abs(a[n] - b[n]) for a, b in pairs for n in names]
    final = _plain_grok.their_names(ours[-1].model)
    return {
        "steps": steps,
        "largest_loss_difference": max(differences),
        "largest_weight_difference": max(
            float((weights[name] - w).abs().max()) for name, w in final.items()
        ),
        "ours": [{n: e[n] for n in ("step", *names)} for e in ours.evaluations()],
        "reference": theirs,
    }


def opened(asked: argparse.Namespace, part: str, given: Path | None) -> "Run":
    """A given run of the part's preset, or the part's own run, trained or resumed."""
    from _recorded import run_of

    from mechgrok.training.trainer import train

    if given is not None:
        return run_of(part, given)
    seed, changes = RUNS[part]
    if asked.small:
        changes = {**TINY, "stop.max_steps": 6, "schedule.evaluate_every": 2}
    return train(part, seed=seed, run=asked.runs / f"{part}__seed{seed}", overrides=changes)


def row(run: "Run") -> dict[str, Any]:
    """What one run did; a moment that was not reached is censored at the last step."""
    times, rows, status = run.measure("times"), run.evaluations(), run.status
    peak = max(rows, key=lambda e: e["test_loss"])
    best = max(rows, key=lambda e: e["test_acc"])
    return {
        "run": run.name,
        "seed": run.seed,
        "weight_decay": getattr(run.config.optim, "weight_decay", None),
        "last_step": rows[-1]["step"],
        "ended": status["reason"],
        "trigger": status["trigger"],
        "memorised_interval": known(times["memorised_interval"]),
        "generalised_interval": known(times["generalised_interval"]),
        "generalised_fell_back_at": known(times["generalised_fell_back_at"]),
        "grokked": times["grokked"],
        "slingshots": slingshots(rows, run.status["reached"].get("memorised")),
        "plateau": plateau(run),
        "highest_test_acc": {"step": best["step"], "test_acc": best["test_acc"]},
        "peak_test_loss": {"step": peak["step"], "test_loss": peak["test_loss"]},
        "final": {n: x for n, x in rows[-1].items() if n.startswith(("train_", "test_"))},
        "machine": run.provenance["machine"],
        "threads": run.provenance["threads"],
    }


def known(value: Any) -> Any:
    """A value, or the reason why there is none."""
    return getattr(value, "reason", value)


def slingshots(
    rows: Sequence[Mapping[str, Any]], memorised: int | None
) -> list[dict[str, Any]] | None:
    """Stretches of evaluations after memorising with train accuracy below .95, and their depths.

    None for a run that has not memorised. Thilak et al. (2022, arXiv 2206.04817) describe such
    instabilities of Adam late in training as slingshots.
    """
    if memorised is None:
        return None
    after = [e for e in rows if e["step"] > memorised]
    stretches = [list(part) for low, part in groupby(after, lambda e: e["train_acc"] < FALL) if low]
    deepest = [min(part, key=lambda e: e["train_acc"]) for part in stretches]
    return [
        {
            "first": part[0]["step"],
            "last": part[-1]["step"],
            "lowest_at": low["step"],
            "train_acc": low["train_acc"],
        }
        for part, low in zip(stretches, deepest, strict=True)
    ]


def plateau(run: "Run") -> dict[str, Any] | None:
    """Validation accuracy from memorising until half is right, by swapped twin; None without.

    Medians over evaluations, and their range; an evaluation is not an independent draw.
    """
    start, end = run.status["reached"].get("memorised"), run.crossing("test_acc", HALF)
    before = [e for e in run.evaluations() if start is not None and e["step"] >= start]
    before = [e for e in before if end is None or e["step"] < end.by]
    if not before:
        return None
    names = [n for n in ("test_acc", "test_acc_twin", "test_acc_no_twin") if n in before[0]]
    columns = {name: [e[name] for e in before] for name in names}
    twin = run.task.tags["twin_in_train"][run.task.splits["test"]]
    return {
        "from": before[0]["step"],
        "to": before[-1]["step"],
        "evaluations": len(before),
        "median": {name: statistics.median(values) for name, values in columns.items()},
        "range": {name: [min(values), max(values)] for name, values in columns.items()},
        "share_of_rows_with_twin_in_training": float(twin.double().mean()),
    }


def show(found: Mapping[str, Any]) -> None:
    """One line per number."""
    for dtype, one in found.get("s5", {}).items():
        print(
            f"s5, {one['steps']} steps in {dtype}: losses within "
            f"{one['largest_loss_difference']:.2e} of the plain loop, weights within "
            f"{one['largest_weight_difference']:.2e}"
        )
    for part in RUNS:
        if part in found:
            print(f"\n{part}, n = 1 run")
            for name, value in found[part].items():
                print(f"  {name:<26} {json.dumps(value)}")


def record(found: Mapping[str, Any], runs: "Mapping[str, Run]") -> None:
    """Keep the parts; the picture is drawn when both runs are there."""
    from _openai_grok_picture import draw

    from mechgrok.figures import save_sweep_picture

    stored = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {}
    kept = {part: {**stored, **found}[part] for part in PARTS if part in {**stored, **found}}
    EXPECTED.write_text(json.dumps(kept, indent=1) + "\n")
    if len(runs) == len(RUNS):
        print(save_sweep_picture(draw(runs), FIGURE, runs.values(), COMMAND))
    else:
        print("no picture: it needs both runs in one call")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
