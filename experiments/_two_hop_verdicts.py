"""Which prediction of the two-hop experiment won, and its first paragraph, from numbers alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Rows = Sequence[Mapping[str, Any]]
Verdicts = dict[str, dict[str, Any]]

LOW, TIES, LEARNT = 0.2, 0.1, 0.95
PAPER = {
    "natural": (1.00, 0.00, 0.003),
    "both_full": (1.00, 0.02, 0.006),
    "first_hop": (1.00, 0.00, 0.001),
    "second_hop": (0.33, 0.00, 0.001),
    "both_half": (0.53, 0.00, 0.0001),
    "scratch": (0.31, 0.00, 0.0003),
}
"""Exact match of new_old, old_new and new_new in arXiv 2601.09049, read off its notebooks: last
value, mean of the last ten for both_full's old_new; the first two on 16 to 36 queries."""
CELLS = ("new_old", "old_new", "new_new")


def target(rows: Rows) -> list[bool | None]:
    """Of every seed: both_full at .95 OOD where natural is at most .2 at the same step."""
    return [
        None if row["natural"] is None else row["reached"] and row["natural"] <= LOW for row in rows
    ]


def of_pretraining(measured: Rows, same: Rows) -> Verdicts:
    """Every prediction: holds on every seed, or None without the runs it is about."""
    both, natural = of(measured, "both_full"), of(measured, "natural")
    second, first = of(measured, "second_hop"), of(measured, "first_hop")
    shams = [row["both_full_sham"] for row in same]
    fast = [
        row["reached"] and row["train_step"] is not None and row["step"] <= 2 * row["train_step"]
        for row in same
    ]
    steps = [(row["step"] if row["reached"] else None, row["train_step"]) for row in same]
    said = f"OOD and training at .95 by step {steps}, sham there {shown(shams)}"
    ties = [
        row["reached"] and sham is not None and sham >= row["both_full"] - TIES
        for row, sham in zip(same, shams, strict=True)
    ]
    pair = [*both, *natural]
    there = f"lens excess {by(pair, 'lens')}, swap {by(pair, 'swap')}, probe {by(pair, 'probe')}"
    found = {
        "recombination": (
            all(fast) and all(s is not None and s <= LOW for s in shams),
            bool(same) and None not in shams,
            said,
        ),
        "more data": (all(ties), bool(same) and None not in shams, said),
        "shared circuit": (
            all(least(row, lens=0.8, swap=0.5) for row in pair),
            bool(both and natural),
            there,
        ),
        "another basis": (
            all(
                row["lens"] is not None and row["lens"] < TIES and least(row, probe=0.5, swap=0.5)
                for row in pair
            ),
            bool(both and natural),
            there,
        ),
        "association": (
            all(least(row, ood=0.8, swap_ood_stays=0.5) for row in second)
            and all(row["ood"] <= LOW for row in first),
            bool(second and first),
            f"OOD {by([*second, *first], 'ood')}, swap stays {by(second, 'swap_ood_stays')}",
        ),
    }
    return _verdicts(found)


def of_finetuning(taught: Rows) -> Verdicts:
    """Every prediction, by means over seeds at the end; None without the arms it is about.

    Also None where an arm did not learn the taught facts themselves: it says nothing of their use.
    """
    new = means(taught, "new")
    started = {k: v for k, v in new.items() if not k.startswith("scratch")}
    scratch = {k: v for k, v in new.items() if k.startswith("scratch")}
    edits = means(taught, "edited").get("both_full")
    first, second = (edits["edit_first"], edits["edit_second"]) if edits else (None, None)
    known = learnt(edits)
    in_first, in_second = (
        known and share is not None and share >= 0.5 for share in (first, second)
    )
    followed = f"both_full follows edits {shown([first, second])} of the time in hop 1, 2"
    pair = [started.get("both_full"), started.get("natural")]
    there = all(learnt(one) for one in pair)
    gaps = [abs(pair[0][c] - pair[1][c]) for c in CELLS[:2]] if there else []  # pyright: ignore[reportOptionalSubscript]
    found = {
        "paper": (
            all(v["new_old"] >= 0.9 and v["old_new"] <= 0.1 for v in started.values())
            and all(v["new_old"] <= 0.5 for v in scratch.values()),
            bool(started and scratch) and all(learnt(one) for one in new.values()),
            "; ".join(f"{k} {shown([v[c] for c in CELLS[:2]])}" for k, v in new.items()),
        ),
        "one fact store": (in_first and in_second, known, followed),
        "a store per hop": (in_first and not in_second, known, followed),
        "shortcut": (not in_first and not in_second, known, followed),
        "pretraining as such": (
            all(gap <= TIES for gap in gaps),
            bool(gaps),
            f"natural and both_full differ by {shown(gaps)} in new_old, old_new",
        ),
    }
    return _verdicts(found)


