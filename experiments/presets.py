"""What each preset does, over seeds, against the bands of earlier recorded runs.

    python experiments/presets.py quick --seeds 0:5        # train, table, check the bands
    python experiments/presets.py smoke_p17 --record       # add the runs to presets.expected.json
    python experiments/presets.py --small                  # smoke_p17 for 100 steps
    python experiments/presets.py spectral_add40 --from RUN [RUN...] --record   # runs there already

A band says what must be seen, not at which step: grokking time varies with seed, machine and number
of threads. A preset that is not expected to grok is recorded as the negative it is.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _recorded import run_of

from mechgrok.cli import explain_errors
from mechgrok.config import ConfigError

if TYPE_CHECKING:
    from mechgrok.runs.run import Run

EXPECTED = Path(__file__).with_suffix(".expected.json")


@explain_errors
def main(arguments: Sequence[str]) -> None:
    """Train or resume the runs, print the table, check the bands."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("preset", nargs="?", default="smoke_p17")
    parser.add_argument("--seeds", default="0:1", help="first:end, or a comma-separated list")
    parser.add_argument("--runs", type=Path, default=Path("results"), help="where runs are kept")
    parser.add_argument(
        "--from", dest="given", nargs="+", type=Path, help="finished run directories, not trained"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="100 steps, no bands")
    parser.add_argument("--record", action="store_true", help=f"write {EXPECTED.name}")
    asked = parser.parse_args(list(arguments))
    if asked.given:
        rows = [described(run_of(asked.preset, path)) for path in asked.given]
    else:
        rows = [described(trained(asked, seed)) for seed in seeds(asked.seeds)]
    show(asked.preset, rows)
    if asked.small:
        return
    expected = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {}
    entry = expected.setdefault(asked.preset, {"bands": {}, "runs": []})
    if asked.record:
        known = {row["seed"]: row for row in [*entry["runs"], *rows]}
        entry["runs"] = [known[seed] for seed in sorted(known)]
        EXPECTED.write_text(json.dumps(expected, indent=1) + "\n")
    failed = outside(entry["bands"], rows)
    if failed:
        raise ConfigError(f"{asked.preset} left its bands: " + "; ".join(failed))
    print(f"{len(rows)} runs inside {len(entry['bands'])} bands")


def seeds(text: str) -> list[int]:
    """`0:5` or `0,3,7` as a list."""
    first, colon, end = text.partition(":")
    return list(range(int(first), int(end))) if colon else [int(part) for part in text.split(",")]


def trained(asked: argparse.Namespace, seed: int) -> "Run":
    """Train or resume one run."""
    from mechgrok.training.trainer import train

    changes: dict[str, Any] = {"threads": asked.threads}
    if asked.small:
        changes["stop.max_steps"] = 100
    path = asked.runs / f"{asked.preset}__seed{seed}"
    return train(asked.preset, seed=seed, run=path, overrides=changes)


def described(run: "Run") -> dict[str, Any]:
    """What is kept of a run; a moment that was not reached, or does not apply, is None."""
    from mechgrok.runs.result import NotApplicable

    last, status = run.evaluations()[-1], run.status
    circuit = {
        "keys": run.measure("key_frequencies")["freqs"],
        "top5_share": run.measure("spectra").headline,
        "ablation_check": run.measure("frequency_ablation")["passed"],
    }
    absent = {n: x.reason for n, x in circuit.items() if isinstance(x, NotApplicable)}
    return {
        "seed": run.seed,
        "memorised": status["reached"].get("memorised"),
        "generalised": status["reached"].get("generalised"),
        "steps": last["step"],
        "ended": status["reason"],
        "train_acc": last["train_acc"],
        "test_acc": last["test_acc"],
        **{name: None if name in absent else value for name, value in circuit.items()},
        **({"does_not_apply": absent} if absent else {}),
        "machine": run.provenance["machine"],
        "threads": run.provenance["threads"],
    }


def outside(bands: dict[str, Any], rows: Sequence[dict[str, Any]]) -> list[str]:
    """Bands that do not hold; each says how many of the runs must be inside."""
    failed: list[str] = []
    for name, band in bands.items():
        low, high = band["between"]
        inside = sum(row[name] is not None and low <= row[name] <= high for row in rows)
        share = inside / len(rows)
        if share < band["share"]:
            failed.append(f"{name} in {low}..{high} for {inside} of {len(rows)}")
    return failed


def show(preset: str, rows: Sequence[dict[str, Any]]) -> None:
    """One line per run."""
    columns = ("seed", "memorised", "generalised", "steps", "test_acc", "top5_share")
    columns += ("ablation_check", "keys")
    print(preset)
    print("  ".join(f"{name:>12}" for name in columns))
    for row in rows:
        cells = [f"{row[n]:.3f}" if isinstance(row[n], float) else str(row[n]) for n in columns]
        print("  ".join(f"{cell:>12}" for cell in cells))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
