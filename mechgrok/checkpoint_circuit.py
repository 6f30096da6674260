"""The circuit of a checkpoint: what every edge does, which are enough, against random circuits.

    found = mg.circuit(run[-1])      # by frequency where the task is addition mod p
    found.table()
    mg.plot(run, "circuit").show()

Effects are means over a few shifts of one operand, a and b apart; circuits are chosen by the mean
absolute exact effect over both, and judged on the first shift of each.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any, Final

import torch
from jaxtyping import Int
from torch import Tensor

from mechgrok import circuits
from mechgrok.circuits.contrast import Contrast
from mechgrok.circuits.effects import EXACT, METHODS
from mechgrok.interventions import changed_operand, metric
from mechgrok.interventions.metrics import SATURATING, SaturatedMetric
from mechgrok.maths.fourier import sum_index
from mechgrok.measures._modular import DoesNotApply, table_task
from mechgrok.measures.key_frequencies import resolve_keys
from mechgrok.runs.saved_circuit import SavedCircuit, circuit_file, read_circuit

OPERANDS: Final = ("a", "b")
TARGET: Final = 0.9
"""The circuit is the smallest of the sizes tried with at least this faithfulness for both."""
SHARES: Final = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
"""Sizes tried, as shares of all edges."""


def circuit(
    checkpoint: Any,
    *,
    keys: Any = "final",
    shifts: int = 2,
    steps: int = 8,
    n_random: int = 20,
    seed: int = 0,
    by: str = "logit_diff",
    saturated: bool = True,
    save: bool = True,
    again: bool = False,
) -> SavedCircuit:
    """The circuit of a checkpoint; saved with its run, and read from there the next time.

    `keys` are key frequencies as everywhere; where they do not apply the graph is one of components
    with operands changed at random, and the result says why. `shifts` pairs of runs per operand,
    `steps` midpoints of EAP-IG, `n_random` random circuits of each control, `saturated` measures
    the loss as well, whose gradient says little on a grokked model. `again` computes what is saved.
    Raises NotResidual for a model whose components do not sum, and DoesNotApply for a task without
    an answer at one position, or with rows that have no partner to be corrupted into.
    """
    path = None if checkpoint.run is None else circuit_file(checkpoint.run.work, checkpoint.step)
    if path is not None and path.exists() and not again:
        return read_circuit(path)
    work = _Work(checkpoint, keys, shifts, seed, by)
    found = work.effects(steps)
    chosen, rule, curve = work.search(found)
    chance = torch.Generator().manual_seed(seed)
    judged = {
        name: _plain(asdict(circuits.judge(runs, chosen, n_random, chance)))
        for name, runs in work.firsts.items()
    }
    errors = [
        {"operand": name, **row}
        for name, one in found.items()
        for row in one.errors().to_dict("records")
    ]
    errors += work.saturated_errors(steps) if saturated else []
    place = {edge: i for i, edge in enumerate(work.graph.edges)}
    made = SavedCircuit(
        **work.facts(),
        steps=steps,
        seeds={"corruption": seed, "random circuits": seed},
        scores={n: {m: x.tolist() for m, x in one.scores.items()} for n, one in found.items()},
        ends={
            n: {"clean": one.clean, "corrupted": one.corrupted, "saturated": one.saturated}
            for n, one in found.items()
        },
        errors=tuple(_plain(row) for row in errors),
        curve=tuple(curve),
        circuit=tuple(place[edge] for edge in chosen),
        rule=rule,
        judged=judged,
    )
    if path is not None and save:
        made.save(path)
    return made


class _Work:
    """One checkpoint's graph and its pairs of runs."""

    def __init__(self, checkpoint: Any, keys: Any, shifts: int, seed: int, by: str) -> None:
        if shifts < 1:
            raise ValueError(f"got shifts={shifts}, expected at least 1")
        self.checkpoint, self.by = checkpoint, by
        self.model = checkpoint.model
        self.p, self.keys, self.selection = _keys(checkpoint, keys)
        self.tokens, self.labels = rows_to_answer(checkpoint)
        self.graph = circuits.graph(
            self.model, length=self.tokens.shape[1], p=self.p, keys=self.keys
        )
        self.corrupted, self.corruption = self._corrupted(shifts, seed)

    @cached_property
    def firsts(self) -> dict[str, Contrast]:
        """The first pair of runs of each operand, on which circuits are searched and judged."""
        return {name: self._contrast(rows[0]) for name, rows in self.corrupted.items()}

    def _corrupted(self, shifts: int, seed: int) -> tuple[dict[str, list[Tensor]], str]:
        """Partner of every row, several times per operand."""
        chance = torch.Generator().manual_seed(seed)
        if not self.p:
            positions = _operands(self.tokens)
            named = OPERANDS if len(positions) == 2 else [f"position {i}" for i in positions]
            at = dict(zip(named, positions, strict=True))
            tokens, labels = self.tokens.cpu(), self.labels.cpu()
            try:
                rows = {
                    name: [changed_operand(tokens, labels, position, chance)]
                    for name, position in at.items()
                }
            except ValueError as reason:
                raise DoesNotApply(str(reason)) from reason
            return rows, "one operand changed at random, answer differs"
        # a frequency k moves by 1 - cos w_k d: several d, the same for both operands
        steps = (1 + torch.randperm(self.p - 1, generator=chance)[:shifts]).tolist()
        rows = {
            name: [circuits.shifted_operand(self.p, i, d) for d in steps]
            for i, name in enumerate(OPERANDS)
        }
        return rows, f"one operand shifted by {', '.join(map(str, steps))} mod {self.p}"

    def _contrast(self, rows: Tensor) -> Contrast:
        corrupted = self.tokens[rows]
        return circuits.contrast(
            self.model, self.graph, self.tokens, corrupted, self._metric(rows, self.by)
        )

    def _metric(self, rows: Tensor, name: str) -> Any:
        against = self.labels[rows] if name == "logit_diff" else None
        return metric(name, self.labels, against)

    def effects(self, steps: int) -> dict[str, circuits.EdgeEffects]:
        """By operand: means over its pairs of runs."""
        found = {}
        for name, pairs in self.corrupted.items():
            several = [self._effects(rows, self.by, METHODS, steps) for rows in pairs]
            found[name] = _mean(several)
        return found

    def _effects(
        self, rows: Tensor, by: str, methods: Sequence[str], steps: int
    ) -> circuits.EdgeEffects:
        return circuits.edge_effects(
            self.model,
            self.graph,
            self.tokens,
            self.tokens[rows],
            self._metric(rows, by),
            methods=methods,
            steps=steps,
        )

    def saturated_errors(self, steps: int) -> list[dict[str, Any]]:
        """The same errors for the loss, on the first pair of operand a; its warning is a note."""
        if self.by in SATURATING:
            return []
        first, rows = next((n, rows[0]) for n, rows in self.corrupted.items())
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", SaturatedMetric)
            one = self._effects(rows, "loss", (EXACT, "eap", "eap_ig"), steps)
        warned = next((str(w.message) for w in said if w.category is SaturatedMetric), "")
        return [
            {"operand": first, **row, "warning": warned} for row in one.errors().to_dict("records")
        ]

    def search(
        self, found: Mapping[str, circuits.EdgeEffects]
    ) -> tuple[tuple[circuits.Edge, ...], str, list[dict[str, Any]]]:
        """The circuit, how it was found, and faithfulness by size and method."""
        edges, curve = self.graph.edges, []
        sizes = sorted({max(1, round(share * len(edges))) for share in SHARES})
        strength = {
            name: torch.stack([one.scores[name].abs() for one in found.values()]).mean(dim=0)
            for name in (EXACT, "eap", "eap_ig")
        }
        enough = len(edges)
        for name, scores in strength.items():
            for size in sizes:
                some = circuits.strongest(edges, scores, size)
                shares = {n: circuits.faithfulness(runs, some) for n, runs in self.firsts.items()}
                curve += [
                    {"method": name, "size": size, "operand": n, "faithfulness": x}
                    for n, x in shares.items()
                ]
                if name == EXACT and min(shares.values()) >= TARGET:
                    enough = min(enough, size)
        start = circuits.strongest(edges, strength[EXACT], enough)
        chosen = circuits.greedy(list(self.firsts.values()), start, strength[EXACT], TARGET)
        rule = (
            f"the {enough} strongest edges by mean |exact effect|, the smallest of the sizes tried "
            f"with faithfulness >= {TARGET} for every operand, then greedily without those that "
            f"are not needed for it"
        )
        return chosen, rule, curve

    def facts(self) -> dict[str, Any]:
        """What the file says of the checkpoint and the graph."""
        one = self.checkpoint
        nodes = [
            {"name": x.name, "kind": x.component.kind, "layer": x.component.layer}
            | {"head": x.component.head, "position": x.position, "part": x.part}
            for x in self.graph.places
        ]
        edges = [
            {"name": e.name, "source": e.source.name, "target": e.target.name, "kind": e.kind}
            for e in self.graph.edges
        ]
        return {
            "run": None if one.run is None else one.run.name,
            "seed": one.seed,
            "step": one.step,
            "config": one.config.digest(),
            "p": self.p,
            "keys": self.keys,
            "selection": self.selection,
            "metric": self.by,
            "n": len(self.tokens),
            "corruption": self.corruption,
            "dtype": str(self.model.embed.W_E.dtype).removeprefix("torch."),
            "nodes": tuple(nodes),
            "edges": tuple(edges),
        }


