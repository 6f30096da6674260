"""Which edges between which frequencies does a grokked model of modular addition need?

    python experiments/circuit_modadd.py RUN --out results/circuit_modadd     # a finished run
    python experiments/circuit_modadd.py mechgrok/examples/nanda2023_mainline # seven minutes
    python experiments/circuit_modadd.py --small                              # seconds

The graph has a node for every head, MLP input, MLP output and the logits at the answer, each taken
apart into the sum directions of every key frequency, other terms of keys, and the rest. Every edge
is corrupted alone (exact effect), and left clean alone (mirror), with operand a or b shifted on all
pairs; EAP and EAP-IG stand beside it, on logit_diff and on the loss. Controls: random circuits of
equal size, of any edges and with as many of each kind; and the same graph of the untrained model.

Rival predictions, written before any graph of frequencies was measured (the one of components had
been, on `quick`). Fourier circuit (Nanda et al. 2023): edges run from key terms at the MLP's input
to sum directions at its output and the logits; edges that touch the rest hold less than a tenth of
all effect, against about their share of the edges in an untrained model; less than half of the
edges keep .9 of the metric, and no random circuit of that size does. Distributed: the rest holds as
much as its share of edges, and random circuits with as many of each kind are as faithful.
Of the approximations: if logit_diff is close to linear in every input, EAP ranks edges as the exact
effects do (.9 or more) and errs by less than a tenth of the largest; if the attention and the
neurons bend it, EAP errs by more and EAP-IG by less than EAP. On the loss, which is saturated,
both predictions say that EAP fails.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechgrok.cli import explain_errors
from mechgrok.config import ConfigError

if TYPE_CHECKING:
    from mechgrok.runs.run import Run
    from mechgrok.runs.saved_circuit import SavedCircuit

EXPECTED = Path(__file__).with_suffix(".expected.json")
FIGURES = Path(__file__).parents[1] / "figures"
PICTURES = ("circuit", "circuit_errors", "circuit_faithfulness")
REST = "non-key"
SMALL_KEYS = (3,)
"""So few steps leave no key frequencies, so --small names one."""


@explain_errors
def main(arguments: Sequence[str]) -> None:
    """Measure the circuit of a run's last checkpoint, print, draw and save it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path, help="a finished run of addition; only read")
    parser.add_argument("--out", type=Path, default=Path("results/circuit_modadd"))
    parser.add_argument("--runs", type=Path, default=Path("results"), help="where --small trains")
    parser.add_argument("--shifts", type=int, default=2, help="pairs of runs per operand")
    parser.add_argument("--steps", type=int, default=8, help="midpoints of EAP-IG")
    parser.add_argument("--n-random", type=int, default=20, help="random circuits of each control")
    parser.add_argument("--small", action="store_true", help="smoke_p17 for 100 steps")
    parser.add_argument("--report-only", action="store_true", help="from OUT, nothing is measured")
    parser.add_argument("--record", action="store_true", help=f"write {EXPECTED.name}, pictures")
    asked = parser.parse_args(list(arguments))
    if asked.small:
        asked.run, asked.shifts, asked.steps, asked.n_random = _small(asked.runs), 1, 2, 2
        asked.out = asked.runs / "circuit_modadd"
    if asked.run is None:
        raise ConfigError("got no run; expected a run directory, or --small")
    from mechgrok.runs.run import Run

    run = Run(asked.run)
    found, before = measured(run, asked)
    numbers = findings(found, before)
    print(paragraph(numbers), table(found), sep="\n\n")
    draw(found, asked.out)
    if asked.record:
        record(run, found, numbers, asked)


