"""What the fingerprint study found, as sentences made of its numbers and of nothing else."""

from collections.abc import Mapping, Sequence
from typing import Any

DECAY = "optim.weight_decay"
NAMES = {"answer_log_prob": "answer", "end_log_prob": "end token"}
Rows = Sequence[Mapping[str, Any]]
LEVEL = 0.05
"""Runs of one decay, permuted: a smaller p than this tells the decays apart."""


def findings(found: Mapping[str, Any]) -> list[str]:
    """The first paragraph of the report, and those that bear it out."""
    parts = [verdict(found), decays(found), ranks(found), peaks(found), tokens(found)]
    return [" ".join(part for part in parts if part), grokking(found), sensitivity(found)]


def verdict(found: Mapping[str, Any]) -> str:
    """Where the runs bear the paper out, and where they contradict it."""
    told = []
    for observable, name in NAMES.items():
        p = {
            row["coordinates"]: row["p"]
            for row in found["compared"]
            if row["distance"] == "W1"
            and row["observable"] == observable
            and row.get("p") is not None
        }
        if "eigenvalues" in p:
            plain, own = p["eigenvalues"] < LEVEL, p.get("without decay's pole", 1.0) < LEVEL
            says = "tell weight decays apart" if plain else "do not tell weight decays apart"
            says += ", and not by decay's own pole alone" if plain and own else ""
            told.append(f"spectra of the {name} {says}")
    peaked = [
        row[observable]["residual_peak"] <= row["onset"]
        for row in found["runs"]
        for observable in NAMES
        if row["onset"] is not None and row[observable]["residual_peak"] is not None
    ]
    if peaked:
        against = "as the paper says" if all(peaked) else "against the paper"
        told.append(
            f"{against}, the residual is highest before onset in {sum(peaked)} of {len(peaked)} "
            "cases (runs times tokens)"
        )
    text = "; ".join(told)
    return f"{text[:1].upper()}{text[1:]}." if told else ""


def grokking(found: Mapping[str, Any]) -> str:
    """How many runs got there, and when."""
    parts = []
    for row in found["times"]:
        if row["moment"] != "generalised":
            continue
        reached = row["n"] - row["censored"]
        when = f" at steps {_range(row['range'])}" if reached else ""
        parts.append(f"decay {row[DECAY]:g}: {reached} of {row['n']} generalised{when}")
    failed = f" {len(found['failed'])} runs failed." if found["failed"] else " No run failed."
    starts = [
        f"{row['moment']} at {_range(row['range'])} with decay {row[DECAY]:g}"
        for row in found["times"]
        if row["moment"] != "generalised" and row["range"]
    ]
    then = f" {'; '.join(starts)}." if starts else ""
    return f"{'; '.join(parts)}.{failed}{then[:2].upper()}{then[2:]}"


def decays(found: Mapping[str, Any]) -> str:
    """Whether spectra tell decays apart, and whether it is more than decay's own pole."""
    rows = [r for r in found["compared"] if r["distance"] == "W1" and r.get("p") is not None]
    pairs = sorted({tuple(row["decays"]) for row in rows})
    parts = []
    for pair in pairs:
        for observable, name in NAMES.items():
            of = {
                r["coordinates"]: r
                for r in rows
                if tuple(r["decays"]) == pair and r["observable"] == observable
            }
            plain = of.get("eigenvalues")
            if plain is None:
                continue
            parts.append(
                f"By the {name}, spectra at decay {pair[0]:g} and {pair[1]:g} are "
                f"{plain['between']:.3g} apart (W1), runs of one decay {plain['within']:.3g}; "
                f"p = {plain['p']:.3g} by permuting runs, "
                + ", ".join(
                    f"{_short(k)} p = {v['p']:.3g}" for k, v in of.items() if v is not plain
                )
                + "."
            )
    return " ".join(parts) or "Too few runs to compare decays by permuting them."


def ranks(found: Mapping[str, Any]) -> str:
    """How many directions hold the fingerprints, and how many eigenvalues are trusted."""
    parts = []
    for observable, name in NAMES.items():
        rows = [row[observable] for row in found["runs"]]
        effective = [row["effective_rank_as_published"] for row in rows]
        trusted = [row["trusted"] for row in rows]
        poles = sum(row["decay_pole"] for row in rows)
        poles = f"decay's own pole is among them in {poles} of {len(rows)} runs"
        parts.append(
            f"{_range(_ends(effective))} directions hold 99 % of the {name}'s delayed fingerprints "
            f"about their mean, {_range(_ends(trusted))} of {rows[0]['rank']} eigenvalues have a "
            f"residual of at most .1, and {poles}"
        )
    return "; ".join(parts) + "."


def peaks(found: Mapping[str, Any]) -> str:
    """Whether the windowed residual is highest before onset."""
    parts = []
    for observable, name in NAMES.items():
        known = [
            (row["onset"], row[observable]["residual_peak"])
            for row in found["runs"]
            if row["onset"] is not None and row[observable]["residual_peak"] is not None
        ]
        if known:
            early = sum(peak <= onset for onset, peak in known)
            leads = _ends([onset - peak for onset, peak in known])
            parts.append(
                f"{name}: in {early} of {len(known)} runs (onset minus peak {_range(leads)} steps)"
            )
    if not parts:
        return "No run had an onset."
    return f"After memorising, the windowed residual is highest before onset, {'; '.join(parts)}."


def tokens(found: Mapping[str, Any]) -> str:
    """How far the end token's signal is the answer's."""
    values = [row["residual_correlation"] for row in found["observables"]]
    apart = [row["W1"] for row in found["observables"] if row["W1"] is not None]
    text = f"The log residuals of the two observables correlate at {_range(_ends(values))} in a run"
    return text + (f"; their spectra are {_range(_ends(apart))} apart (W1)." if apart else ".")


def sensitivity(found: Mapping[str, Any]) -> str:
    """How much depends on rank and delays."""
    parts = []
    for observable, name in NAMES.items():
        rows = [row for row in found["sensitivity"] if row["observable"] == observable]
        low = min(rows, key=lambda row: row["rank"])["rank"]
        high = max(rows, key=lambda row: row["rank"])["rank"]
        ends = (_ends([row["trusted"] for row in rows if row["rank"] == r]) for r in (low, high))
        first, last = (_range(pair) for pair in ends)
        text = f"{name}: at rank {low} {first} eigenvalues are trusted, at rank {high} {last}"
        for column in (c for c in rows[0] if c.startswith("p ")):
            ps = [row[column] for row in rows if row[column] is not None]
            if ps:
                text += f"; p ({column[2:].replace(' ', ' against ')}) is below .05 in "
                text += f"{sum(p < 0.05 for p in ps)} of {len(ps)} combinations"
        parts.append(text)
    return "Over ranks and delays, " + ". ".join(parts) + "."


def _short(coordinates: str) -> str:
    return (
        coordinates if coordinates.startswith(("without", "as", "up")) else f"in time {coordinates}"
    )


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def _range(ends: Sequence[float]) -> str:
    low, high = (f"{end:,}" if isinstance(end, int) else f"{end:.3g}" for end in ends)
    return low if low == high else f"{low} to {high}"
