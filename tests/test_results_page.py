"""Tables of docs/results.md, and those the README repeats, are as the experiments recorded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from test_recorded_numbers import recorded, share, span, steps, times

ROOT = Path(__file__).parents[1]
RESULTS = "docs/results.md"
BOTH = (RESULTS, "README.md")


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def seeds_of_quick() -> list[str]:
    memorised, generalised = times(recorded("presets"), "quick")
    parts = (slice(0, 8), slice(8, None))
    return [f"| {steps(memorised[p])} | {steps(generalised[p])} |" for p in parts]


def ablation() -> list[str]:
    names = {
        "grokked": "grokked mainline, test",
        "untrained": "untrained, train",
        "random_labels": "random labels, train",
        "weight_decay_0": "weight decay 0, train",
    }
    lines = {0: "passes", 1: "fails by the keys", 3: "fails by all three lines"}
    lost = [f"{kind}_points_lost" for kind in ("keys", "controls", "non_keys")]
    return [
        row(names[name], *(f"{of[key]:.1f}" for key in lost), lines[len(of["failed_lines"])])
        for name, of in recorded("ablation_controls").items()
    ]


def decay() -> list[str]:
    rows = recorded("weight_decay_law")["quick"]["compared"]
    ends = [f"{r['low']:,.0f} to {r['high']:,.0f}" for r in rows]
    means = [f"{r['restricted_mean']:,.0f}" for r in rows]
    return [row("step generalised, restricted mean", *means), row("interval, 8 runs each", *ends)]


def fraction() -> list[str]:
    found = recorded("data_fraction")

    def at(n: int, key: str) -> list[str]:
        runs = sorted((r for r in found if r["n"] == n), key=lambda r: r["frac_train"])
        return [f"{r[key]:,}" if r[key] else f"not by {r['last_step']:,}" for r in runs]

    return [
        row("generalised at step", *at(113, "generalised")),
        row("test loss below 1", *at(113, "test_loss_below_1")),
        row("published", *at(113, "published_below_1")),
        row("generalised at step", *at(59, "generalised")),
    ]


def losses_within(style: str) -> list[str]:
    """Differences from the plain loop, each as 4.5e-5 in a style such as '{} in {}'."""
    each = recorded("openai_grok")["s5"].items()
    texts = [
        (f"{of['largest_loss_difference']:.1e}".replace("e-0", "e-"), name) for name, of in each
    ]
    return [style.format(*both) for both in texts]


def moments_of_addition() -> tuple[str, str]:
    add = recorded("openai_grok")["spectral_add40"]
    memorised, generalised = (add[f"{m}_interval"][1] for m in ("memorised", "generalised"))
    return f"{memorised:,}", f"{generalised:,}"


def published_runs() -> list[str]:
    """openai/grok's two runs, in the table of presets and in their own section."""
    found = recorded("openai_grok")
    add, division = found["spectral_add40"], found["power2022_division"]
    memorised, generalised = moments_of_addition()
    never = f"not by {division['last_step']:,}"
    median = add["plateau"]["median"]
    return [
        f"| `spectral_add40` | {add['seed']} | {memorised} | {generalised} |",
        f"| `power2022_division` | 0 | {division['memorised_interval'][1]} | {never} |",
        f"memorised at {memorised}, generalised at {generalised}, stopped 1,000 steps later |",
        f"losses within {' and '.join(losses_within('{} in {}'))} |",
        f"step {add['plateau']['to']:,} its median validation accuracy is "
        f"{share(median['test_acc'])}.",
        f"{share(median['test_acc_twin'])} of those are right, "
        f"{share(median['test_acc_no_twin'], 3)} of the others.",
        {8: "there were eight slingshots"}.get(len(add["slingshots"]), "another number"),
    ]


def published_runs_in_short() -> list[str]:
    memorised, generalised = moments_of_addition()
    return [
        f"addition mod 97 | 1 | {memorised} | {generalised} |",
        f"as a plain loop, losses within {', '.join(losses_within('{} ({})'))} |",
    ]