def measured(run: "Run", asked: argparse.Namespace) -> "tuple[SavedCircuit, dict[str, float]]":
    """The circuit of the last checkpoint, and where the effects of the first one lie; both are
    kept in OUT."""
    from mechgrok.runs.saved_circuit import circuit_file, read_circuit
    from mechgrok.runs.storage import read_json, write_json

    path, untrained = circuit_file(asked.out, run.steps[-1]), asked.out / "untrained.json"
    if not asked.report_only:
        from mechgrok import checkpoint_circuit

        keys = SMALL_KEYS if asked.small else "final"
        found = checkpoint_circuit.circuit(
            run[-1],
            keys=keys,
            shifts=asked.shifts,
            steps=asked.steps,
            n_random=asked.n_random,
            save=False,
            again=True,
        )
        found.save(path)
        if not found.p:
            raise ConfigError(f"{run.path} has no graph of frequencies: {found.selection}")
        if run.steps[0] == 0:
            write_json(untrained, untrained_shares(run, found))
    return read_circuit(path), read_json(untrained) if untrained.exists() else {}


def untrained_shares(run: "Run", found: "SavedCircuit") -> dict[str, float]:
    """Where the exact effects of the untrained model lie, in the same graph, on one shift of a."""
    from mechgrok import circuits, interventions

    first = run[0]
    tokens, labels = first.task.tokens, first.task.labels[:, 0]
    graph = circuits.graph(first.model, length=tokens.shape[1], p=found.p, keys=found.keys)
    rows = circuits.shifted_operand(found.p, 0, 1)
    by = interventions.metric("logit_diff", labels, against=labels[rows])
    one = circuits.edge_effects(first.model, graph, tokens, tokens[rows], by, methods=["exact"])
    return shares(found.edges, one.scores["exact"].tolist())


def shares(edges: Sequence[Mapping[str, Any]], effects: Sequence[float]) -> dict[str, float]:
    """Share of the summed sizes of all effects, by what the edges touch."""
    total = sum(map(abs, effects)) or 1.0

    def part(which: Any) -> float:
        return sum(abs(x) for e, x in zip(edges, effects, strict=True) if which(e)) / total

    return {
        "rest": part(lambda e: REST in e["source"] or REST in e["target"]),
        "inner from key terms to sums": part(
            lambda e: (
                e["kind"] == "mlp_in > mlp"
                and "[other key" in e["source"]
                and "[sum" in e["target"]
            )
        ),
        "inner from sums to sums": part(
            lambda e: (
                e["kind"] == "mlp_in > mlp" and "[sum" in e["source"] and "[sum" in e["target"]
            )
        ),
        "inner": part(lambda e: e["kind"] == "mlp_in > mlp"),
    }


def findings(found: "SavedCircuit", before: Mapping[str, float]) -> dict[str, Any]:
    """The numbers that the predictions are about."""
    effects = found.larger_score("exact")
    rest = [REST in e["source"] or REST in e["target"] for e in found.edges]
    drawn = {
        control: [x for row in found.judged.values() for x in row["random"][control]]
        for control in ("uniform", "matched")
    }
    return {
        "keys": list(found.keys),
        "edges": len(found.edges),
        "circuit_edges": len(found.circuit),
        "circuit_edges_of_rest": sum(rest[i] for i in found.circuit),
        "share_of_edges_of_rest": sum(rest) / len(rest),
        "effect": shares(found.edges, effects),
        "effect_untrained": dict(before),
        "faithfulness": {n: row["faithfulness"] for n, row in found.judged.items()},
        "complement": {n: row["complement"] for n, row in found.judged.items()},
        # an edge of one operand does nothing for the other, so the larger of the two counts
        "least_needed": min(
            map(max, zip(*(row["minimality"] for row in found.judged.values()), strict=True))
        ),
        "random": {
            n: {"n": len(x), "mean": sum(x) / len(x), "max": max(x)} for n, x in drawn.items()
        },
        "errors": [dict(row) for row in found.errors],
    }


