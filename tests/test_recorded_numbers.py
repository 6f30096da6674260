"""Numbers in docs/reproducing.md and docs/limits.md are those of the experiments' expected.json.

Every sentence below is written by the recorded numbers, and has to stand in the page as it is.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
Found = Any


def recorded(experiment: str) -> Found:
    return json.loads((ROOT / "experiments" / f"{experiment}.expected.json").read_text())


def page(name: str) -> str:
    """The page with every run of white space as one space, so that lines may be broken anywhere."""
    return " ".join((ROOT / "docs" / f"{name}.md").read_text().split())


def share(x: float, digits: int = 2) -> str:
    """A number between -1 and 1 as papers print it: .024, -.5"""
    return f"{x:z.{digits}f}".replace("0.", ".", 1)


def span(ends: Any, digits: int = 2) -> str:
    return "[" + ", ".join(share(x, digits) for x in ends) + "]"


def steps(values: Any) -> str:
    return ", ".join(f"{v:,}" for v in values)


def between(values: Any) -> str:
    return f"{min(values):,} to {max(values):,}"


def times(found: Found, preset: str) -> tuple[list[int], list[int | None]]:
    runs = found[preset]["runs"]
    return [r["memorised"] for r in runs], [r["generalised"] for r in runs]


def mainline(found: Found) -> str:
    memorised, generalised = times(found, "nanda2023_mainline")
    n = len(memorised)
    return f"memorised at {steps(memorised)}; generalised at {steps(generalised)} | {n} |"


def quick(found: Found) -> str:
    memorised, generalised = times(found, "quick")
    ends = f"memorised at {between(memorised)}; generalised at {between(generalised)}"
    return f"{ends} | {len(memorised)} |"


def once(preset: str) -> Callable[[Found], str]:
    """Presets recorded once, or that never generalised."""

    def said(found: Found) -> str:
        memorised, generalised = times(found, preset)
        last = found[preset]["runs"][0]["steps"]
        first = steps(sorted(set(memorised)))
        end = f"generalised at {generalised[0]:,}" if generalised[0] else f"not by {last:,}"
        assert len(set(generalised)) == 1
        return f"memorised at {first}; {end} | {len(memorised)} |"

    return said


def ablation(found: Found) -> str:
    lost = {name: f"{row['keys_points_lost']:.1f}" for name, row in found.items()}
    return (
        f"points lost without the keys: grokked {lost['grokked']}, untrained {lost['untrained']}, "
        f"random labels {lost['random_labels']}, no decay {lost['weight_decay_0']} | 1 each |"
    )


def table(found: Found) -> str:
    of = found["quick"]["intervals"]
    names = {"excluded loss on train": "excluded_loss.train",
             "Gini of W_E": "gini.W_E"}  # fmt: skip
    each = [
        f"{word} {of[name]['mean']:.2f} [{of[name]['low']:.2f}, {of[name]['high']:.2f}]"
        for word, name in names.items()
    ]
    return f"`quick`: {', '.join(each)} | {of['gini.W_E']['n']} |"


def leads(found: Found) -> str:
    def stands(measure: str) -> int:
        return sum(measure in one["values"]["standing"] for one in found)

    n = len(found)
    three = {stands(m) for m in ("excluded_loss (own keys)", "gini.W_E", "spectra.top5_share_W_E")}
    assert three == {n}
    return (
        f"excluded loss, Gini and top-5 share of W_E stand in {n} of {n}, restricted loss in "
        f"{stands('restricted_loss (own keys)')} | {n} |"
    )


def decay(found: Found) -> str:
    law = found["law"]
    ends = f"[{law['interval'][0]:.2f}, {law['interval'][1]:.2f}]"
    assert law["censored"] == 0
    return f"time goes as decay to the power {law['exponent']:.2f} {ends} | {law['runs']} |"


def decay_of_the_mainline(found: Found) -> str:
    at = {r["optim.weight_decay"]: r["generalised_by"] for r in found["mainline"]["runs"]}
    return f"generalised at {at[1.0]:,} with decay 1, at {at[3.0]:,} with 3 | 1 each |"


def fraction(found: Found) -> str:
    at = {(r["n"], r["frac_train"]): r["generalised"] for r in found}
    large = f"p = 113: {at[113, 0.3]:,} at .3, {at[113, 0.5]:,} at .5, {at[113, 0.9]:,} at .9"
    last = next(r["last_step"] for r in found if (r["n"], r["frac_train"]) == (59, 0.25))
    assert at[59, 0.25] is None
    small = f"p = 59: not by {last:,} at .25, {at[59, 0.3]:,} at .3, {at[59, 0.5]:,} at .5"
    return f"{large}; {small} | 1 each |"


def circuit(found: Found) -> str:
    of = found["findings"]
    kept = of["faithfulness"]
    random = of["random"]
    return (
        f"{of['circuit_edges']} of {of['edges']} edges keep {share(kept['a'], 3)} (a), "
        f"{share(kept['b'], 3)} (b); random circuits of as many edges at most "
        f"{share(random['uniform']['max'], 3)}, of each kind "
        f"{share(random['matched']['max'], 3)} | 1 |"
    )


def plain_loop(found: Found) -> str:
    of = {name: f"{row['largest_loss_difference']:.1e}" for name, row in found["s5"].items()}
    of = {name: text.replace("e-0", "e-") for name, text in of.items()}
    n = found["s5"]["float32"]["steps"]
    both = f"{of['float32']} (float32) and {of['float64']} (float64)"
    return f"losses over {n} steps within {both} | 1 |"


def division(found: Found) -> str:
    of = found["power2022_division"]
    best = share(of["highest_test_acc"]["test_acc"], 3)
    memorised = of["memorised_interval"][1]
    last = of["last_step"]
    return f"memorised at {memorised:,}; validation accuracy never above {best} by {last:,} | 1 |"


def twins(found: Found) -> str:
    of = found["spectral_add40"]
    median = of["plateau"]["median"]
    generalised = of["generalised_interval"][1]
    twin, other = share(median["test_acc_twin"]), share(median["test_acc_no_twin"], 3)
    return (
        f"generalised at {generalised:,}; before, {twin} of the rows whose swapped twin is trained "
        f"on are right, {other} of the others | 1 |"
    )


def fingerprints(found: Found) -> str:
    p = {
        row["observable"]: share(row["p"], 3)
        for row in found["compared"]
        if (row["coordinates"], row["distance"]) == ("eigenvalues", "W1")
    }
    return (
        f"decays 1 and 2 told apart: p = {p['answer_log_prob']} by the answer, p = "
        f"{p['end_log_prob']} by the end token | {len(found['runs'])} |"
    )


def warning(found: Found) -> str:
    rows = {r["signal"]: r for r in found["ranking"]["held_out"] if r["outcome"] == "C"}
    names = {
        "answer": "residual of answer, published",
        "end token": "residual of end token, published",
        "validation loss": "validation loss",
    }
    each = [f"{w} {share(rows[s]['mean'])} {span(rows[s]['interval'])}" for w, s in names.items()]
    held = found["at_risk"]["held_out"][0]["runs"]
    return f"concordance with time to onset: {', '.join(each)} | {held} held out of 48 |"


def spread(found: Found) -> str:
    said = []
    for group in found["groups"]:
        row = next(r for r in group["times"] if r["moment"] == "generalised")
        ratio, p = row["spread"]["ratio"], row["spread"]["p"]
        ns = f"{row['perturbed']['n']} against {row['seeds']['n']}"
        name = group["group"].split(",")[0]
        said.append((name, f"{ratio:.2f}".removeprefix("0"), share(p, 3 if p < 0.01 else 2), ns))
    (big, r1, p1, n1), (small, r2, p2, n2) = said
    return (
        f"spread over perturbations / over seeds: {r1} (p = {p1}) in `{big}`, {r2} (p = {p2}) in "
        f"`{small}` | {n1}; {n2} |"
    )


def transfer(found: Found) -> str:
    names = {"T0": "same operation", "T1": "addition mod p - 1", "T3": "dihedral group"}
    rows = {target: found["contrasts"][target]["best control"] for target in names}
    each = [f"{word} {share(rows[t]['difference'], 3)} {span(rows[t]['interval'], 3)}"
            for t, word in names.items()]  # fmt: skip
    [n] = {row["n"] for row in rows.values()}
    return f"frozen grokked body minus the best control, test accuracy: {', '.join(each)} | {n} |"


def transfer_of_the_mainline(found: Found) -> str:
    arms = {row["donor"]: row for row in found["mainline"]["arms"]}
    names = {"grokked": "grokked", "memorised": "memorised",
             "spectrum-matched": "spectrum_matched", "random": "random_init"}  # fmt: skip
    each = [f"{word} {share(arms[name]['test_acc'], 3)}" for word, name in names.items()]
    return f"{', '.join(each)} | {arms['grokked']['n']} |"


SAID: Mapping[str, tuple[str, Callable[[Found], str]]] = {
    "mainline": ("presets", mainline),
    "quick": ("presets", quick),
    "demo": ("presets", once("tl_grokking_demo")),
    "two layers": ("presets", once("two_layer_literal")),
    "p = 47": ("presets", once("clean_p47")),
    "ablation": ("ablation_controls", ablation),
    "table": ("modadd_table", table),
    "leads": ("leads", leads),
    "decay": ("weight_decay_law", decay),
    "decay of the mainline": ("weight_decay_law", decay_of_the_mainline),
    "fraction": ("data_fraction", fraction),
    "circuit": ("circuit_modadd", circuit),
    "plain loop": ("openai_grok", plain_loop),
    "division": ("openai_grok", division),
    "twins": ("openai_grok", twins),
    "fingerprints": ("fingerprint_study", fingerprints),
    "warning": ("early_warning", warning),
    "spread": ("perturbation_study", spread),
    "transfer": ("circuit_transfer", transfer),
    "transfer of the mainline": ("circuit_transfer", transfer_of_the_mainline),
}


@pytest.mark.parametrize("name", SAID)
def test_the_page_says_what_was_recorded(name: str) -> None:
    experiment, said = SAID[name]
    assert said(recorded(experiment)) in page("reproducing")


@pytest.mark.parametrize("experiment", ["circuit_transfer", "two_hop"])
def test_what_is_not_recorded_is_said(experiment: str) -> None:
    """Fails when the record is there and the page still says that it is not."""
    there = (ROOT / "experiments" / f"{experiment}.expected.json").exists()
    rows = [r for r in (ROOT / "docs" / "reproducing.md").read_text().splitlines()
            if r.startswith("|") and f"experiments/{experiment}.py" in r]  # fmt: skip
    assert rows
    assert all(("not yet recorded" in row) is not there for row in rows)
