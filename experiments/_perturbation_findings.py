"""What the perturbation study found, as sentences made of its numbers and of nothing else."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

Rows = Sequence[Mapping[str, Any]]
LEVEL = 0.05
"""A smaller p than this says that the spreads differ."""


def findings(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is said first, then one paragraph per group of runs."""
    return [
        " ".join(verdict(group) for group in groups),
        *_each(groups),
    ]


def verdict(group: Mapping[str, Any]) -> str:
    """Whether perturbed runs are as far apart as seeds, in time and in weights."""
    told = []
    spread = next((r["spread"] for r in group["times"] if r["moment"] == "generalised"), {})
    if "p" in spread:
        less = spread["p"] < LEVEL and spread["ratio"] < 1
        how = "less than over seeds" if less else "not measurably less than over seeds"
        told.append(
            f"steps to generalise spread {how} (ratio {spread['ratio']:.3g}, p = {spread['p']:.3g})"
        )
    ends = next((r for r in group["reached"] if (r["of"], r["moment"]) == ("weights", "end")), {})
    mine = [value for value in ends.get("perturbed", []) if value is not None]
    theirs = [value for value in ends.get("between seeds", []) if value is not None]
    if mine and theirs:
        nearer = max(mine) < min(theirs)
        where = "nearer to the control than" if nearer else "as far from the control as"
        told.append(f"weights end {where} two seeds are ({_range(mine)} against {_range(theirs)})")
    elif mine:
        told.append(f"weights end {_range(mine)} from the control")
    return f"{group['group']}, perturbed: {'; '.join(told)}." if told else ""


def _each(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"{group['group']}: {growth(group)} {reached(group)} {times(group)} {spectra(group)}"
        for group in groups
    ]


def growth(group: Mapping[str, Any]) -> str:
    """How fast differences grow, by scale."""
    parts = []
    for kind in ("weights", "fingerprints"):
        rows = [row for row in group["growth"] if row["of"] == kind]
        for scale in sorted({row["scale"] for row in rows}):
            same = [row for row in rows if row["scale"] == scale]
            rates = [row["rate"] for row in same if row["rate"] is not None]
            ends = [row["saturated_at"] for row in same if row["saturated_at"] is not None]
            text = f"{kind} at {scale:g}: "
            if rates:
                text += f"{_range(rates)} per step ({len(rates)} of {len(same)} runs)"
            else:
                text += "no rate"
            text += f", above .1 from step {_range(ends)}" if ends else ", never above .1"
            parts.append(text)
    return "Growth of the distance from the control, " + "; ".join(parts) + "."


def reached(group: Mapping[str, Any]) -> str:
    """How far apart runs are in the end, beside two seeds."""
    parts = []
    for row in group["reached"]:
        if row["moment"] != "end":
            continue
        mine = [value for value in row["perturbed"] if value is not None]
        theirs = [value for value in row["between seeds"] if value is not None]
        text = f"{row['of']} {_range(mine)}"
        text += f" (two seeds {_range(theirs)})" if theirs else ""
        parts.append(text)
    return f"At the control's end: {', '.join(parts)}." if parts else ""


def times(group: Mapping[str, Any]) -> str:
    """Spread of times over perturbations and seeds."""
    parts = []
    for row in group["times"]:
        mine, theirs, spread = row["perturbed"], row["seeds"], row["spread"]
        text = f"{row['moment']} over {mine['n']} perturbed runs with the control"
        text += f" {_range(mine['range'])}" if mine["range"] else " never"
        text += f" ({mine['censored']} censored)" if mine["censored"] else ""
        if theirs is not None:
            text += f", over {theirs['n']} seeds"
            text += f" {_range(theirs['range'])}" if theirs["range"] else " never"
            text += f" ({theirs['censored']} censored)" if theirs["censored"] else ""
        if "ratio" in spread:
            text += f", ratio of standard deviations {spread['ratio']:.3g}"
            text += f" (p = {spread['p']:.3g})" if "p" in spread else ""
        parts.append(text)
    return f"Times: {'; '.join(parts)}."


def spectra(group: Mapping[str, Any]) -> str:
    """Spectral distances of perturbed runs and of seeds."""
    found = group["spectra"]
    text = f"Spectra: {_mean(found['perturbed'])} between perturbed runs (W1)"
    if "seeds" in found:
        text += f", {_mean(found['seeds'])} between seeds"
        difference = found["perturbed minus seeds"]
        if difference.get("interval"):
            low, high = difference["interval"]
            text += f", difference {difference['difference']:.3g} ({low:.3g} to {high:.3g})"
    by = {}
    for row in found["from_control"]:
        if row["W1"] is not None:
            by.setdefault(row["scale"], []).append(row["W1"])
    each = ", ".join(f"{median(values):.3g} at {scale:g}" for scale, values in sorted(by.items()))
    return f"{text}; median distance from the control {each}."


def _mean(found: Mapping[str, Any]) -> str:
    if found["mean"] is None:
        return "no pair"
    text = f"{found['mean']:.3g}"
    if found["interval"]:
        low, high = found["interval"]
        text += f" (95 % over {found['runs']} runs {low:.3g} to {high:.3g})"
    return text


def _range(values: Sequence[float]) -> str:
    if not values:
        return "none"
    low, high = (f"{v:,}" if isinstance(v, int) else f"{v:.3g}" for v in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"
