"""Every headline measure of the grokked mainline and of quick, run by run.

    python experiments/modadd_table.py                 # train or resume, table, check the bands
    python experiments/modadd_table.py --record        # make bands, expected.json and the picture
    python experiments/modadd_table.py --small         # smoke_p17 for 100 steps, no bands

The last checkpoint of three seeds of `nanda2023_mainline` and eight of `quick`; an interval over
runs from five runs on. Bands come from the first seeds of a preset, widened by a stated margin, and
are checked on the others: they say what a circuit looks like, not at which step it was there. Each
must leave the same model untrained outside, or it would say nothing. A run that has not grokked is
listed and not judged; at least three of four must grok.
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mechgrok.cli import explain_errors
from mechgrok.config import ConfigError

EXPECTED = Path(__file__).with_suffix(".expected.json")
PICTURE = Path(__file__).parents[1] / "figures" / "modadd_table"
BAND_SEEDS: Mapping[str, tuple[int, ...]] = {
    "quick": (0, 1, 2, 3),
    "nanda2023_mainline": (0,),
    "smoke_p17": (),
}
"""Seeds that the bands come from; the others are what they are checked on."""
GROK = 0.75
"""Least share of a preset's runs that must grok."""
ORDERED = "phases.in_order"
"""Memorisation, circuit formation and cleanup end in this order."""
EXTRA = (
    "times.memorised", "times.generalised", "times.ratio",
    "phases.memorisation_end", "phases.circuit_formation_end", "phases.cleanup_end",
    "losses.train_loss", "losses.test_accuracy",
    "restricted_loss.test", "restricted_loss.test_loss_over_restricted",
    "spectra.top5_share_W_U", "spectra.top5_share_W_L", "gini.W_L",
    "logit_cosines.fve_raw", "logit_cosines.fve_both",
    "rank_2k.residual_squared", "rank_2k.complement_loss",
    "spectra_2d.product_share_logits", "spectra_2d.leading_are_key_products",
    "attention_spectra.min_top_share_W_neur",
    "embedding_rank.control_participation_ratio",
    "frequency_ablation.passed", "frequency_ablation.keys_points_lost",
    "frequency_ablation.controls_points_lost", "frequency_ablation.non_keys_points_lost",
    "neuron_clusters.dead",
)  # fmt: skip
"""Values beside every measure's headline."""
NAMES_A_SPLIT = ("recover_split",)
"""Measures whose headline is a name, not an amount."""


@dataclass(frozen=True)
class Margin:
    """How a band is made of the runs it comes from."""

    side: Literal["at least", "at most"]
    """Where the band lies of its threshold."""
    by: float
    """How far beyond the worst of these runs the threshold is."""
    factor: bool = False
    """`by` divides or multiplies; otherwise it is added."""

    def threshold(self, values: Sequence[float]) -> float:
        """The worst value, widened."""
        if self.side == "at least":
            return min(values) / self.by if self.factor else min(values) - self.by
        return max(values) * self.by if self.factor else max(values) + self.by

    def holds(self, value: float, threshold: float) -> bool:
        """Whether a value is inside."""
        return value >= threshold if self.side == "at least" else value <= threshold


# Wide, because seeds differ in their number of keys, and one run says nothing about a spread.
MARGINS: Mapping[str, Margin] = {
    ORDERED: Margin("at least", 0),
    "times.ratio": Margin("at least", 2, factor=True),
    "losses.test_accuracy": Margin("at least", 0.04),
    "restricted_loss.all": Margin("at most", 100, factor=True),
    "excluded_loss.train": Margin("at least", 1.25, factor=True),
    "key_frequencies.n": Margin("at least", 2),
    "spectra.top5_share_W_E": Margin("at least", 0.25),
    "spectra.top5_share_W_U": Margin("at least", 0.25),
    "spectra.top5_share_W_L": Margin("at least", 0.25),
    "gini.W_E": Margin("at least", 0.25),
    "gini.W_L": Margin("at least", 0.25),
    "logit_cosines.fve_rows": Margin("at least", 0.2),
    "rank_2k.residual": Margin("at most", 3, factor=True),
    "spectra_2d.product_share_logits": Margin("at least", 0.2),
    "neuron_clusters.clustered_share": Margin("at least", 0.3),
    "embedding_rank.participation_ratio": Margin("at most", 2, factor=True),
    "frequency_ablation.passed": Margin("at least", 0),
    "frequency_ablation.keys_points_lost": Margin("at least", 5),
    "weight_norm.total": Margin("at most", 1.4, factor=True),
}


