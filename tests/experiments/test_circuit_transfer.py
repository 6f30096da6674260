"""The transfer experiment's design, rules and verdict, on cases worked by hand."""

from pathlib import Path
from typing import Any

import _transfer_findings as findings
import circuit_transfer
import pytest
import torch
from _transfer_arms import CORE, SETS, arms, config_of, frozen_body, task_of
from _transfer_donors import Donors, memorised
from _transfer_mechanism import adjusted_rand, matched

from mechgrok.config import ConfigError
from mechgrok.tasks.binary import Task


class Stub:
    """A run that has nothing but its evaluations."""

    path = Path("stub")

    def __init__(self, *rows: tuple[int, float, float]) -> None:
        self.rows = [{"step": s, "train_acc": a, "test_acc": b} for s, a, b in rows]

    def evaluations(self) -> list[dict[str, Any]]:
        return self.rows


def test_the_memorised_donor_is_the_last_that_fits_the_rule() -> None:
    rows = [(0, 0.02, 0.02), (25, 0.9, 0.1), (50, 1.0, 0.15), (75, 1.0, 0.19), (100, 1.0, 0.3)]
    assert memorised(Stub(*rows)) == (75, False)  # pyright: ignore[reportArgumentType]
    late = [(0, 0.02, 0.02), (25, 0.9, 0.1), (50, 1.0, 0.25), (75, 1.0, 0.4)]
    assert memorised(Stub(*late)) == (50, True)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match=r"never reached 0.999"):
        memorised(Stub((0, 0.5, 0.1)))  # pyright: ignore[reportArgumentType]


def test_the_design_has_the_core_and_no_cell_that_does_not_exist() -> None:
    core = arms("core")
    assert len(core) == 3 * len(CORE)
    assert all((arm.taken, arm.trained) == (("body",), ("embedding",)) for arm in core)
    assert {arm.target: arm.fraction for arm in core} == {"T0": 0.3, "T1": 0.4, "T3": 0.4}
    every = arms("rest")
    assert set(core) <= set(every)
    assert not [a for a in every if a.target in ("T1", "T3") and "embedding" in a.taken]
    names = [arm.name for arm in every]
    assert len(set(names)) == len(names)
    assert sum(len(arms(name)) for name in SETS) > len(every)


def test_targets_are_of_the_donors_order_and_renamed() -> None:
    assert task_of(frozen_body("T3", "grokked"), 59).group == "D_29"  # pyright: ignore
    assert task_of(frozen_body("T1", "grokked"), 59).n == 58  # pyright: ignore
    for target in ("T0", "T1", "T2", "T3", "T4"):
        assert task_of(frozen_body(target, "grokked"), 59).relabel
    kept = [arm for arm in arms("furuta") if task_of(arm, 59).relabel]
    assert not kept


def test_no_part_split_or_name_of_a_child_is_its_donors(tmp_path: Path) -> None:
    donors = Donors("smoke_p17", tmp_path, (0,), small=True)
    scratch = findings.scratch("T0")
    child, donor = config_of(scratch, 0, donors), donors.base
    seeds = child.seeds
    assert seeds.base == donor.seeds.base == 0
    for name in ("init", "data", "labels", "relabel"):
        assert getattr(seeds, name) != getattr(donor.seeds, name)
    config: Any = child.task
    split, theirs = Task.make(config, seeds).splits["train"], Task.make(config, donor.seeds)
    assert set(split.tolist()) != set(theirs.splits["train"].tolist())


def row(*values: float) -> dict[str, Any]:
    return findings.summary(dict(enumerate(values)))


def found(t0: float, t1: float, t3: float, spectrum: float = 0.5) -> dict[str, Any]:
    """Leads of 8 seeds around the given means."""

    def around(mean: float) -> dict[str, Any]:
        return row(*(mean + 0.01 * (i - 3.5) for i in range(8)))

    return {
        "T0": {"best control": around(t0), "spectrum_matched": around(spectrum)},
        "T1": {"best control": around(t1)},
        "T3": {"best control": around(t3)},
        "T0 - T3": around(t0 - t3),
        "T1 - T3": around(t1 - t3),
    }


@pytest.mark.parametrize(
    ("leads", "portable"),
    [
        ((0.6, 0.3, 0.1), True),
        ((0.6, 0.0, -0.2), False),  # no lead on T1
        ((0.6, 0.3, 0.3), False),  # T3 gains as much as T1
        ((-0.1, 0.3, 0.0), False),
    ],
)
def test_portable_needs_both_leads_and_a_smaller_one_on_t3(
    leads: tuple[float, float, float], portable: bool
) -> None:
    said = findings.verdict(found(*leads), [])
    assert said["portable circuit"]["holds"] is portable
    assert said["weight scale"]["holds"] is False
    assert said["generic pretraining"]["holds"] is None  # not run is not refuted
    text = findings.paragraph(said, found(*leads))
    assert ("portable circuit won" in text) is portable
    assert ("Refuted: portable circuit" in text) is not portable


def test_a_lead_on_subtraction_refutes_and_a_tie_wins() -> None:
    given = found(0.6, 0.3, 0.1, spectrum=0.0)
    given["T2"] = {"best control": row(*[0.2] * 8)}
    said = findings.verdict(given, [])
    assert said["portable circuit"]["holds"] is False
    assert said["weight scale"]["holds"] is True


def test_under_five_seeds_nothing_is_decided() -> None:
    given = {"T0": {"best control": row(0.5, 0.6, 0.7, 0.8)}}
    assert given["T0"]["best control"]["interval"] is None
    assert given["T0"]["best control"]["p"] == pytest.approx(2 / 2**4)
    said = findings.verdict(given, [])
    assert {one["holds"] for one in said.values()} == {None}


def test_clusters_that_only_changed_their_names_are_the_same() -> None:
    one = torch.tensor([3, 3, 5, 5, 7, 7, -1, 3])
    renamed = torch.tensor([9, 9, 2, 2, 4, 4, 9, 9])
    assert adjusted_rand(one, renamed) == pytest.approx(1)
    chance = torch.randint(1, 4, (600,), generator=torch.Generator().manual_seed(0))
    other = torch.randint(1, 4, (600,), generator=torch.Generator().manual_seed(1))
    assert abs(adjusted_rand(chance, other) or 0) < 0.02
    assert adjusted_rand(one, torch.full_like(one, -1)) is None


def test_matched_neurons_are_others_of_the_nearest_norms() -> None:
    norm = [1.0, 5.0, 2.0, 4.9, 1.1, 5.2, 9.0]
    assert matched(norm, [0, 1]) == (3, 4)
    assert not set(matched(norm, [0, 1, 5])) & {0, 1, 5}


@pytest.mark.slow
def test_the_script_runs_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--small", "--seeds", "1", "--runs", str(tmp_path), "--sets", "groktransfer"]
    assert not circuit_transfer.main(asked)
    first = capsys.readouterr().out
    assert "groktransfer: 4 runs" in first
    assert not circuit_transfer.main([*asked, "--report-only"])
    assert capsys.readouterr().out == first.split("groktransfer: 4 runs\n")[1]
