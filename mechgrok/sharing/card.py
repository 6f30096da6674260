"""Model and data cards of an exported run: every number is counted or measured while it is made.

A card begins with the YAML that model hubs read (https://huggingface.co/docs/hub/model-cards).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import yaml

from mechgrok import _summary
from mechgrok.config import RunConfig
from mechgrok.models.hooked import weights
from mechgrok.options import dotted
from mechgrok.runs import layout
from mechgrok.runs.checkpoint import Checkpoint, build_model
from mechgrok.runs.run import Run
from mechgrok.training import losses
from mechgrok.training.evaluation import evaluate_splits
from mechgrok.training.parts import freeze

TAGS: Final = ("mechgrok", "grokking", "mechanistic-interpretability", "transformer-lens")
NOT_CARD: Final = ("run", "try", "analysis", "time", "report")
"""Lines of the terminal's table that say nothing of the model."""
SHOWN: Final = 12
"""Checkpoints listed before the rest is counted."""


def model_card(
    run: Run, config: RunConfig, last: Checkpoint, steps: Sequence[int], data: bool
) -> str:
    """Text of a model card, of the exported `config` and checkpoint; evaluates the checkpoint.

    `data` says that the task's rows go along.
    """
    loss = losses.make(config.loss)
    measured = evaluate_splits(last.model, run.task, loss, config.device)
    run.measure("times")
    said = [line for line in _summary.rows(run) if line[0] not in NOT_CARD]
    parts = [
        _header(_model_header(run, measured)),
        f"# {run.name}",
        f"{_summary.what(run)} One run; what another seed does is not said here.",
        "## Model",
        _table(("", ""), _model(config, run.task, last, steps)),
        f"## Measured at step {last.step:,}, when this card was made",
        _table(("value", ""), [(name, f"{value:.6g}") for name, value in measured.items()]),
        _table(("over training", ""), said),
        "## Task and split",
        _table(("setting", "value"), _settings(config, ("task", "seeds"))),
        _table(("split", "rows"), [(name, f"{len(at):,}") for name, at in run.task.splits.items()]),
        f"sha256 of tokens, labels and answer positions: `{run.task.sha256}`.",
        "## Load it",
        _load(run, last.step, data),
        "## Made with",
        _table(("", ""), _made(run)),
        "## Settings of training",
        _table(("setting", "value"), _settings(config, ("loss", "optim", "transfer", "stop"))),
    ]
    return "\n\n".join(parts) + "\n"


def data_card(run: Run) -> str:
    """Text of the card of a run's data, which is a data set of its own for a hub."""
    files = [{"split": name, "path": f"{name}.parquet"} for name in run.task.splits]
    header = {"tags": [TAGS[0], TAGS[1]],
              "configs": [{"config_name": "default", "data_files": files}]}  # fmt: skip
    rows = [(name, f"{len(at):,}") for name, at in run.task.splits.items()]
    columns = ", ".join(["tokens", "answer_positions", "labels", *run.task.tags])
    parts = [
        _header(header),
        f"# Data of {run.name}",
        f"{_summary.what(run)} Columns: {columns}. Token ids are places in vocabulary.json.",
        _table(("split", "rows"), rows),
        f"sha256 of tokens, labels and answer positions: `{run.task.sha256}`.",
    ]
    return "\n\n".join(parts) + "\n"


def _header(data: Mapping[str, Any]) -> str:
    return f"---\n{yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True)}---"


def _model_header(run: Run, measured: Mapping[str, float]) -> dict[str, Any]:
    kinds = {"acc": "accuracy", "loss": "loss"}
    metrics = [
        {"type": kinds[name.rpartition("_")[2]], "name": name.replace("_", " "), "value": value}
        for name, value in measured.items()
        if name.rpartition("_")[2] in kinds
    ]
    result = {
        "task": {"type": "other", "name": run.config.task.name},
        "dataset": {"type": "mechgrok", "name": f"{run.config.task.name}, rows of this run"},
        "metrics": metrics,
    }
    index = [{"name": run.name, "results": [result]}]
    return {"library_name": "mechgrok", "tags": list(TAGS), "model-index": index}


def _model(
    config: RunConfig, task: Any, last: Checkpoint, steps: Sequence[int]
) -> list[tuple[str, str]]:
    model = build_model(config, task)
    freeze(model, config.transfer)
    own = weights(model)
    trained = sum(x.numel() for x in own.values() if x.requires_grad)
    more = "" if len(steps) <= SHOWN else f" and {len(steps) - SHOWN} more"
    counted = [
        ("parameters", f"{sum(x.numel() for x in own.values()):,}, of which {trained:,} trained"),
        ("weights", f"{last.kind}, {config.model.dtype}, under TransformerLens names"),
        ("checkpoints at steps", ", ".join(f"{s:,}" for s in steps[:SHOWN]) + more),
        ("inputs", f"{task.n_ctx} of {task.d_vocab} tokens; {task.d_vocab_out} outputs"),
    ]
    return [*counted, *_settings(config, ("model",))]


def _settings(config: RunConfig, parts: Sequence[str]) -> list[tuple[str, str]]:
    found = dotted(config).items()
    return [(f"`{name}`", f"`{value}`") for name, value in found if name.split(".")[0] in parts]


def _load(run: Run, step: int, data: bool) -> str:
    file = f"checkpoints/{layout.checkpoint(run.path, step).name}"
    rows = ' `data/` is read by\n`datasets.load_dataset("FOLDER/data")`.' if data else ""
    return f"""```sh
mechgrok pull OWNER/NAME --run DIR                     # from a hub, or
mechgrok import FOLDER --format mechgrok --run DIR     # from a copy of this folder
mechgrok report DIR
```

```python
import mechgrok as mg

run = mg.load_run("DIR")
logits, cache = run[-1].model.run_with_cache(run.task.tokens)
```

Without mechgrok: `safetensors.torch.load_file("{file}")`.{rows}
`sha256sum --check SHA256SUMS` checks every file but the cards."""


def _made(run: Run) -> list[tuple[str, str]]:
    known = run.provenance
    named = [(name, version) for name, version in known.get("versions", {}).items()]
    others = ("python", "machine", "threads", "device", "commit", "started")
    return [*named, *((name, str(known[name])) for name in others if known.get(name) is not None)]


def _table(head: tuple[str, str], rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {value} |" for name, value in rows)])
