"""Ratios of TransformerLens's activation patching grids to ours, and the memory ours needs.

    python benchmarks/grids.py

nanda2023_mainline's model, all 12,769 pairs, a random derangement as the corrupted run, the logit
difference at the answer. Both sides are timed alternately without gradients; a line gives the
median ratio over the repeats, and `mainline_grid_over_transformer_lens` is the least of them. Run
it on a quiet machine. Adds its lines to latest.json and latest_run.json.
"""

import json
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformer_lens.patching as theirs

from mechgrok import discovery
from mechgrok import interventions as ours
from mechgrok.presets import preset
from mechgrok.runs.checkpoint import build_model

REPEATS = 5
GRIDS = ("resid_pre", "resid_mid", "attn_out", "mlp_out", "attn_head_out_by_pos")
HERE = Path(__file__).parent


def seconds(grid: Callable[[], Any]) -> float:
    start = time.perf_counter()
    grid()
    return time.perf_counter() - start


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def setting() -> tuple[Any, ...]:
    """(model, corrupted tokens, clean cache, metric)."""
    config = preset("nanda2023_mainline")
    task = discovery.load("tasks", config.task.name).make(config.task, config.seeds)
    model = build_model(config, task)
    rows = ours.derangement(len(task.tokens), torch.Generator().manual_seed(0))
    _, cache = model.run_with_cache(task.tokens)
    labels = task.labels[:, 0]
    return model, task.tokens[rows], cache, ours.metric("logit_diff", labels, labels[rows])


def compared(name: str, given: tuple[Any, ...]) -> tuple[float, list[float]]:
    """Median ratio, and the median milliseconds of both sides (theirs, ours)."""
    sides = [partial(getattr(m, f"get_act_patch_{name}"), *given) for m in (theirs, ours)]
    pairs = [(seconds(sides[0]), seconds(sides[1])) for _ in range(REPEATS)]
    medians = [round(1e3 * statistics.median(side), 1) for side in zip(*pairs, strict=True)]
    return statistics.median(a / b for a, b in pairs), medians


def merge(path: Path, lines: dict[str, Any]) -> None:
    """Add lines to a file of results, and keep its others."""
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, **lines}, indent=1) + "\n")


def main() -> None:
    theirs.tqdm = lambda rows: rows  # pyright: ignore[reportAttributeAccessIssue]
    found, run = {}, {}
    with torch.no_grad():
        given = setting()
        for name in GRIDS:
            getattr(ours, f"get_act_patch_{name}")(*given)
        run["grids_peak_memory_gib"] = round(peak_gib(), 2)  # before theirs has run
        print(f"peak memory {peak_gib():.2f} GiB, clean cache included   goal < 1.86 (2 GB)")
        for name in GRIDS:
            found[name], run[f"grid_{name}_ms"] = compared(name, given)
            print(f"{name:<22} {found[name]:6.2f}   {run[f'grid_{name}_ms']} ms")
    least = round(min(found.values()), 3)
    print(f"mainline_grid_over_transformer_lens {least}   goal >= 4")
    merge(HERE / "latest.json", {"mainline_grid_over_transformer_lens": least})
    merge(HERE / "latest_run.json", run)


if __name__ == "__main__":
    main()