def decays_apart() -> list[str]:
    found = recorded("fingerprint_study")
    ends = [
        sorted(r["generalised"] for r in found["runs"] if r["optim.weight_decay"] == decay)
        for decay in (1.0, 2.0)
    ]
    p = {
        r["observable"]: share(r["p"], 3)
        for r in found["compared"]
        if (r["coordinates"], r["distance"]) == ("eigenvalues", "W1")
    }
    return [
        row("generalised at step", *(f"{of[0]:,}-{of[-1]:,}" for of in ends)),
        row("the answer", p["answer_log_prob"]),
        row("the end token", p["end_log_prob"]),
    ]


def perturbed() -> list[str]:
    groups = recorded("perturbation_study")["groups"]
    grown, ended, seeds, spreads = ([] for _ in range(4))
    for group in groups:
        rates = sorted(r["rate"] for r in group["growth"] if r["of"] == "weights" and r["rate"])
        digits = 4 if rates[-1] < 0.01 else 3
        grown.append("-".join(share(x, digits) for x in (rates[0], rates[-1])))
        times = next(r for r in group["times"] if r["moment"] == "generalised")
        ended.append("{:,}-{:,}".format(*times["perturbed"]["range"]))
        seeds.append("{:,}-{:,}, n = {}".format(*times["seeds"]["range"], times["seeds"]["n"]))
        ratio, p = times["spread"]["ratio"], times["spread"]["p"]
        text = f"{ratio:.2f}".removeprefix("0")
        spreads.append(f"{text}, p = {share(p, 3 if p < 0.01 else 2)}")
    last = [r for r in groups[0]["reached"] if r["of"] == "weights"][-1]
    near, far = ([share(f(last[k])) if f(last[k]) < 1 else f"{f(last[k]):.2f}" for f in (min, max)]
                 for k in ("perturbed", "between seeds"))  # fmt: skip
    return [
        row("growth of the difference in weights, at first exponential, per step", *grown),
        row("generalised at step, perturbed runs and control", *ended),
        row("generalised at step, other seeds", *seeds),
        row("spread over perturbations / over seeds (ratio of standard deviations)", *spreads),
        f"from the control | {'-'.join(near)} (two seeds: {'-'.join(far)}) | |",
    ]


def warning() -> list[str]:
    found = recorded("early_warning")
    names = {
        "residual of answer, published": "residual as published, of the answer",
        "residual of end token, published": "residual as published, of the end token",
        "validation loss": "validation loss",
    }

    def of(part: Mapping[str, Any], signal: str, outcome: str) -> str:
        [r] = [
            r
            for r in part["ranking"]["held_out"]
            if (r["signal"], r["outcome"]) == (signal, outcome)
        ]
        return f"{share(r['mean'])} {span(r['interval'])}"

    half = found["by_half"]
    return [
        row(name, of(found, s, "C"), of(half, s, "C"), of(half, s, "AUROC onset"))
        for s, name in names.items()
    ]


def arm(arms: list[dict[str, Any]], target: str, taken: str, donor: str) -> dict[str, Any]:
    kept = [a for a in arms if (a["target"], a["taken"], a["donor"]) == (target, taken, donor)]
    return next(a for a in kept if taken != "body" or a["trained"] == "embedding")


def transfer() -> list[str]:
    found = recorded("circuit_transfer")
    names = {"grokked": "grokked", "memorised": "memorised, of the same run",
             "spectrum_matched": "its singular values, random directions",
             "w_out_permuted": "W_out permuted against its neurons",
             "random_init": "newly initialised"}  # fmt: skip
    rows = []
    for donor, name in names.items():
        of = [arm(found["arms"], target, "body", donor) for target in ("T0", "T1", "T3")]
        cells = [f"{share(a['test_acc'], 3)} ({share(a['test_acc_no_twin'], 3)})" for a in of]
        rows.append(row(name, *cells))
    best = [found["contrasts"][t]["best control"] for t in ("T0", "T1", "T3")]
    leads = [f"{share(b['difference'], 3)} {span(b['interval'], 3)}" for b in best]
    return [*rows, row("lead of grokked over the best control at each seed", *leads)]


def scratch() -> list[str]:
    arms = recorded("circuit_transfer")["arms"]
    of = [arm(arms, target, "nothing", "none") for target in ("T0", "T1", "T3")]
    first, second, third = (share(a["test_acc"], 3) for a in of)
    return [f"reaches {first}, {second} and {third} (n = {of[0]['n']})"]


