"""A checkpoint's circuit as it is saved, from which tables and figures are drawn.

One JSON file per checkpoint, `analysis/circuit_XXXXXXXX.json`, holds nodes, edges, scores, metric,
faithfulness, n and seeds. Operands a and b are kept apart; shares are never clipped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mechgrok.runs.storage import RunError, read_json, write_json

if TYPE_CHECKING:
    import pandas as pd

FORMAT: Final = 1
"""Version of the file; a newer one is refused."""
Row = Mapping[str, Any]
ByOperand = Mapping[str, Any]


@dataclass(frozen=True)
class SavedCircuit:
    """What each edge of a checkpoint does, which edges are enough, and against what."""

    run: str | None
    seed: int | None
    """The run's base seed."""
    step: int
    config: str
    """Digest of the run's config."""
    p: int
    """Modulus; 0 where the graph is not taken apart by frequency."""
    keys: tuple[int, ...]
    """Frequencies with a part of their own."""
    selection: str
    """How the keys were chosen, or why there are none."""
    metric: str
    n: int
    """Rows of each pair of runs."""
    corruption: str
    """Which rows were corrupted into which."""
    seeds: Mapping[str, int]
    """Of the corruption and of the random circuits."""
    dtype: str
    steps: int
    """Midpoints of EAP-IG."""
    nodes: tuple[Row, ...] = field(repr=False)
    """name, kind, layer, head, position, part."""
    edges: tuple[Row, ...] = field(repr=False)
    """name, source, target, kind, in the order of every score."""
    scores: Mapping[str, Mapping[str, Sequence[float]]] = field(repr=False)
    """By operand and method, in units of the metric."""
    ends: Mapping[str, Mapping[str, float]] = field(repr=False)
    """By operand: clean and corrupted metric, and the share of saturated rows."""
    errors: tuple[Row, ...] = field(repr=False)
    """How far each approximation is from the exact effects, by operand and metric."""
    curve: tuple[Row, ...] = field(repr=False)
    """Faithfulness of the strongest edges by each method: method, size, operand, faithfulness."""
    circuit: tuple[int, ...] = field(repr=False)
    """Indices of its edges."""
    rule: str = ""
    """How the circuit was found."""
    judged: Mapping[str, Row] = field(default_factory=dict, repr=False)
    """By operand: faithfulness, complement, minimality, random, size, of_edges."""
    notes: tuple[str, ...] = ()
    """What was left out, and why."""

    def table(self) -> "pd.DataFrame":
        """One row per edge and operand: its ends, every score, whether it is in the circuit."""
        import pandas as pd

        chosen = set(self.circuit)
        rows = [
            {"run": self.run, "seed": self.seed, "step": self.step, "operand": operand}
            | {k: edge[k] for k in ("source", "target", "kind")}
            | {method: values[i] for method, values in methods.items()}
            | {"in_circuit": i in chosen, "n": self.n, "metric": self.metric}
            for operand, methods in self.scores.items()
            for i, edge in enumerate(self.edges)
        ]
        return pd.DataFrame(rows)

    def larger_score(self, method: str) -> list[float]:
        """Every edge's score for the operand for which it is larger in size: what carries one
        operand does nothing when the other is corrupted."""
        columns = [methods[method] for methods in self.scores.values()]
        return [max(values, key=abs) for values in zip(*columns, strict=True)]

    def save(self, path: str | Path) -> Path:
        """Write the file, and return its path."""
        write_json(Path(path), {"format": FORMAT, **asdict(self)})
        return Path(path)


def circuit_file(directory: Path, step: int) -> Path:
    """Where a run keeps the circuit of a checkpoint."""
    return directory / "analysis" / f"circuit_{step:08d}.json"


def read_circuit(path: str | Path, step: int | None = None) -> SavedCircuit:
    """A saved circuit: of a file, or of a run directory (at a step, or the last one saved).

    Raises RunError when there is none, naming the command that makes it.
    """
    path = Path(path)
    if path.is_dir():
        saved = sorted((path / "analysis").glob("circuit_????????.json"))
        wanted = saved if step is None else [x for x in saved if x == circuit_file(path, step)]
        if not wanted:
            at = "" if step is None else f" at step {step}"
            command = f"mechgrok view {path}" + ("" if step is None else f" --step {step}")
            raise RunError(f"{path} has no saved circuit{at}; run: {command}")
        path = wanted[-1]
    data = read_json(path)
    written = data.pop("format", None)
    if written != FORMAT:
        raise RunError(f"{path} has format {written}, expected {FORMAT}; remove it and view anew")
    try:
        given: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return SavedCircuit(**given)
    except TypeError as error:
        raise RunError(f"{path} is incomplete ({error}); remove it and view anew") from error