def rows_to_answer(checkpoint: Any) -> tuple[Int[Tensor, "rows pos"], Int[Tensor, " rows"]]:
    """Rows up to the position of their first answer, and those answers, on the model's device.

    Raises DoesNotApply for a task whose rows have it at different positions, or not at all.
    """
    task, device = checkpoint.task, next(checkpoint.model.parameters()).device
    at, labels = task.answer_positions[:, 0], task.labels[:, 0]
    if bool((at != at[0]).any()) or bool((labels < 0).any()):
        raise DoesNotApply("the task's rows have their answers at different positions, or none")
    last = int(at[0]) % task.tokens.shape[1]
    return task.tokens[:, : last + 1].to(device), labels.to(device)


def _keys(checkpoint: Any, keys: Any) -> tuple[int, tuple[int, ...], str]:
    """Modulus, keys and how they were chosen; modulus 0 where frequencies do not apply."""
    try:
        task = table_task(checkpoint)
        answers = torch.argsort(task.renamed)[task.labels[:, 0]]
        if not torch.equal(answers, sum_index(task.n)):
            raise DoesNotApply(f"the labels of {task.config.operation} are not (a+b) mod {task.n}")
        freqs, rule = resolve_keys(checkpoint, keys)
        if not freqs:
            raise DoesNotApply(f"no key frequencies: {rule}")
    except DoesNotApply as reason:
        return 0, (), f"components, not frequencies: {reason}"
    return task.n, freqs, rule


def _operands(tokens: Tensor) -> list[int]:
    """Positions whose token varies."""
    return [i for i, column in enumerate(tokens.T) if bool((column != column[0]).any())]


def _mean(several: Sequence[circuits.EdgeEffects]) -> circuits.EdgeEffects:
    """Effects averaged over pairs of runs of as many rows."""
    scores = {
        name: torch.stack([one.scores[name] for one in several]).mean(dim=0)
        for name in several[0].scores
    }
    clean, corrupted = (
        sum(getattr(one, end) for one in several) / len(several) for end in ("clean", "corrupted")
    )
    return replace(several[0], scores=scores, clean=clean, corrupted=corrupted)


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    """NaN, which pandas makes of None, as None."""
    return {k: None if isinstance(v, float) and v != v else v for k, v in row.items()}
