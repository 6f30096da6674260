"""What the runs of the two-hop experiment show: tables, verdicts, expected.json and pictures.

Runs that were recorded earlier and are not there any more are kept as they were recorded.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _two_hop_findings as findings
import _two_hop_verdicts as verdicts
from _two_hop_arms import STARTS, start_of

from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError, read_json, write_json

if TYPE_CHECKING:
    import plotly.graph_objects as go

SHOWN = ("run", "step", "state", "train", "iid", "ood", "lens", "probe", "swap", "stays")
KEYS = {
    "same_step": ("seed",),
    "pretraining": ("run",),
    "finetuning": ("run",),
    "starts": ("regime", "seed"),
}
"""What tells the rows of a table apart."""
COMMAND = "python experiments/two_hop.py --stage analyse --record"


Found = dict[str, Any]


def report(directory: Path, name: str, earlier: Path | None = None) -> Found:
    """Print what was found, the first paragraph first; returns it for expected.json.

    `earlier`: an expected.json whose runs are added, where the directory does not have them.
    """
    runs = findings.pretrained(directory / "pretrain")
    if not runs:
        raise RunError(
            f"{directory / 'pretrain'} has no run with a checkpoint after its first; --stage "
            f"pretrain trains them"
        )
    rows, same = findings.measured(runs), findings.same_step(runs)
    taught = findings.taught(list(findings.finetuned(directory / "finetune", name)))
    tables = {"same_step": same, "pretraining": rows, "finetuning": taught}
    tables |= {"starts": starts(runs, name)}
    if earlier is not None and (before := json.loads(earlier.read_text()))["preset"] == name:
        tables = {key: merged(rows, before[key], KEYS[key]) for key, rows in tables.items()}
    said = {
        "pretraining": verdicts.of_pretraining(tables["pretraining"], tables["same_step"]),
        "finetuning": verdicts.of_finetuning(tables["finetuning"]),
    }
    found = {"preset": name, "verdict": said, **tables}
    found = {"paragraph": verdicts.paragraph(found), **found}
    show(found)
    return found


def merged(
    rows: Sequence[Mapping[str, Any]], earlier: Sequence[Mapping[str, Any]], keys: Sequence[str]
) -> list[dict[str, Any]]:
    """The earlier rows, with the new ones in the place of theirs or at the end."""
    found = {tuple(row[key] for key in keys): dict(row) for row in [*earlier, *rows]}
    return list(found.values())


def starts(runs: Mapping[tuple[str, str, int], Run], name: str) -> list[dict[str, Any]]:
    """The checkpoints that fine-tuning starts from, and how they were chosen."""
    return [
        {"regime": regime, "seed": seed}
        | start_of(name, regime, run, runs.get(("trm", "both_full", seed))).facts()
        for (model, regime, seed), run in runs.items()
        if model == "trm" and regime in STARTS.get(name, (regime,))
    ]


def show(found: Mapping[str, Any]) -> None:
    """The paragraph, the verdicts, then the tables."""
    import pandas as pd

    print(found["paragraph"])
    for stage, said in found["verdict"].items():
        for name, one in said.items():
            print(f"  {stage}, {name}: {one['holds']}; {one['because']}")
    rows = found["pretraining"]
    print(pd.DataFrame(rows)[list(SHOWN)].round(3).to_string(index=False))
    flat = [
        {"run": row["run"], **{kind: one["exact_match"] for kind, one in row["cells"].items()}}
        for row in rows
    ]
    print(pd.DataFrame(flat).round(3).to_string(index=False))
    print("untrained:")
    bare = [{"run": row["run"], **row["untrained"]} for row in rows]
    print(
        pd.DataFrame(bare)[["run", "ood", "lens", "probe", "swap"]].round(3).to_string(index=False)
    )
    for when in ("when_learnt", "at_end"):
        each = [
            {"run": row["run"], "learnt": row["learnt_step"], "step": row["step"], **row[when]}
            for row in found["finetuning"]
            if row[when]
        ]
        if each:
            print(f"fine-tuning, {when.replace('_', ' ')}:")
            print(pd.DataFrame(each).round(3).to_string(index=False))
    for one in found["starts"]:
        print(f"  start {one['run']} at {one['step']}: {one['rule']}")


def record(found: Mapping[str, Any], directory: Path, expected: Path, figures: Path) -> None:
    """Write expected.json, and the pictures with the digests of their runs."""
    from _two_hop_figures import finetuning_figure, table_figure

    from mechgrok.plotting import plot

    expected.write_text(json.dumps(found, indent=1) + "\n")
    runs = findings.pretrained(directory / "pretrain")
    every = list(runs.values())
    first = min(seed for _, _, seed in runs)
    shown = {regime: run for (m, regime, s), run in runs.items() if (m, s) == ("trm", first)}
    if {row["run"] for row in found["pretraining"]} <= {run.name for run in every}:
        drawn = plot(list(shown.values()), "circuit_formation", titles=list(shown))
        save(drawn, figures / "two_hop_formation", shown.values(), recorded=False)
    else:
        print("two_hop_formation stays as it is: some recorded runs are gone")
    save(table_figure(found["pretraining"]), figures / "two_hop", every)
    taught = [run for _, run in findings.finetuned(directory / "finetune", found["preset"])]
    if found["finetuning"]:
        save(finetuning_figure(found["finetuning"]), figures / "two_hop_finetuning", taught)


def save(drawn: "go.Figure", stem: Path, runs: Iterable[Run], recorded: bool = True) -> None:
    """Write a picture; the digests of runs that were recorded earlier stay beside it."""
    from mechgrok.figures import save_sweep_picture

    path = stem.with_name(f"{stem.name}.source.json")
    before = read_json(path)["runs"] if recorded and path.exists() else []
    print(save_sweep_picture(drawn, stem, runs, COMMAND, recorded=recorded))
    source = read_json(path)
    write_json(path, {**source, "runs": merged(source["runs"], before, ("run",))})