def paragraph(numbers: Mapping[str, Any]) -> str:
    """Which prediction won, in words that follow the numbers."""
    own, random = min(numbers["faithfulness"].values()), numbers["random"]
    rest, even = numbers["effect"]["rest"], numbers["share_of_edges_of_rest"]
    small = numbers["circuit_edges"] < numbers["edges"] / 2
    alone = max(one["max"] for one in random.values()) < own
    fourier = rest < 0.1 and small and own >= 0.9 and alone
    spread = rest >= even and random["matched"]["max"] >= own
    verdict = "the Fourier circuit" if fourier else "distributed" if spread else "neither"
    faithful = ", ".join(f"{x:.3f} ({n})" for n, x in numbers["faithfulness"].items())
    untrained = numbers["effect_untrained"].get("rest")
    there = "" if untrained is None else f" ({untrained:.1%} in the untrained model)"
    return (
        f"Prediction that holds: {verdict}. {numbers['circuit_edges']} of {numbers['edges']} edges "
        f"keep {faithful} of the metric; random circuits of that size at most "
        f"{random['uniform']['max']:.3f}, with as many edges of each kind at most "
        f"{random['matched']['max']:.3f} (n = {random['matched']['n']} each, 1 run). Edges that "
        f"touch the rest are {even:.1%} of all and hold {rest:.1%} of the effect{there}. "
        + " ".join(_approximation(row) for row in numbers["errors"])
    )


def _approximation(row: Mapping[str, Any]) -> str:
    rank, large = row["rank_correlation"], row["rank_correlation_large"]
    name = {"eap": "EAP", "eap_ig": "EAP-IG"}[row["method"]]
    error = row["max_error"] / row["largest_exact"] if row["largest_exact"] else float("inf")
    return (
        f"{name} on {row['metric']}, operand {row['operand']}: rank correlation "
        f"{_three(rank)} ({_three(large)} over the {row['of_edges']} large edges, "
        f"{row['sign_flips']} of them with the wrong sign), largest error {error:.1%} of the "
        f"largest effect."
    )


def _three(x: float | None) -> str:
    return "none" if x is None else f"{x:.3f}"


def table(found: "SavedCircuit") -> str:
    """The circuit's edges by operand, the strongest first."""
    frame: Any = found.table().query("in_circuit")
    order = frame["exact"].abs().sort_values(ascending=False).index
    columns = ["operand", "source", "target", "exact", "mirror", "eap", "eap_ig"]
    return frame.loc[order, columns].round(3).to_string(index=False)


def draw(found: "SavedCircuit", out: Path) -> None:
    """Every figure as html (and as a picture where a browser is found)."""
    from mechgrok.figures import save_figure
    from mechgrok.plotting import plot

    for name in PICTURES:
        for path in save_figure(plot(found, name), out / "figures" / name):
            print(path)


def record(
    run: "Run", found: "SavedCircuit", numbers: Mapping[str, Any], asked: argparse.Namespace
) -> None:
    """expected.json with every edge's scores, and the pictures with the run's digests."""
    from mechgrok.figures import save_picture
    from mechgrok.plotting import plot
    from mechgrok.runs.storage import tensor_digest, write_json

    rounded: Any = found.table().round(4)
    columns = ["operand", "source", "target", "exact", "mirror", "eap", "eap_ig", "in_circuit"]
    kept = {
        "paragraph": paragraph(numbers),
        "run": found.run,
        "seed": found.seed,
        "step": found.step,
        "config": found.config,
        "weights": tensor_digest(run[-1].weights),
        "metric": found.metric,
        "n": found.n,
        "corruption": found.corruption,
        "rule": found.rule,
        "findings": numbers,
        "edges": rounded[columns].to_dict("records"),
    }
    write_json(EXPECTED, kept)
    given = "RUN" if asked.run.is_absolute() else asked.run
    command = (
        f"python experiments/circuit_modadd.py {given} --shifts {asked.shifts} "
        f"--steps {asked.steps} --n-random {asked.n_random} --record"
    )
    for name in PICTURES:
        suffix = name.removeprefix("circuit")
        print(save_picture(plot(found, name), FIGURES / f"circuit_modadd{suffix}", run, command))


def _small(runs: Path) -> Path:
    from mechgrok.training.trainer import train

    changes = {"stop.max_steps": 100, "schedule.checkpoints": ["at 0", "every 50"]}
    changes |= {"model.d_model": 32, "model.n_heads": 2, "model.d_head": 16, "model.d_mlp": 64}
    return train("smoke_p17", run=runs / "smoke_p17__circuit", overrides=changes).path


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
