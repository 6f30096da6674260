"""Run directories with a written history: times that are known because they were made up."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiny import config

from mechgrok.runs.run import Run, write_config
from mechgrok.runs.storage import write_json
from mechgrok.training.provenance import provenance


def stub_run(
    directory: Path,
    generalised: int | None,
    last: int = 400,
    state: str = "finished",
    memorised: int | None = 20,
    changes: Mapping[str, Any] | None = None,
) -> Run:
    """A run evaluated every 10 steps whose accuracies jump from 0 to 1 at the steps given."""
    settings = config(**{name.replace(".", "__"): v for name, v in (changes or {}).items()})
    directory.mkdir(parents=True)
    write_config(directory / "config.yaml", settings)
    write_json(directory / "provenance.json", provenance(settings, {}))
    write_json(directory / "status.json", {"state": state, "step": last, "reason": "made up"})
    rows = []
    for step in range(0, last + 1, 10):
        accs = [float(at is not None and step >= at) for at in (memorised, generalised)]
        row = {"step": step, "train_acc": accs[0], "test_acc": accs[1]}
        row |= {"train_loss": 1 - accs[0] + 1e-3, "test_loss": 1 - accs[1] + 1e-3}
        rows.append(json.dumps(row | {"seconds": step / 100, "lr": 1e-3}))
    (directory / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    return Run(directory)
