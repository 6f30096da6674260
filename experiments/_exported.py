"""A run under the file names of success criterion C5, safetensors in place of .pt.

The folder is a run directory too: `mechgrok.load_run` opens it.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _criteria import PROGRESS, Line

from mechgrok.figures import HINT, browser, has_kaleido, render
from mechgrok.plotting import plot
from mechgrok.runs import layout
from mechgrok.runs.result import NotApplicable, Result, Value
from mechgrok.runs.run import Run
from mechgrok.runs.storage import (
    RunError,
    read_json,
    read_lines,
    tensor_digest,
    write_bytes,
    write_json,
    write_text,
)

PICTURES = {
    "grokking_curve": "grokking_curve",
    "fourier_spectra": "spectra",
    "progress_measures": "progress_measures",
    "ablation_step_{step:08d}": "frequency_ablation",
}
"""File name -> figure."""
PNG = b"\x89PNG"
"""How every png begins."""


def copy_run(run: Run, out: Path, step: int | None = None) -> Run:
    """The run in a folder of its own, cut after `step`: an earlier model with its own past.

    Checkpoints are hard links where the file system has them. Raises RunError when there is no
    checkpoint at `step`.
    """
    last = run.steps[-1] if step is None else run.checkpoint(step).step
    out.mkdir(parents=True, exist_ok=True)
    for name in ("config.yaml", "provenance.json"):
        shutil.copy2(run.path / name, out / name)
    for at in (s for s in run.steps if s <= last):
        _link(layout.checkpoint(run.path, at), layout.checkpoint(out, at))
    lines = read_lines(run.path / "metrics.jsonl")
    kept = [line for line in lines if step is None or json.loads(line)["step"] <= last]
    write_text(out / "metrics.jsonl", "".join(f"{line}\n" for line in kept))
    write_text(out / "latest", layout.checkpoint(out, last).name + "\n")
    status = run.status
    if step is not None:
        reached = {name: at for name, at in status.get("reached", {}).items() if at <= last}
        status |= {"state": "interrupted", "step": last, "reason": f"cut at step {last}"}
        status["reached"] = reached
    write_json(out / "status.json", status)
    return Run(out)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def export(run: Run, out: Path) -> list[Line]:
    """Write the run's files, four JSON files and four pictures, and read them back: C5."""
    copied = run if run.path == out else copy_run(run, out)
    step = run.steps[-1]
    written = {f"analysis/{name}.json": data for name, data in _analyses(run, step).items()}
    for name, data in written.items():
        write_json(out / name, data)
    drawn = _pictures(run, out, step)
    return [_files(copied, run, tuple(written)), _drawn(drawn)]


def _analyses(run: Run, step: int) -> dict[str, Any]:
    """Contents of the four JSON files."""
    last = run.measure_steps(
        ["losses", "times", "spectra", "gini", "key_frequencies", "frequency_ablation"], [step]
    )
    plain = {name: _plain(results[0]) for name, results in last.items()}
    names = sorted({name.partition(".")[0] for name in PROGRESS})
    series = run.measure_steps(names, run.steps)
    return {
        "eval_summary": {name: plain[name] for name in ("losses", "times")},
        "fourier_metrics": {name: plain[name] for name in ("spectra", "gini", "key_frequencies")},
        "progress_measures": {name: [_plain(r) for r in found] for name, found in series.items()},
        f"ablation_step_{step:08d}": plain["frequency_ablation"],
    }


def _plain(result: Result) -> dict[str, Any]:
    values = {name: _json(value) for name, value in result.values.items()}
    arrays = {name: array.tolist() for name, array in result.arrays.items()}
    return {
        "step": result.step,
        "definition": dict(result.definition),
        "values": values,
        "arrays": arrays,
    }


def _json(value: Value) -> Any:
    if isinstance(value, NotApplicable):
        return {"does not apply": value.reason}
    return list(value) if isinstance(value, list | tuple) else value


def _pictures(run: Run, out: Path, step: int) -> Mapping[str, bool] | None:
    """Whether each picture was drawn; None, after a line that says why, without a browser."""
    found = browser()
    if found is None or not has_kaleido():
        print(HINT)
        return None
    drawn = {}
    for name, figure in PICTURES.items():
        path = out / "figures" / f"{name.format(step=step)}.png"
        write_bytes(path, render(plot(run, figure), "png", found))
        drawn[path.name] = path.read_bytes().startswith(PNG)
    return drawn


def _files(copied: Run, run: Run, analyses: tuple[str, ...]) -> Line:
    """The files are there and can be read; the exported weights are the run's."""
    unread = []
    for name in ("config.yaml", "provenance.json", "status.json", "metrics.jsonl", "latest"):
        unread += [] if (copied.path / name).stat().st_size else [name]
    for name in analyses:
        try:
            read_json(copied.path / name)
        except RunError:
            unread.append(name)
    latest = copied.path / "checkpoints" / (copied.path / "latest").read_text().strip()
    unread += [] if latest.exists() else ["latest"]
    same = tensor_digest(copied[-1].weights) == tensor_digest(run[-1].weights)
    n = 5 + len(analyses) + len(copied)
    whole = not unread and same and copied.steps == run.steps
    control = f"last weights {'equal' if same else 'differ from'} the run's; unreadable: "
    return Line(
        "files written and read back",
        n - len(unread),
        f"all {n}",
        whole,
        control + (", ".join(unread) or "none"),
    )


def _drawn(drawn: Mapping[str, bool] | None) -> Line:
    what = "pictures"
    if drawn is None:
        absent = NotApplicable("no browser or kaleido here")
        return Line(what, absent, "all 4, where a browser is found", True, "none")
    control = "missing: " + (
        ", ".join(name for name, there in drawn.items() if not there) or "none"
    )
    return Line(what, sum(drawn.values()), f"all {len(drawn)}", all(drawn.values()), control)