def learnt(cells: Mapping[str, float] | None) -> bool:
    """Whether the taught facts themselves were learnt, by their mean accuracy."""
    return cells is not None and cells["taught"] >= LEARNT


def _verdicts(found: Mapping[str, tuple[bool, bool, str]]) -> Verdicts:
    return {
        name: {"holds": holds if known else None, "because": because}
        for name, (holds, known, because) in found.items()
    }


def of(rows: Rows, regime: str, model: str = "trm") -> list[Mapping[str, Any]]:
    """The rows of one regime."""
    return [row for row in rows if (row["regime"], row["model"]) == (regime, model)]


def least(row: Mapping[str, Any], **levels: float) -> bool:
    """Whether values of a row are there and at or above their levels."""
    return all(row[name] is not None and row[name] >= level for name, level in levels.items())


def means(taught: Rows, facts: str, when: str = "at_end") -> dict[str, dict[str, float]]:
    """Mean of every cell over seeds, of the arms in which everything is trained."""
    found: dict[str, dict[str, float]] = {}
    mine = [
        r for r in taught if r["facts"] == facts and r["trained"] == "embedding+body" and r[when]
    ]
    for row in mine:
        key = row["start"] if row["start"] != "scratch" else f"scratch on {row['regime']}"
        same = [r[when] for r in mine if (r["start"], r["regime"]) == (row["start"], row["regime"])]
        cells = {c: [one[c] for one in same if one[c] is not None] for c in same[0]}
        found[key] = {c: float(np.mean(values)) for c, values in cells.items() if values}
    return found


def by(rows: Rows, name: str) -> str:
    """Every run's value by regime, and by model where it is another, as points."""
    values: dict[str, list[float | None]] = {}
    for row in rows:
        model = "" if row["model"] == "trm" else f"{row['model']} "
        values.setdefault(f"{model}{row['regime']}", []).append(row[name])
    return ", ".join(f"{key} {shown(each)}" for key, each in values.items())


def shown(values: Sequence[float | None]) -> str:
    """Values as points, a dash where there is none."""
    return " / ".join("-" if v is None else f"{v:.2f}" for v in values)


def paragraph(found: Mapping[str, Any]) -> str:
    """What transfers and which predictions hold, with n and every run's value."""
    same, rows, taught = found["same_step"], found["pretraining"], found["finetuning"]
    met = [one for one in target(same) if one is not None]
    at_step = ", ".join(
        f"{name} {shown([r[name] for r in same])}"
        for name in ("both_full", "natural", "both_full_sham")
    )
    said = [
        f"both_full reaches .95 of the OOD queries where natural is at most .2 on {sum(met)} of "
        f"{len(met)} seeds (OOD by seed at its step: {at_step}).",
        f"In the last checkpoints, over {len(rows)} runs: OOD exact match {by(rows, 'ood')}; lens "
        f"excess {by(rows, 'lens')}; probe selectivity {by(rows, 'probe')}; swap excess "
        f"{by(rows, 'swap')}.",
        f"Of what was predicted: {held(found['verdict']['pretraining'])}.",
    ]
    if taught:
        arms = "; ".join(_arm(taught, key) for key in means(taught, "new"))
        edits = means(taught, "edited")
        followed = "; ".join(
            f"{key} {shown([v.get('edit_first'), v.get('edit_second')])}"
            for key, v in edits.items()
        )
        said += [
            f"A new fact is used in hop 1, hop 2: {arms}.",
            f"Edits followed in hop 1, hop 2: {followed or 'not run'}.",
            f"Of what was predicted: {held(found['verdict']['finetuning'])}.",
        ]
    return " ".join(said)


def _arm(taught: Rows, key: str) -> str:
    """Every run of an arm beside the paper's two cells."""
    start, _, regime = key.partition(" on ")
    mine = [
        r["at_end"]
        for r in taught
        if (r["facts"], r["trained"], r["start"]) == ("new", "embedding+body", start)
        and r["regime"] == (regime or start)
    ]
    theirs = PAPER.get(start)
    paper = f" (paper {shown(theirs[:2])})" if theirs else ""
    points = [shown([one[cell] for one in mine]) for cell in CELLS[:2]]
    return f"{key} {', '.join(points)}{paper}"


def held(verdicts: Verdicts) -> str:
    """The names of the predictions by what became of them."""
    names = {True: "holds", False: "does not hold", None: "not tested"}
    return "; ".join(
        f"{word}: {', '.join(mine)}"
        for state, word in names.items()
        if (mine := [n for n, one in verdicts.items() if one["holds"] is state])
    )
