"""Two-hop queries follow from the facts, and those of out-of-distribution facts stay where told."""

import resource
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from two_hops import SMALL, Fact, facts, hops, make, table, two_hop

from mechgrok.config import CompositionTask, ConfigError, RunConfig, Seeds
from mechgrok.options import from_dict, override, to_dict
from mechgrok.presets import preset
from mechgrok.tasks._augmentation import REGIMES
from mechgrok.tasks._exposure import CELLS
from mechgrok.tasks._layouts import names
from mechgrok.tasks._rows import IGNORE
from mechgrok.tasks.composition import Task

PUBLISHED = {"entities": 2000, "relations": 200, "ood_share": 0.05, "phi": 18.0}


def ood_hops(task: Task, lines: list[str]) -> Counter[tuple[bool, bool]]:
    """How many queries have an out-of-distribution first, and second fact."""
    ood = facts(task, "ood_atomic")
    tails = table(ood | facts(task, "id_atomic"))
    pairs = [hops(line, tails) for line in lines]
    return Counter((first in ood, second in ood) for first, second in pairs)


@pytest.mark.parametrize("regime", REGIMES)
def test_every_query_follows_from_two_facts_and_none_of_two_ood_facts_is_trained(
    regime: str,
) -> None:
    task = make(regime=regime)
    train = task.text("train")
    known = facts(task, "id_atomic") | facts(task, "ood_atomic")
    assert len(known) == 60
    assert len(facts(task, "ood_atomic")) == 12
    assert {tuple(line.split()[:3]) for line in train[:60]} == known, "all facts, atomically"
    kinds = ood_hops(task, two_hop(task, "train"))
    assert set(kinds) - {(False, False)} == {
        "natural": set(),
        "both_full_sham": set(),
        "first_hop": {(True, False)},
        "second_hop": {(False, True)},
    }.get(regime, {(True, False), (False, True)})
    tested = task.text("test_inferred_ood")
    assert set(ood_hops(task, tested)) == {(True, True)}
    assert set(ood_hops(task, task.text("test_inferred_iid"))) == {(False, False)}
    assert not set(train) & {*tested, *task.text("test_inferred_iid")}
    assert set(task.text("train_inferred")) == set(two_hop(task, "train"))
    assert task.text("test") == tested


def test_regimes_share_the_graph_the_tests_and_the_natural_training_set() -> None:
    natural, *others = (make(regime=regime) for regime in REGIMES)
    same = ("id_atomic", "ood_atomic", "test_inferred_iid", "test_inferred_ood")
    for other in others:
        assert all(other.text(split) == natural.text(split) for split in same)
        assert other.text("train")[: len(natural.splits["train"])] == natural.text("train")
        assert len(other.splits["train"]) > len(natural.splits["train"])


def test_all_two_hop_queries_of_the_graph_are_found() -> None:
    task = make()
    tails = table(facts(task, "id_atomic") | facts(task, "ood_atomic"))
    ood = facts(task, "ood_atomic")
    every = {(h, r1, r2): (h, r1, b) for (h, r1), b in tails.items() for x, r2 in tails if x == b}
    assert len(every) == len(task.graph.queries()) == 300
    both = {q for q, first in every.items() if first in ood and _second(q, tails) in ood}
    assert both == {tuple(line.split()[:3]) for line in task.text("test_inferred_ood")}


def _second(query: tuple[str, str, str], tails: dict[tuple[str, str], str]) -> Fact:
    h, r1, r2 = query
    b = tails[h, r1]
    return b, r2, tails[b, r2]


@pytest.mark.parametrize(
    ("regime", "shares", "k"),
    [("both_full", (1, 1), 3), ("both_half", (0.5, 0.5), 2), ("second_hop", (0, 1), 3)],
)
def test_every_exposed_fact_gets_as_many_queries_as_there_are(
    regime: str, shares: tuple[float, float], k: int
) -> None:
    task = make(regime=regime)
    ood, known = facts(task, "ood_atomic"), facts(task, "id_atomic")
    tails = table(ood | known)
    tested = [hops(line, tails) for line in task.text("test_inferred_ood")]
    added = [hops(line, tails) for line in two_hop(task, "train")[round(2.5 * 48) :]]
    assert len(set(added)) == len(added)
    for hop, share in enumerate(shares):
        uses = Counter(pair[hop] for pair in added if pair[hop] in ood)
        asked = {pair[hop] for pair in tested}
        assert len(uses) == round(share * len(asked)), "Python's round, as published"
        assert set(uses) <= asked
        for (h, _, t), n in uses.items():
            partners = [f for f in known if (f[0] == t if hop == 0 else f[2] == h)]
            assert n == min(k, len(partners))


