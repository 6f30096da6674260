"""metrics.jsonl: one line per evaluation, cut back on resume to what the checkpoint has seen."""

import json
from collections.abc import Mapping
from pathlib import Path

from mechgrok.runs.storage import append_line, read_lines, sync_file, write_text


class MetricsLog:
    """The file, for the process that trains."""

    def __init__(self, path: Path) -> None:
        """The log at `path`; nothing is touched yet."""
        self.path = path

    def clear(self) -> None:
        """Start an empty log: lines of a run that never reached a checkpoint are dropped."""
        write_text(self.path, "")

    def cut(self, step: int, evaluate_every: int) -> None:
        """Drop lines after `step`, half-written ones, and those off the evaluation grid."""
        rows = [(line, json.loads(line)["step"]) for line in read_lines(self.path)]
        kept = [line for line, at in rows if at <= step and at % evaluate_every == 0]
        write_text(self.path, "".join(line + "\n" for line in kept))

    def append(self, metrics: Mapping[str, float]) -> None:
        """One more line."""
        append_line(self.path, json.dumps(dict(metrics), allow_nan=False))

    def sync(self) -> None:
        """Force the lines to the disk, before a checkpoint that stands on them."""
        sync_file(self.path)
