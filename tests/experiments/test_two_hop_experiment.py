"""The two-hop experiment's design, rules and verdicts, on cases worked by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import _two_hop_findings as findings
import _two_hop_report as two_hop_report
import _two_hop_verdicts as verdicts
import pytest
import two_hop
from _two_hop_arms import BOTH, SCRATCH, Start, arms, few, finetuning, matched, ready, start_of
from _two_hop_design import BASELINE_STEPS, Pretraining, config_of, pretrainings

from mechgrok.options import differences
from mechgrok.presets import preset
from mechgrok.runs.run import Run

SMALL = "two_hop_small"


class Stub:
    """A run that has nothing but its evaluations, a checkpoint at each."""

    path, name = Path("stub"), "stub"

    def __init__(self, *rows: tuple[int, float, float], state: str = "finished") -> None:
        self.rows = [{"step": s, "train_acc": a, "test_acc": b} for s, a, b in rows]
        self.steps, self.status = [row[0] for row in rows], {"state": state}

    def evaluations(self) -> list[dict[str, Any]]:
        return self.rows


def stub(*rows: tuple[int, float, float], state: str = "finished") -> Any:
    return Stub(*rows, state=state)


def test_the_design_has_the_runs_of_the_docstring() -> None:
    runs = pretrainings(SMALL)
    assert len(runs) == 17
    assert len({one.name for one in runs}) == 17
    by_regime = {r: [o for o in runs if (o.regime, o.model) == (r, "trm")] for r in two_hop.REGIMES}
    counts = {"both_full": 3, "both_full_sham": 3, "natural": 3, "first_hop": 2, "second_hop": 2}
    assert {r: len(of) for r, of in by_regime.items() if of} == counts
    assert [one.steps for one in by_regime["natural"]] == [30_000, 5_000, 5_000]
    assert [o.steps for o in runs if o.model != "trm"] == [BASELINE_STEPS] * 4
    assert [one.seed for one in runs] == sorted(one.seed for one in runs)


def test_regimes_of_a_seed_differ_in_the_regime_alone() -> None:
    one, other = (config_of(SMALL, Pretraining(r, "trm", 2, 10)) for r in ("natural", "both_full"))
    assert set(differences(one, other)) == {"task.regime"}
    assert one.seeds.data == 2


def test_the_baselines_differ_in_their_passes_alone_and_share_the_graph() -> None:
    plain, twice = (
        config_of(SMALL, Pretraining("both_full", m, 0, 9)) for m in ("gpt2", "gpt2_twice")
    )
    assert set(differences(plain, twice)) == {"model.passes"}
    recursive = config_of(SMALL, Pretraining("both_full", "trm", 0, 9))
    assert replace(plain.task, layout="trm") == recursive.task  # pyright: ignore[reportCallIssue]
    assert plain.seeds.data == recursive.seeds.data


def test_published_is_the_preset_but_for_the_sizes_of_small() -> None:
    whole = config_of("two_hop_published", Pretraining("natural", "trm", 0, 1_343_300))
    assert whole == preset("two_hop_published", 0)
    tiny = config_of("two_hop_published", Pretraining("natural", "trm", 0, 9), small=True)
    assert {n for n in differences(whole, tiny) if n.startswith(("model", "optim", "loss"))} == {
        "model.d_model",
        "optim.batch_size",
    }


def test_natural_starts_where_it_is_as_accurate_and_nearest_in_step() -> None:
    rows = stub((0, 0.0, 0), (250, 0.9, 0), (500, 0.99, 0), (750, 0.98, 0), (1000, 0.995, 0)).rows
    assert matched(rows, 400, 0.98)[:2] == (500, 0.99)
    assert matched(rows, 900, 0.98)[:2] == (1000, 0.995)
    assert matched(rows, 700, 0.985)[:2] == (500, 0.99)
    step, accuracy, rule = matched(rows, 700, 0.999)
    assert (step, accuracy) == (1000, 0.995)
    assert "none reaches" in rule


def test_a_start_is_the_last_checkpoint_but_naturals() -> None:
    both = stub((0, 0.0, 0), (500, 0.9, 0.9))
    natural = stub((0, 0.0, 0), (250, 0.95, 0), (500, 0.85, 0), (750, 0.99, 0))
    assert start_of(SMALL, "both_full", both, both).step == 500
    assert start_of(SMALL, "natural", natural, both).step == 250
    assert start_of(SMALL, "natural", natural, None).step == 750
    long = stub((500, 0.9, 0), (5_000, 0.91, 0), (36_000, 0.95, 0), state="running")
    late = stub((30_000, 0.9, 0.9))
    assert start_of(SMALL, "natural", long, late).step == 5_000  # the same on every seed
    assert ready(SMALL, "natural", long)
    assert not ready(SMALL, "both_full", long)
    assert not ready(SMALL, "natural", stub((500, 0.9, 0), state="running"))


def test_arms_differ_in_their_start_and_what_is_trained_alone() -> None:
    listed = arms(SMALL, ("both_full", "natural"))
    assert len({arm.name for arm in listed}) == len(listed) == 10
    start = Start(stub((0, 0.0, 0)), 0, 0.9, "last")
    configs = [finetuning(SMALL, a, 1, None if a.start == SCRATCH else start) for a in listed]
    allowed = {"task.regime", "task.finetune.facts", "init_from", "init_weights", "seeds.init"}
    for config in configs:
        assert set(differences(configs[0], config)) <= allowed | {"transfer.train"}
        assert (config.optim.lr, config.stop.max_steps, config.seeds.data) == (1e-3, 500, 1)
    pretrained, scratch = configs[0], configs[2]
    assert (pretrained.init_weights, scratch.init_from) == ("ema", None)
    assert scratch.seeds.init != pretrained.seeds.init == pretrained.seeds.data
    kinds = {(a.start == SCRATCH, a.facts, a.trained) for a in listed}
    assert kinds == {(a.start == SCRATCH, a.facts, a.trained) for a in few(listed)}


def test_curves_have_few_steps_with_both_ends() -> None:
    found = findings.curve_steps(list(range(0, 36_001, 250)))
    assert (len(found), found[0], found[-1]) == (8, 0, 36_000)
    assert findings.curve_steps([0, 40]) == [0, 40]


def same(natural: float | None, reached: bool = True, sham: float | None = 0.03) -> dict[str, Any]:
    return {
        "seed": 0, "reached": reached, "step": 3000, "train_step": 1750, "both_full": 0.96,
        "natural": natural, "both_full_sham": sham,
    }  # fmt: skip


def test_other_runs_are_read_at_the_step_at_which_both_full_is_done() -> None:
    runs = {
        ("trm", "both_full", 0): stub((0, 0, 0), (250, 0.96, 0.7), (500, 0.99, 0.96), (750, 1, 1)),
        ("trm", "natural", 0): stub((0, 0, 0), (500, 0.99, 0.02), (9_000, 1, 0.9)),
        ("gpt2", "both_full", 0): stub((0, 1, 1)),
    }
    (row,) = findings.same_step(runs)
    assert (row["step"], row["train_step"], row["natural"]) == (500, 250, 0.02)
    assert row["both_full_sham"] is None
    assert verdicts.target([row]) == [True]


def test_the_target_needs_both_full_high_and_natural_low() -> None:
    assert verdicts.target([same(0.02), same(0.3), same(0.02, reached=False), same(None)]) == [
        True, False, False, None,
    ]  # fmt: skip


def row(regime: str, **values: Any) -> dict[str, Any]:
    base = {"lens": 0.0, "probe": 0.1, "swap": 0.0, "ood": 0.0, "swap_ood_stays": 0.0}
    return {"regime": regime, "model": "trm", "seed": 0, **base, **values}


def held(rows: list[dict[str, Any]], between: list[dict[str, Any]]) -> dict[str, bool | None]:
    return {n: one["holds"] for n, one in verdicts.of_pretraining(rows, between).items()}


@pytest.mark.parametrize(
    ("rows", "between", "holds"),
    [
        ([], [same(0.02)], {"recombination"}),
        ([], [same(0.02), same(0.02, sham=0.9)], set()),
        ([], [same(0.02, sham=0.95)], {"more data"}),
        ([], [{**same(0.02), "step": 9000}], set()),
        ([row(r, lens=0.9, swap=0.9) for r in ("both_full", "natural")], [], {"shared circuit"}),
        ([row("both_full", lens=0.9, swap=0.9), row("natural", lens=0.5, swap=0.9)], [], set()),
        (
            [row(r, lens=0.02, swap=0.6, probe=0.7) for r in ("both_full", "natural")],
            [],
            {"another basis"},
        ),
        (
            [row("second_hop", ood=0.9, swap_ood_stays=0.8), row("first_hop", ood=0.1)],
            [],
            {"association"},
        ),
        ([row("second_hop", ood=0.9, swap_ood_stays=0.8), row("first_hop", ood=0.4)], [], set()),
    ],
)
def test_each_prediction_of_pretraining_can_win_and_lose(
    rows: list[dict[str, Any]], between: list[dict[str, Any]], holds: set[str]
) -> None:
    found = held(rows, between)
    assert {name for name, one in found.items() if one} == holds
    if not between:
        assert found["recombination"] is None


def lesson(start: str, first: float, second: float, facts: str = "new") -> dict[str, Any]:
    cells = ("new_old", "old_new") if facts == "new" else ("edit_first", "edit_second")
    at_end = {cells[0]: first, cells[1]: second, "new_new": 0.0, "taught": 1.0}
    named = {"start": start, "regime": start if start != SCRATCH else "natural", "facts": facts}
    return {**named, "trained": "+".join(BOTH), "at_end": at_end, "when_learnt": at_end}


@pytest.mark.parametrize(
    ("rows", "holds"),
    [
        ([lesson("both_full", 1, 0), lesson(SCRATCH, 0.3, 0)], {"paper"}),
        ([lesson("both_full", 1, 0), lesson(SCRATCH, 0.9, 0)], set()),
        ([lesson("both_full", 1, 0.6), lesson(SCRATCH, 0.3, 0)], set()),
        ([lesson("both_full", 1, 1), lesson("natural", 0.95, 1)], {"pretraining as such"}),
        ([lesson("both_full", 1, 1), lesson("natural", 0.95, 0)], set()),
        ([lesson("both_full", 0.9, 0.9, "edited")], {"one fact store"}),
        ([lesson("both_full", 0.9, 0.1, "edited")], {"a store per hop"}),
        ([lesson("both_full", 0.1, 0.1, "edited")], {"shortcut"}),
    ],
)
def test_each_prediction_of_finetuning_can_win_and_lose(
    rows: list[dict[str, Any]], holds: set[str]
) -> None:
    found = verdicts.of_finetuning(rows)
    assert {name for name, one in found.items() if one["holds"]} == holds


def test_facts_that_were_not_learnt_decide_nothing() -> None:
    rows = [lesson("both_full", 0, 0), lesson("natural", 0, 0), lesson(SCRATCH, 0, 0)]
    rows += [lesson("both_full", 0, 0, "edited")]
    for one in rows:
        one["at_end"]["taught"] = 0.5
    assert {one["holds"] for one in verdicts.of_finetuning(rows).values()} == {None}


def test_means_are_over_seeds_of_whole_arms() -> None:
    frozen = {**lesson("both_full", 0, 0), "trained": "embedding"}
    rows = [lesson("both_full", 1, 0), lesson("both_full", 0.5, 0), frozen]
    assert verdicts.means(rows, "new")["both_full"]["new_old"] == 0.75


def test_runs_that_are_gone_stay_as_they_were_recorded() -> None:
    earlier = [{"run": "a", "ood": 0.1}, {"run": "b", "ood": 0.2}]
    rows = [{"run": "b", "ood": 0.3}, {"run": "c", "ood": 0.4}]
    found = two_hop_report.merged(rows, earlier, ("run",))
    assert found == [{"run": "a", "ood": 0.1}, *rows]
    assert set(two_hop_report.KEYS) == {"same_step", "pretraining", "finetuning", "starts"}


def test_tiny_runs_are_not_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        two_hop.parsed(["--small", "--record"])
    assert "leave out --small" in capsys.readouterr().err


def test_the_paragraph_says_every_point() -> None:
    rows = [row("both_full", ood=0.97), row("both_full", ood=0.91), row("natural", ood=0.02)]
    taught = [lesson("both_full", 1, 0), lesson(SCRATCH, 0.25, 0)]
    said = {"pretraining": verdicts.of_pretraining(rows, [same(0.02)])}
    said["finetuning"] = verdicts.of_finetuning(taught)
    rows.append({**row("both_full", ood=0.5), "model": "gpt2"})
    found = {"same_step": [same(0.02)], "pretraining": rows, "finetuning": taught, "verdict": said}
    text = verdicts.paragraph(found)
    assert "holds: recombination" in text
    for part in ("on 1 of 1 seeds", "both_full 0.97 / 0.91, natural 0.02, gpt2 both_full 0.50"):
        assert part in text
    assert "both_full 1.00, 0.00 (paper 1.00 / 0.02)" in text
    assert "scratch on natural 0.25, 0.00 (paper 0.31 / 0.00)" in text


@pytest.mark.slow
def test_the_published_run_starts_resumes_and_is_finetuned(tmp_path: Path) -> None:
    """Width 64 and 3,000 facts, every other flag as published: the batch of 512 takes seconds."""
    from mechgrok.options import override
    from mechgrok.training import trainer

    wanted = Pretraining("both_full", "trm", 0, 4)
    config = override(config_of("two_hop_published", wanted, small=True), {"optim.batch_size": 512})
    assert config.task.entities * config.task.out_degree == 3_000  # pyright: ignore
    whole = preset("two_hop_published", 0)
    for part in ("loss", "optim"):
        assert getattr(config, part) == getattr(whole, part)
    path = tmp_path / "run"
    trainer.train(config, run=path, progress=False, overrides={"stop.max_steps": 2})
    run = trainer.train(config, run=path, progress=False)
    assert run.steps == [0, 2, 4]
    start = start_of("two_hop_published", "both_full", run, run)
    arm = arms("two_hop_published", ("both_full",))[0]
    child = finetuning("two_hop_published", arm, 0, start, small=True)
    taught = trainer.train(child, run=tmp_path / "child", progress=False)
    averaged = Run(path).checkpoint(4, "ema").weights
    first = taught.checkpoint(0).weights
    assert all((first[name] == weight).all() for name, weight in averaged.items())
    assert taught.evaluations()[-1]["step"] == 4
    assert "atomic_new_acc" in taught.evaluations()[-1]