def test_halves_are_rounded_to_even_as_published() -> None:
    """636.5 of 1,273 facts is 636; here 2.5 of 5 is 2 and 1.5 of 3 is 2."""
    rounded = set()
    for seed in range(12):
        task = make(Seeds(data=seed), regime="both_half")
        found = task.exposure()
        for hop in ("first_hop", "second_hop"):
            n = found[hop]["facts"]
            assert found[hop]["exposed"] == round(n / 2)
            rounded.add((n % 4 == 1, found[hop]["exposed"] < n / 2))
    assert (True, True) in rounded


def test_the_sham_adds_as_many_queries_of_other_facts() -> None:
    both, sham = make(regime="both_full", phi=1.0), make(regime="both_full_sham", phi=1.0)
    assert len(both.splits["train"]) == len(sham.splits["train"])
    lines = two_hop(sham, "train")
    assert set(ood_hops(sham, lines)) == {(False, False)}
    assert len(set(lines)) == len(lines), "there are enough queries that phi left out"
    full = make(regime="both_full_sham", phi=3.4)  # next to none is left out
    repeats = Counter(two_hop(full, "train"))
    assert len(full.splits["train"]) == len(make(regime="both_full", phi=3.4).splits["train"])
    assert set(repeats.values()) == {1, 2}


@pytest.mark.parametrize("regime", [r for r in REGIMES if r != "both_full_sham"])
def test_no_query_is_trained_on_twice(regime: str) -> None:
    lines = make(regime=regime).text("train")
    assert len(set(lines)) == len(lines)


def test_phi_counts_queries_per_fact() -> None:
    for phi in (1.0, 2.0, 3.0):
        assert len(two_hop(make(phi=phi), "train")) == phi * 48
    small, large = (set(make(phi=phi).text("test_inferred_iid")) for phi in (1.0, 3.0))
    assert small == large


def test_seeds_draw_the_graph_and_the_augmentation_apart() -> None:
    base = make(regime="both_half")
    assert base.sha256 == make(regime="both_half").sha256
    assert make(Seeds(data=1)).text("id_atomic") != base.text("id_atomic")
    other = make(Seeds(augmentation=1), regime="both_half")
    natural = len(make().splits["train"])
    assert other.text("train")[:natural] == base.text("train")[:natural]
    assert other.text("train") != base.text("train")
    assert other.text("test") == base.text("test")
    follows = make(Seeds(base=1), regime="both_half")
    assert follows.text("train") == other.text("train")


GOLDEN = {
    "natural": "37495f91e97c61b8",
    "both_full": "7dcfdc33f81d40d1",
    "both_half": "dc42d1f7c027f912",
    "both_full_sham": "7574c2c5b17158bc",
}


@pytest.mark.parametrize("regime", GOLDEN)
def test_the_small_graph_is_what_it_was(regime: str) -> None:
    task = Task.make(CompositionTask(regime=regime), Seeds())
    assert task.sha256.startswith(GOLDEN[regime])
    assert len(task.splits["train"]) >= 1_200 + 16 * 1_080


BEFORE = {
    "quick": "88bedaa9156933a2f6e4c5be66f7941316203647da6e08fef817750179137ef7",
    "spectral_add40": "e2eda1f689238fa447e777addae8d85b24868e6b9cc13e84baa67d2bcf44bffa",
}


@pytest.mark.parametrize("name", BEFORE)
def test_seeds_younger_than_a_run_leave_its_digest_alone(name: str) -> None:
    config = preset(name, 3)
    assert config.digest() == BEFORE[name]
    assert (config.seeds.augmentation, config.seeds.following("augmentation")) == (None, 3)
    assert override(config, {"seeds.augmentation": 4}).digest() != BEFORE[name]
    assert Seeds(augmentation=4).with_base(5).augmentation == 5