def slower() -> list[str]:
    arms = recorded("circuit_transfer")["arms"]
    alone = arm(arms, "T1", "nothing", "none")["mean_steps_generalised"]
    frozen = arm(arms, "T1", "body", "grokked")["mean_steps_generalised"]
    return [f"at {alone:,.0f} on average", f"against {frozen:.0f} with the frozen grokked body"]


def points(values: Any) -> str:
    """Every run's value; a dash where it does not apply."""
    return " / ".join("-" if v is None else share(v) for v in values)


MODELS = {
    ("trm", "both_full"): "recursive, both_full",
    ("trm", "both_full_sham"): "recursive, both_full_sham",
    ("trm", "natural"): "recursive, natural",
    ("trm", "first_hop"): "recursive, first_hop",
    ("trm", "second_hop"): "recursive, second_hop",
    ("gpt2", "both_full"): "GPT-2's shape, both_full",
    ("gpt2_twice", "both_full"): "its blocks run twice, both_full",
}


def two_hops() -> list[str]:
    found = recorded("two_hop")["pretraining"]
    shown = ("iid", "ood", "lens", "probe_held_out", "probe", "swap")
    return [
        row(
            name,
            *(points(r[key] for r in found if (r["model"], r["regime"]) == kind) for key in shown),
        )
        for kind, name in MODELS.items()
    ]


def same_step() -> list[str]:
    found = recorded("two_hop")["same_step"]
    names = {"both_full": "both_full", "natural": "natural", "both_full_sham": "both_full_sham"}
    rows = [row(name, *(share(one[key]) for one in found)) for key, name in names.items()]
    return [row("step", *(f"{one['step']:,}" for one in found)), *rows]


def two_hop_claims() -> list[str]:
    found = recorded("two_hop")
    at_end = [r["at_end"] for r in found["finetuning"] if r["arm"] == "both_full__new"]
    first, second = (points(one[c] for one in at_end) for c in ("new_old", "old_new"))
    return [
        f"{points(one['natural'] for one in found['same_step'])} in natural",
        f"both_full: {first} in hop 1, {second} in hop 2",
    ]


ARMS = {
    "both_full__new": ("both_full", "1.00, .02"),
    "natural__new": ("natural at the same accuracy", "1.00, .00"),
    "scratch_on_both_full__new": ("from scratch, both_full's data", ".31, .00"),
    "scratch_on_natural__new": ("from scratch, natural's data", ".31, .00"),
    "both_full__new__embedding-only": ("both_full, embeddings and head alone", "-"),
    "natural__new__embedding-only": ("natural, embeddings and head alone", "-"),
    "both_full__new__body-only": ("both_full, recursion alone", "-"),
    "natural__new__body-only": ("natural, recursion alone", "-"),
}


def finetuning() -> list[str]:
    found = recorded("two_hop")["finetuning"]
    cells = ("taught", "new_old", "old_new")
    return [
        row(name, *(points(r["at_end"][c] for r in found if r["arm"] == arm) for c in cells), paper)
        for arm, (name, paper) in ARMS.items()
    ]


def edits() -> list[str]:
    found = recorded("two_hop")["finetuning"]
    cells = ("taught", "edit_first", "edit_second")
    return [
        row(
            start,
            *(
                points(r["at_end"][c] for r in found if r["arm"] == f"{start}__edited")
                for c in cells
            ),
            *(
                points(r["old_answer"][c] for r in found if r["arm"] == f"{start}__edited")
                for c in cells[1:]
            ),
        )
        for start in ("both_full", "natural")
    ]


SAID = [
    *((RESULTS, said) for said in (two_hops, same_step, finetuning, edits)),
    ("README.md", same_step),
    ("docs/reproducing.md", two_hop_claims),
    (RESULTS, seeds_of_quick),
    *((page, ablation) for page in BOTH),
    (RESULTS, decay),
    (RESULTS, fraction),
    (RESULTS, published_runs),
    ("README.md", published_runs_in_short),
    (RESULTS, decays_apart),
    (RESULTS, perturbed),
    (RESULTS, warning),
    *((page, transfer) for page in BOTH),
    ("README.md", scratch),
    (RESULTS, slower),
]


@pytest.mark.parametrize(("page", "said"), SAID, ids=lambda x: getattr(x, "__name__", str(x)))
def test_the_table_is_what_was_recorded(page: str, said: Any) -> None:
    text = " ".join((ROOT / page).read_text().split())
    rows = said()
    assert rows
    assert [line for line in rows if line not in text] == []