@explain_errors
def main(arguments: Sequence[str]) -> None:
    """Train or resume, measure, print the table, make or check the bands."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("results"), help="where runs are kept")
    parser.add_argument("--quick", type=int, default=8, help="seeds of quick, from 0 on")
    parser.add_argument("--mainline", type=int, default=3, help="seeds of the mainline")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="smoke_p17 for 100 steps")
    parser.add_argument("--record", action="store_true", help="bands, expected.json, picture")
    asked = parser.parse_args(list(arguments))
    counts = {"quick": asked.quick, "nanda2023_mainline": asked.mainline}
    if asked.small:
        counts = {"smoke_p17": 1}
    found = {
        name: [measured(name, seed, asked) for seed in range(n)] for name, n in counts.items() if n
    }
    expected = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {}
    if asked.record:
        expected = {name: recorded(name, rows) for name, rows in found.items()}
    for name, rows in found.items():
        show(name, rows, expected.get(name, {}).get("bands", {}))
    if asked.small:
        return
    if asked.record:
        EXPECTED.write_text(json.dumps(expected, indent=1, allow_nan=False) + "\n")
        from _modadd_picture import save

        save(expected, PICTURE, "python experiments/modadd_table.py --record")
    failed = [line for name, rows in found.items() for line in outside(name, rows, expected)]
    if failed:
        raise ConfigError("outside the bands: " + "; ".join(failed))
    print("inside every band")


def measured(preset: str, seed: int, asked: argparse.Namespace) -> dict[str, Any]:
    """Train one run, and every headline measure of its last and of its untrained model."""
    from mechgrok.report import all_measures, analyse
    from mechgrok.runs.storage import tensor_digest
    from mechgrok.training.trainer import train

    changes: dict[str, Any] = {"threads": asked.threads}
    if asked.small:
        changes["stop.max_steps"] = 100
    directory = asked.runs / f"{preset}__seed{seed}"
    run = train(preset, seed=seed, run=directory, overrides=changes)
    analyse(run)
    names = [name for name in all_measures() if name not in NAMES_A_SPLIT]
    results = {name: run.measure(name) for name in names}
    start = {name: run.measure(name, step=0) for name in results if results[name].step is not None}
    return {
        "run": run.name,
        "seed": seed,
        "step": run.steps[-1],
        "keys": results["key_frequencies"]["freqs"],
        "values": values(results),
        "untrained": values(start),
        "machine": run.provenance["machine"],
        "threads": run.provenance["threads"],
        "config": run.config.digest(),
        "weights": tensor_digest(run[-1].weights),
    }


def values(results: Mapping[str, Any]) -> dict[str, Any]:
    """Headlines and `EXTRA` by name; what does not apply is a string with the reason."""
    from mechgrok.runs.result import NotApplicable

    heads = [f"{name}.{next(iter(result.values))}" for name, result in results.items()]
    found: dict[str, Any] = {}
    for name in sorted({*heads, *(x for x in EXTRA if x.partition(".")[0] in results)}):
        measure, _, value = name.partition(".")
        x = results[measure].values.get(value, NotApplicable("the measure does not apply"))
        found[name] = f"does not apply: {x.reason}" if isinstance(x, NotApplicable) else x
    if "phases" in results:
        found[ORDERED] = _in_order(found)
    return found


def _in_order(found: Mapping[str, Any]) -> bool | str:
    names = ("memorisation", "circuit_formation", "cleanup")
    ends = [found[f"phases.{name}_end"] for name in names]
    absent = next((end for end in ends if isinstance(end, str)), None)
    return absent or ends[0] < ends[1] < ends[2]


def recorded(preset: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Runs, intervals over runs, and bands of the band seeds that grokked.

    Raises ConfigError for a band that the untrained model is inside of.
    """
    bands: dict[str, Any] = {}
    sources = [r for r in rows if r["seed"] in BAND_SEEDS[preset] and r["values"]["times.grokked"]]
    for name, margin in MARGINS.items():
        found = [row["values"].get(name) for row in sources]
        known = [float(x) for x in found if _is_number(x)]
        if not known:
            continue
        threshold = margin.threshold(known)
        starts = [row["untrained"].get(name) for row in rows]
        inside = [float(x) for x in starts if _is_number(x) and margin.holds(float(x), threshold)]
        if inside:
            raise ConfigError(
                f"{preset}: {name} {margin.side} {threshold:.4g} says nothing, since untrained "
                f"models have {inside[0]:.4g}; choose a smaller margin"
            )
        by = f"{'a factor' if margin.factor else 'plus or minus'} {margin.by:g}"
        bands[name] = {"side": margin.side, "threshold": threshold, "margin": by}
    intervals = {name: interval(rows, name) for name in rows[0]["values"]}
    return {
        "band_seeds": [row["seed"] for row in sources],
        "bands": bands,
        "intervals": {name: ends for name, ends in intervals.items() if ends is not None},
        "runs": list(rows),
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def interval(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, float] | None:
    """Mean and 95 % bootstrap interval over runs, from 5 runs on and where all have the number."""
    import numpy as np

    from mechgrok.maths.statistics import MIN_RUNS, bootstrap_mean

    known = [row["values"].get(name) for row in rows]
    if len(known) < MIN_RUNS or not all(_is_number(x) and not isinstance(x, bool) for x in known):
        return None
    low, high = bootstrap_mean(known, np.random.default_rng(0))
    return {"mean": float(np.mean(known)), "low": low, "high": high, "n": len(known)}


def outside(
    preset: str, rows: Sequence[Mapping[str, Any]], expected: Mapping[str, Any]
) -> list[str]:
    """Bands that a grokked run is outside of, and too few runs that grokked."""
    grokked = [row for row in rows if row["values"]["times.grokked"] is True]
    failed = []
    if len(grokked) < GROK * len(rows):
        failed.append(f"{preset}: {len(grokked)} of {len(rows)} runs grokked")
    bands = expected.get(preset, {}).get("bands", {})
    for row in grokked:
        for name, band in bands.items():
            value, threshold = row["values"].get(name), band["threshold"]
            if not _is_number(value) or not MARGINS[name].holds(float(value), threshold):
                failed.append(f"{row['run']} {name} {value} ({band['side']} {threshold:.4g})")
    checked = [row["seed"] for row in grokked if row["seed"] not in BAND_SEEDS[preset]]
    print(f"{preset}: {len(bands)} bands, checked on seeds {checked or 'none but their own'}")
    return failed


def show(preset: str, rows: Sequence[Mapping[str, Any]], bands: Mapping[str, Any]) -> None:
    """One line per value: every run, the interval, the untrained model of the first, the band."""
    seeds = "".join(f"{row['seed']:>10}" for row in rows)
    print(f"\n{preset}, n = {len(rows)}, by seed")
    print(f"{'':<44}{seeds}{'untrained':>11}  mean and 95 % interval over runs; band")
    for name in rows[0]["values"]:
        cells = "".join(f"{_cell(row['values'][name]):>10}" for row in rows)
        ends, band = interval(rows, name), bands.get(name)
        notes = [f"{ends['mean']:.4g} [{ends['low']:.4g}, {ends['high']:.4g}]"] if ends else []
        notes += [f"{band['side']} {band['threshold']:.4g}"] if band else []
        start = _cell(rows[0]["untrained"].get(name, ""))
        print(f"{name:<44}{cells}{start:>11}  {'; '.join(notes)}".rstrip())
    for row in rows:
        print(f"seed {row['seed']}: keys {row['keys']}, step {row['step']:,}")
    absent = {n: x for r in rows for n, x in r["values"].items() if isinstance(x, str)}
    for name, reason in absent.items():
        print(f"-  {name}: {reason}")


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, int | float) else "-"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
