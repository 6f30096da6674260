"""What the figures of a circuit share: where it is saved, and what its subtitle says."""

from mechgrok.plots._style import spelled
from mechgrok.runs.run import Run
from mechgrok.runs.saved_circuit import SavedCircuit, read_circuit

METHODS = {"exact": "exact effect", "eap": "EAP", "eap_ig": "EAP-IG"}
"""Names of scores in legends."""


def circuit_of(subject: Run | SavedCircuit) -> SavedCircuit:
    """The circuit itself, or the last one saved for a run. Raises RunError when there is none."""
    return subject if isinstance(subject, SavedCircuit) else read_circuit(subject.work)


def facts(found: SavedCircuit) -> str:
    """Run, seed, step and n; the graph, the metric and what was corrupted."""
    run = f"run {found.run}, seed {found.seed}, step {found.step:,}, n = 1 run"
    graph = spelled(found.keys) if found.p else "components"
    return (
        f"{run}, {found.n:,} rows<br>{len(found.edges)} edges, {graph}; metric {found.metric}; "
        f"{found.corruption}"
    )