def test_settings_survive_a_file_and_every_one_counts() -> None:
    config = override(RunConfig(), {"task.name": "composition", "task.finetune.facts": "new"})
    assert from_dict(RunConfig, to_dict(config)) == config
    assert config.digest() != override(RunConfig(), {"task.name": "composition"}).digest()


def test_exposure_counts_uses_in_training() -> None:
    task = make(regime="both_half")
    tails = table(facts(task, "id_atomic") | facts(task, "ood_atomic"))
    trained = [hops(line, tails) for line in two_hop(task, "train")]
    tested = [hops(line, tails) for line in task.text("test_inferred_ood")]
    first, second = (Counter(pair[i] for pair in trained) for i in (0, 1))
    rows = task.splits["test_inferred_ood"]
    expected = {
        "first_uses": [first[f] for f, _ in tested],
        "second_uses": [second[s] for _, s in tested],
        "first_uses_any": [first[f] + second[f] for f, _ in tested],
        "second_uses_any": [first[s] + second[s] for _, s in tested],
    }
    for name, values in expected.items():
        assert task.tags[name][rows].tolist() == values
    cells = [(first[f] > 0) + 2 * (second[s] > 0) for f, s in tested]
    assert task.tags["exposure"][rows].tolist() == cells
    for i, name in enumerate(CELLS):
        lines = [line for line, c in zip(task.text("test"), cells, strict=True) if c == i]
        assert (task.text(name) if name in task.splits else []) == lines
    for split in ("test_inferred_ood", "test_inferred_iid"):
        asked = {fact for line in task.text(split) for fact in hops(line, tails)}
        counted = {
            "first_hop": sum(f in asked for f, _ in trained),
            "second_hop": sum(s in asked for _, s in trained),
            "any_hop": sum(bool({f, s} & asked) for f, s in trained),
        }
        assert task.exposure(split)["trained_queries_with_one"] == counted
    assert counted["any_hop"] < counted["first_hop"] + counted["second_hop"], "some use two"
    assert counted["any_hop"] > 2, "the released code counts 0, 1 or 2"
    found = task.exposure()
    uses = [first[f] for f in {f for f, _ in tested}]
    assert found["first_hop"]["uses"] == sum(uses)
    assert found["first_hop"]["percentiles"]["75"] == np.percentile(uses, 75)
    with pytest.raises(ValueError, match="atomic queries"):
        task.exposure("id_atomic")


def test_rows_of_both_layouts() -> None:
    trm, causal = make(), make(layout="causal")
    assert trm.vocabulary == ("<pad>", *names(12, 8))
    assert causal.vocabulary == trm.vocabulary[1:]
    assert trm.vocabulary[13] == "<r_0>"
    assert len(names(2000, 200)) == 2_206
    for split in trm.splits:
        assert trm.text(split) == causal.text(split)
    for row in (0, int(trm.splits["test"][0])):
        h, r1, *rest = (trm.vocabulary.index(w) for w in _line(trm, row).split())
        whole = [h, r1, *rest]
        prompt = whole[:-2]
        assert trm.tokens[row].tolist() == [*prompt, *[0] * (5 - len(prompt))]
        asked = dict(zip(trm.answer_positions[row].tolist(), trm.labels[row].tolist(), strict=True))
        assert asked == {i: whole[i] if i < len(whole) else IGNORE for i in range(5)}
        assert trm.labels[row, :2].tolist() == whole[-2:], "the tail first, then </a>"
        text = [causal.vocabulary.index(w) for w in _line(causal, row).split()]
        end = causal.vocabulary.index("</a>")
        assert causal.tokens[row].tolist() == [*text, end][:4]
        assert causal.labels[row].tolist() == text[-2:]
        assert causal.answer_positions[row].tolist() == [len(text) - 3, len(text) - 2]
    assert [trm.vocabulary[i] for i in trm.entities] == [f"<e_{i}>" for i in range(12)]


def _line(task: Task, row: int) -> str:
    split = "train" if row == 0 else "test"
    return task.text(split)[0]


