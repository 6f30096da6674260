"""Measures of two-hop models, on models written by hand and on untrained ones."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from measures.stand_in import StandIn, model, untrained
from measures.two_hop_models import KINDS, ByHand, by_hand, task

from mechgrok.config import FinetuneSet, TRMModel
from mechgrok.measures import _stages, _two_hop
from mechgrok.measures._two_hop import facts
from mechgrok.models.trm import build
from mechgrok.runs.result import NotApplicable, Result
from mechgrok.tasks.composition import Task

NAMES = ("bridge_lens", "bridge_probe", "bridge_tracing", "bridge_swap", "two_hop_cells")
AT_R1 = ("H0_L0_Thinking", "r1")


def measure(name: str, checkpoint: StandIn, **options: Any) -> Result:
    """The wrapper of a measure."""
    return importlib.import_module(f"mechgrok.measures.{name}").measure(checkpoint, **options)


def place(result: Result, array: str, stage: str, position: str) -> float:
    """One place of a saved map."""
    stages, positions = result["stages"], result["positions"]
    assert isinstance(stages, tuple)
    assert isinstance(positions, tuple)
    return float(result.arrays[array][stages.index(stage), positions.index(position)])


@pytest.fixture(scope="module")
def small() -> Task:
    """One task for all hand-written models."""
    return task()


def causal() -> StandIn:
    """An untrained transformer with a final normalisation, on next-token rows."""
    of = task(layout="causal")
    sizes = {"n_layers": 2, "normalization": "LN"}
    return StandIn(task=of, model=model(of, **sizes))  # pyright: ignore[reportArgumentType]


def recursive(**sizes: Any) -> StandIn:
    """An untrained Tiny Recursive Model."""
    of = task()
    vocabulary = {"d_vocab": of.d_vocab, "n_ctx": of.n_ctx, "d_vocab_out": of.d_vocab_out}
    config = TRMModel(**{"d_model": 16, "dtype": "float64", **sizes})
    return StandIn(task=of, model=build(config, **vocabulary, seed=0).eval())


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_hand_written_model_answers_everything(kind: str, small: Task) -> None:
    found = measure("two_hop_cells", by_hand(kind, small))
    assert {name for name in found.values if name.endswith("_exact_match")} >= {
        f"{name}_exact_match" for name in ("id_atomic", "test_inferred_ood", "train_inferred")
    }
    rates = [x for name, x in found.values.items() if name.endswith(("exact_match", "accuracy"))]
    assert set(rates) == {1.0}


@pytest.mark.parametrize(
    ("kind", "seen"), [("sequential", 1), ("unused", 1), ("rotated", 0), ("blind", 0)]
)
def test_the_lens_sees_a_bridge_in_the_unembeddings_basis(
    kind: str, seen: int, small: Task
) -> None:
    found = measure("bridge_lens", by_hand(kind, small))
    for name in found["kinds"]:  # pyright: ignore[reportGeneralTypeIssues, reportOptionalIterable]
        if isinstance(found[f"{name}_excess"], NotApplicable):
            continue
        assert found[f"{name}_target_found"] == 1
        if seen:
            assert found[f"{name}_bridge_found"] == 1
            assert (found[f"{name}_best_stage"], found[f"{name}_best_position"]) == AT_R1
            assert found[f"{name}_right_given_absent"] == NotApplicable("no such query")
    rate = place(found, "rate test_inferred_ood", *AT_R1)
    excess = found["test_inferred_ood_excess"]
    assert isinstance(excess, float)
    assert (excess > 0.6) if seen else (abs(excess) < 0.25)
    assert rate == 1 if seen else rate < 0.3


@pytest.mark.parametrize(
    ("kind", "there"), [("sequential", 1), ("unused", 1), ("rotated", 1), ("blind", 0)]
)
def test_the_probe_reads_a_bridge_in_any_basis(kind: str, there: int, small: Task) -> None:
    found = measure("bridge_probe", by_hand(kind, small))
    if there:
        assert (found["stage"], found["position"]) == AT_R1
        assert found["ood_accuracy"] == 1
        assert found["ood_selectivity"] > 0.6  # pyright: ignore[reportOperatorIssue]
    else:
        assert place(found, "accuracy ood", *AT_R1) < 0.4


@pytest.mark.parametrize(
    ("kind", "used"), [("sequential", 1), ("rotated", 1), ("unused", 0), ("blind", 0)]
)
def test_the_swap_tells_a_bridge_that_is_used(kind: str, used: int, small: Task) -> None:
    found = measure("bridge_swap", by_hand(kind, small), items=100)
    assert place(found, "interchange", *AT_R1) == used
    assert place(found, "stays", *AT_R1) == 1 - used
    assert place(found, "same_bridge_stays", *AT_R1) == 1
    assert place(found, "donor", "H0_Commit", "t") == 1
    assert place(found, "donor", "H0_Commit", "all") == 1
    assert place(found, "stays", "Init", "all") == 1
    if used:
        assert (found["stage"], found["interchange"]) == ("H0_L0_Thinking", 1)
        assert 0 < found["random_bridge"] < 0.3  # pyright: ignore[reportOperatorIssue]
    else:
        assert found["excess"] <= 0  # pyright: ignore[reportOperatorIssue]


def test_tracing_follows_the_bridge_to_the_answer(small: Task) -> None:
    found = measure("bridge_tracing", by_hand("sequential", small), items=100)
    for part in ("h", "r1"):  # both make the bridge
        assert place(found, f"flips {part}", *AT_R1) == 1
        assert place(found, f"flips {part}", "H0_L0_Thinking", "r2") == 0
    assert place(found, "flips r2", *AT_R1) == 0  # r2 is read from the tokens
    for part in ("h", "r1", "r2"):
        assert place(found, f"flips {part}", "H0_Commit", "t") == 1
        assert found.arrays[f"flips {part}"][0].max() == 0  # Init is the same in every run
    assert found["b_max_mrr"] == 1
    assert found["wrong"] == 0
    shortcut = measure("bridge_tracing", by_hand("unused", small), items=100)
    assert place(shortcut, "flips h", *AT_R1) == 0
    assert shortcut["h_r1_max_flips"] == 0


@pytest.mark.parametrize("name", NAMES)
def test_other_tasks_do_not_apply(name: str) -> None:
    found = measure(name, untrained(11))
    assert isinstance(found.headline, NotApplicable)
    assert "no two-hop queries" in found.headline.reason


@pytest.mark.parametrize("name", NAMES[:-1])
def test_a_model_without_stages_does_not_apply(name: str, small: Task) -> None:
    class Plain(torch.nn.Module):
        hook_dict: dict[str, Any] = {}

    found = measure(name, StandIn(task=small, model=Plain()))
    assert isinstance(found.headline, NotApplicable)
    assert "has no stages" in found.headline.reason


def test_the_last_stage_is_the_models_output() -> None:
    checkpoint = causal()
    chosen = _stages.stages(checkpoint.model)
    tokens = checkpoint.task.tokens[:50]
    names = [stage.name for stage in chosen]
    assert names == ["embed", "L0_mid", "L0_post", "L1_mid", "L1_post"]
    out = checkpoint.model(tokens).argmax(dim=-1)
    for norm in _stages.NORMS:
        found = _stages.decoded(checkpoint.model, chosen, tokens, 3, norm)
        assert torch.equal(found[:, -1], out[:, :3])
    with pytest.raises(ValueError, match="norm='none'"):
        _stages.decoded(checkpoint.model, chosen, tokens, 3, "none")


@pytest.mark.parametrize("sizes", [{}, {"puzzle_positions": 2, "L_cycles": 3}, {"H_cycles": 3}])
def test_the_stages_of_a_trm_are_those_of_the_published_lens(sizes: dict[str, int]) -> None:
    checkpoint = recursive(**sizes)
    H, L = sizes.get("H_cycles", 2), sizes.get("L_cycles", 2)
    chosen = _stages.stages(checkpoint.model)
    assert len(chosen) == 1 + H * (L + 1)
    expected = [[f"H{h}_L{i}_Thinking" for i in range(L)] + [f"H{h}_Commit"] for h in range(H)]
    assert [stage.name for stage in chosen] == [
        "Init",
        *(name for cycle in expected for name in cycle),
    ]
    tokens = checkpoint.task.tokens[:50]
    found = _stages.decoded(checkpoint.model, chosen, tokens, 5)
    assert torch.equal(found[:, -1], checkpoint.model(tokens).argmax(dim=-1))
    assert len(found[:, 0].unique(dim=0)) == 1


@pytest.mark.parametrize("sizes", [{}, {"puzzle_positions": 2, "L_cycles": 3}])
def test_a_trm_resumed_from_a_state_equals_the_hooked_run(sizes: dict[str, int]) -> None:
    checkpoint = recursive(**sizes)
    trm, tokens = checkpoint.model, checkpoint.task.tokens[-12:]
    other = tokens.roll(1, dims=0)
    names = [stage.hook for stage in _stages.stages(trm)]
    places = [None, 0, 3]
    with torch.no_grad():
        fast = _stages._resumed(trm, names, tokens, other, places, 3)
        slow = _stages._hooked(trm, names, tokens, other, places, 3)
    assert torch.equal(fast, slow)
    clean = trm(tokens)[:, 3].argmax(dim=-1)
    assert bool((fast[1:-1, 1:] != clean).any(dim=-1).any(dim=-1).all())  # each stage matters


@pytest.mark.parametrize("kind", [causal, recursive])
def test_patching_a_rows_own_state_changes_nothing_and_all_of_the_last_gives_the_donors(
    kind: Callable[[], StandIn],
) -> None:
    checkpoint = kind()
    chosen = _stages.stages(checkpoint.model)
    tokens = checkpoint.task.tokens[-12:]
    other = tokens.roll(1, dims=0)
    clean, donors = (checkpoint.model(x)[:, 2].argmax(dim=-1) for x in (tokens, other))
    places = [0, 2, _stages.ALL]
    same = _stages.patched_answers(checkpoint.model, chosen, tokens, tokens, places, 2)
    assert torch.equal(same, clean.expand_as(same))
    swapped = _stages.patched_answers(checkpoint.model, chosen, tokens, other, places, 2)
    assert torch.equal(swapped[-1, 2], donors)
    assert torch.equal(swapped[-1, 1], donors)
    assert torch.equal(swapped[-1, 0], clean)
    assert not torch.equal(swapped[1, 1], clean)


def test_an_untrained_model_has_no_bridge_to_find_or_swap() -> None:
    checkpoint = recursive(d_model=32)
    low, high = measure("bridge_lens", checkpoint)["train_inferred_excess_interval_within_run"]  # pyright: ignore
    assert low < 0.1
    assert high > -0.1
    swap = measure("bridge_swap", checkpoint, items=60)
    assert abs(swap["excess"]) < 0.2  # pyright: ignore[reportArgumentType]
    probe = measure("bridge_probe", checkpoint)
    assert abs(probe["ood_selectivity"]) < 0.25  # pyright: ignore[reportArgumentType]


def test_edited_facts_are_followed_or_the_old_answer_stays() -> None:
    edited = task(finetune=FinetuneSet(facts="edited", count=8, keep=150))
    new = measure("two_hop_cells", by_hand("sequential", edited))
    before = ByHand(edited, KINDS["sequential"], facts(task())).eval()
    old = measure("two_hop_cells", StandIn(task=edited, model=before))
    for kind in ("edited", "edit_first", "edit_second"):
        assert (new[f"{kind}_exact_match"], new[f"{kind}_old_answer"]) == (1, 0)
        assert (old[f"{kind}_exact_match"], old[f"{kind}_old_answer"]) == (0, 1)
    assert "id_atomic_old_answer" not in new.values
    lens = measure("bridge_lens", by_hand("sequential", edited))
    assert lens["edit_second_bridge_found"] == 1


def test_new_facts_have_cells_of_their_own() -> None:
    taught = task(finetune=FinetuneSet(facts="new", count=20, keep=150))
    known = by_hand("sequential", taught)
    unknown = StandIn(task=taught, model=ByHand(taught, KINDS["sequential"], facts(task())).eval())
    for kind in ("new_old", "old_new", "test_inferred_new"):
        for checkpoint, right in ((known, 1), (unknown, 0)):
            assert measure("two_hop_cells", checkpoint)[f"{kind}_exact_match"] == right
            assert measure("bridge_lens", checkpoint)[f"{kind}_exact_match"] == right
    for name in ("bridge_probe", "bridge_swap", "bridge_tracing"):
        options = {} if name == "bridge_probe" else {"split": "kept_inferred"}
        assert not isinstance(measure(name, known, **options).headline, NotApplicable)


def test_batches_change_no_number(monkeypatch: pytest.MonkeyPatch, small: Task) -> None:
    checkpoint = by_hand("rotated", small)
    before = [measure(name, checkpoint) for name in NAMES]
    monkeypatch.setattr(_stages, "BYTES", 50_000)
    monkeypatch.setattr(_two_hop, "CHUNK", 7)
    for name, found in zip(NAMES, before, strict=True):
        again = measure(name, checkpoint)
        numbers = [k for k, x in found.values.items() if isinstance(x, float)]
        for key in numbers:
            assert again[key] == pytest.approx(found[key], abs=1e-12)
        for key, array in found.arrays.items():
            assert again.arrays[key] == pytest.approx(array, abs=1e-12)  # sums in another order


def test_items_are_drawn_by_the_seed(small: Task) -> None:
    checkpoint = by_hand("sequential", small)
    runs = [_two_hop.of_split(small, "train_inferred", 20, seed).rows for seed in (0, 0, 1)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    assert measure("bridge_lens", checkpoint, items=20)["train_inferred_n"] == 20
    with pytest.raises(ValueError, match="items=0"):
        measure("bridge_lens", checkpoint, items=0)
    with pytest.raises(ValueError, match="atomic ones only"):
        _two_hop.of_split(small, "id_atomic", 20, 0)
    absent = measure("bridge_swap", checkpoint, split="nowhere").headline
    assert isinstance(absent, NotApplicable)
    assert "no split 'nowhere'" in absent.reason