def test_tags_name_the_bridge() -> None:
    task = make()
    tails = table(facts(task, "id_atomic") | facts(task, "ood_atomic"))
    rows = task.splits["test"]
    bridges = [hops(line, tails)[0][2] for line in task.text("test")]
    assert [task.vocabulary[b] for b in task.tags["b"][rows]] == bridges
    assert bool((task.tags["kind"][rows] == 1).all())
    atomic = task.splits["ood_atomic"]
    assert set(task.tags["b"][atomic].tolist()) == {-1}
    assert bool(task.tags["first_ood"][atomic].all())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"out_degree": 9}, "task.out_degree = 9 .* of task.relations = 8; expected at most 8"),
        ({"phi": 3.9}, r"task.phi = 3.9 asks for 187 .* this graph has \d+: .* at most 3\.\d"),
        ({"phi": 0.0}, "task.phi = 0.0"),
        ({"phi": float("inf")}, "task.phi = inf"),
        ({"regime": "both"}, "task.regime = 'both'; expected one of .*'both_full'"),
        ({"ood_share": 1.0}, "task.ood_share = 1.0"),
        ({"ood_share": 0.001}, "no ood_atomic, test_inferred_ood; give more task.entities"),
        ({"iid_share": 1e-6}, "no test_inferred_iid"),
        ({"entities": 1}, "task.entities = 1; expected at least 2"),
        ({"injected": 0}, "task.injected = 0"),
    ],
)
def test_impossible_settings_are_named(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make(**fields)


@pytest.mark.parametrize("layout", ["causal", "trm"])
def test_it_is_trained_on_and_watched(layout: str, tmp_path: Path) -> None:
    small = {f"task__{name}": value for name, value in SMALL.items()}
    asked = tiny.config(task__name="composition", task__layout=layout, **small)
    changes = {
        "stop.max_steps": 20,
        "schedule.evaluate_every": 20,
        "schedule.checkpoints": ["at 20"],
    }
    changes |= {"optim.lr": 3e-2, "optim.batch_size": 64, "optim.warmup_steps": 0}
    run = tiny.train(asked, tmp_path / "run", **changes, **{"task.regime": "both_half"})
    first, last = run.evaluations()[0], run.evaluations()[-1]
    assert last["train_loss"] < first["train_loss"] - 0.5
    ck, task = run[-1], run.task
    watched = {"train", "test", "id_atomic", "ood_atomic", "test_inferred_iid", *CELLS}
    assert {name.removesuffix("_answer_acc") for name in last if name.endswith("answer_acc")} == (
        watched & {*task.splits, "train"}
    )
    logits = ck.model(task.tokens)
    guess = logits.gather(1, task.answer_positions[:, :, None].expand(-1, -1, logits.shape[-1]))
    right = (guess.argmax(-1) == task.labels) | (task.labels == IGNORE)
    for name, split in task.watched.items():
        rows = task.splits[split]
        assert last[f"{name}_acc"] == pytest.approx(float(right[rows].all(1).double().mean()))
        tail = (guess[rows, 0].argmax(-1) == task.tags["t"][rows]).double().mean()
        assert last[f"{name}_answer_acc"] == pytest.approx(float(tail))
    assert torch.equal(task.labels[:, 0], task.tags["t"])


@pytest.mark.slow
def test_published_sizes_within_twenty_seconds_and_a_gigabyte() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    task = Task.make(CompositionTask(**PUBLISHED, regime="both_full"), Seeds())
    seconds = time.process_time() - began
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert seconds < 20
    assert grown * (1 if sys.platform == "darwin" else 1024) < 1e9
    sizes = {name: len(rows) for name, rows in task.splits.items()}
    assert (sizes["id_atomic"], sizes["ood_atomic"]) == (3_000, 2_000)
    assert sizes["train_inferred"] == sizes["test_inferred_iid"] == 3_000
    assert 1_850 < sizes["test_inferred_ood"] < 2_250
    assert 22_000 + 20_500 < sizes["train"] - 724_000 < 24_500 + 23_000
    found = task.exposure()
    assert 1_200 < found["first_hop"]["facts"] < 1_400
    assert 17.6 < found["first_hop"]["uses"] / found["first_hop"]["facts"] <= 18
    assert 16.4 < found["second_hop"]["uses"] / found["second_hop"]["facts"] < 17.0
