"""Results are computed once, kept with their definition, and never NaN."""

import json
import math
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from mechgrok import discovery
from mechgrok.config import ConfigError
from mechgrok.runs import analysis, layout
from mechgrok.runs.analysis import Saved
from mechgrok.runs.checkpoint import Checkpoint
from mechgrok.runs.result import NotApplicable, Result
from mechgrok.runs.run import Run
from mechgrok.runs.series import Series
from mechgrok.runs.storage import RunError

NAME = "lab_norms.measure_file"


@pytest.fixture
def run(tiny_run: Run, tmp_path: Path) -> Run:
    return Run(shutil.copytree(tiny_run.path, tmp_path / "copy"))


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """A measure of another package, reached by dotted path; each call is noted."""
    folder = tmp_path / "lab_norms"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "measure_file.py").write_text(
        """
from mechgrok.runs.result import NotApplicable, Result
import numpy as np

calls = []
SUBJECT = "checkpoint"

def measure(checkpoint, scale=1.0, odd=False):
    calls.append((checkpoint.step, scale))
    norm = float(checkpoint.weights["embed.W_E"].double().norm()) * scale
    even_only = NotApplicable("odd steps") if odd else 1
    values = {"norm": norm, "even_only": even_only, "parts": (1, 2.5)}
    arrays = {"W_E": checkpoint.weights["embed.W_E"].numpy() * scale}
    return Result("lab_norms.measure_file", values, {"operator": "Frobenius"}, arrays,
                  checkpoint.run.name, checkpoint.seed, checkpoint.step)
"""
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    module = __import__(NAME, fromlist=["calls"])
    yield module.calls
    for name in (NAME, "lab_norms"):
        del sys.modules[name]


def assert_same(one: Result, two: Result) -> None:
    assert dict(one.values) == dict(two.values)
    assert dict(one.definition) == dict(two.definition)
    assert set(one.arrays) == set(two.arrays)
    assert all(np.array_equal(one.arrays[n], two.arrays[n]) for n in one.arrays)
    assert all(one.arrays[n].dtype == two.arrays[n].dtype for n in one.arrays)
    assert (one.measure, one.run, one.seed, one.step) == (two.measure, two.run, two.seed, two.step)


def test_a_measure_is_computed_once(run: Run, calls: list[Any]) -> None:
    first = run.measure(NAME)
    assert calls == [(60, 1.0)]
    assert_same(run.measure(NAME), first)
    assert_same(Run(run.path).measure(NAME, step=60), first)
    assert calls == [(60, 1.0)]
    assert first["norm"] == pytest.approx(
        float(run[-1].weights["embed.W_E"].norm()), rel=1e-6
    )  # float32


def test_other_steps_and_options_are_other_results(run: Run, calls: list[Any]) -> None:
    base = run.measure(NAME)
    double = run.measure(NAME, scale=2.0)
    early = run.measure(NAME, step=20)
    assert calls == [(60, 1.0), (60, 2.0), (20, 1.0)]
    assert double["norm"] == 2 * base["norm"]
    assert early["norm"] != base["norm"]
    assert_same(run.measure(NAME), base)
    assert_same(run.measure(NAME, scale=2.0), double)
    run.measure(NAME, unheard_of=3)  # not an option of this measure: the same result
    assert len(calls) == 3


def test_results_of_other_options_are_never_one_series(run: Run, calls: list[Any]) -> None:
    made = [run.measure(NAME, step=step) for step in run.steps]
    doubled = [run.measure(NAME, step=step, scale=2.0) for step in run.steps[1:]]
    for saved, expected in ((run.results(NAME), made), (run.results(NAME, scale=2.0), doubled)):
        assert [r["norm"] for r in saved] == [r["norm"] for r in expected]
    assert_same(run.result(NAME), made[-1])
    assert_same(run.result(NAME, step=20, scale=2.0), doubled[run.steps[1:].index(20)])
    with pytest.raises(RunError, match=r"call run.measure\('lab_.*', step=0, scale=2.0\)"):
        run.result(NAME, step=0, scale=2.0)
    with pytest.raises(RunError, match=r"call run.measure\('lab.*, odd=True\); saved: scale=2.0"):
        run.results(NAME, odd=True)


def test_the_only_options_measured_are_read_and_two_are_not_mixed(
    run: Run, calls: list[Any]
) -> None:
    run.measure(NAME, step=20, odd=True)
    assert run.result(NAME)["even_only"] == NotApplicable("odd steps")
    run.measure(NAME, step=40, scale=2.0)
    with pytest.raises(RunError, match=r"run: mechgrok measure .*; saved: odd=True, scale=2.0"):
        run.results(NAME)
    made = run.measure(NAME, step=60)
    assert [r.step for r in run.results(NAME)] == [60]
    assert_same(run.result(NAME), made)


def test_an_option_at_its_default_is_the_same_result(run: Run, calls: list[Any]) -> None:
    base = run.measure(NAME)
    assert_same(run.measure(NAME, scale=1.0, odd=False), base)
    assert_same(run.result(NAME, scale=1.0), base)
    assert len(calls) == 1


def test_keys_of_an_earlier_end_are_not_read_as_those_of_this_one(run: Run) -> None:
    last = run.path / "checkpoints" / f"step_{run.steps[-1]:08}.safetensors"
    content = last.read_bytes()
    last.unlink()
    run.measure_steps(["restricted_loss"], run.steps)
    earlier = run.steps
    assert [r.step for r in run.results("restricted_loss")] == earlier
    last.write_bytes(content)
    with pytest.raises(RunError, match="no saved 'restricted_loss'"):
        run.results("restricted_loss")
    run.measure_steps(["restricted_loss"], run.steps)
    assert [r.step for r in run.results("restricted_loss")] == [*earlier, run.steps[-1]]


def test_what_reads_saved_results_is_computed_anew_when_they_are_others(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    phases = discovery.module("measures", "phases")
    monkeypatch.setattr(phases, "_saved_restricted", lambda run: seen.append(run.name))
    run.measure("phases")
    run.measure_steps(["restricted_loss"], run.steps[:1], keys="own")
    run.measure("phases")
    assert len(seen) == 1
    run.measure_steps(["restricted_loss"], run.steps[:1])
    run.measure("phases")
    run.measure("phases")
    assert len(seen) == 2


def test_results_without_their_options_count_as_not_saved(run: Run, calls: list[Any]) -> None:
    run.measure(NAME)
    path = layout.analysis(run.path, NAME)
    stored = json.loads(path.read_text())
    del stored["results"][0]["options"]
    path.write_text(json.dumps(stored))
    with pytest.raises(RunError, match="no saved"):
        run.result(NAME)
    run.measure(NAME)
    assert len(calls) == 2


def test_another_source_is_another_result(
    run: Run, calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run.measure(NAME)
    real = analysis.source
    monkeypatch.setattr(analysis, "source", lambda module: real(module) + "changed")
    run.measure(NAME)
    assert len(calls) == 2


def test_the_source_is_the_measures_file_and_what_it_rests_on(tmp_path: Path) -> None:
    module = ModuleType("m")
    module.__file__ = str(tmp_path / "m.py")
    digests = []
    for text in ("a = 1\n", "a = 2\n"):
        (tmp_path / "m.py").write_text(text)
        analysis.source.cache_clear()
        digests.append(analysis.source(module))
    assert digests[0] != digests[1]


def test_saved_results_are_read_back_equal(run: Run, calls: list[Any]) -> None:
    made = [run.measure(NAME, step=step, odd=True) for step in run.steps]
    saved = run.results(NAME)
    assert [result.step for result in saved] == run.steps
    for one, two in zip(made, saved, strict=True):
        assert_same(one, two)
        assert list(two.values) == list(one.values)  # in order: the first is the headline
        assert two["even_only"] == NotApplicable("odd steps")
    assert run.result(NAME).step == 60
    assert run.result(NAME, step=20).step == 20
    assert layout.analysis(run.path, NAME).exists()


def test_a_missing_result_names_the_command_that_makes_it(run: Run, calls: list[Any]) -> None:
    with pytest.raises(RunError, match=r"run: mechgrok measure .*copy"):
        run.result(NAME)
    run.measure(NAME)
    with pytest.raises(RunError, match=r"mechgrok measure .*copy --step 20"):
        run.result(NAME, step=20)
    assert len(calls) == 1


def test_damaged_results_are_named(run: Run, calls: list[Any]) -> None:
    run.measure(NAME)
    path = layout.analysis(run.path, NAME)
    path.with_suffix(".npz").unlink()
    with pytest.raises(RunError, match=r"lacks .*W_E"):
        run.result(NAME)
    path.write_text("{")
    with pytest.raises(RunError, match="not readable JSON"):
        run.result(NAME)


def test_nan_is_never_saved(run: Run) -> None:
    with pytest.raises(ValueError, match="JSON"):
        analysis.write(run.path, "nan", [Saved("k", {}, Result("nan", {"x": math.nan}, {}))])
    assert analysis.read(run.path, "nan") == []


def test_nothing_is_pickled(run: Run) -> None:
    odd = Result("odd", {"x": 1}, {}, {"x": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(ValueError, match=r"[Oo]bject|pickle"):
        analysis.write(run.path, "odd", [Saved("k", {}, odd)])


def test_each_checkpoint_is_opened_once_for_all_measures(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    real = Checkpoint.of_run.__func__  # type: ignore[attr-defined]

    def counted(cls: Any, run: Run, step: int, weights: str | None = None) -> Checkpoint:
        opened.append(step)
        return real(cls, run, step, weights)

    monkeypatch.setattr(Checkpoint, "of_run", classmethod(counted))
    names = ["weight_norm", "losses", "spectra"]
    found = run.measure_steps(names, run.steps)
    assert opened == run.steps
    assert {name: [r.step for r in results] for name, results in found.items()} == dict.fromkeys(
        names, run.steps
    )
    run.measure_steps(names, run.steps)
    assert opened == run.steps


def test_a_measure_of_a_run_is_computed_anew_when_the_run_goes_on(run: Run) -> None:
    before = run.measure("times")
    keys = {one.key for one in analysis.read(run.path, "times")}
    assert run.measure("times").values == before.values
    rows = (run.path / "metrics.jsonl").read_text().splitlines()
    more = {**json.loads(rows[-1]), "step": 70}
    (run.path / "metrics.jsonl").write_text("\n".join([*rows, json.dumps(more)]) + "\n")
    run.measure("times")
    assert len({one.key for one in analysis.read(run.path, "times")} - keys) == 1


def test_unknown_measures_are_named(run: Run) -> None:
    with pytest.raises(ConfigError, match=r"weight_nrom.*'weight_norm'"):
        run.measure("weight_nrom")
    with pytest.raises(ConfigError, match=r"no module 'lab.unknown'"):
        run.measure("lab.unknown")


@pytest.mark.parametrize("missing", ["measure"])
def test_a_file_without_its_member_fails_with_its_name(
    missing: str, run: Run, calls: list[Any]
) -> None:
    del sys.modules[NAME].measure  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=f"has no '{missing}'"):
        run.measure(NAME)


RESULT = Result(
    "m",
    {"first": 0.5, "none": NotApplicable("not for this task"), "flag": True},
    {"operator": "o"},
    run="r",
    seed=1,
    step=20,
)


def test_the_table_has_a_row_per_value_and_says_what_does_not_apply() -> None:
    table = RESULT.table()
    assert list(table.columns) == ["run", "seed", "step", "measure", "value", "note"]
    assert table["measure"].tolist() == ["m.first", "m.none", "m.flag"]
    assert table["value"].tolist() == [0.5, None, True]
    assert table["note"].tolist() == ["", "not for this task", ""]
    assert (set(table["run"]), set(table["seed"]), set(table["step"])) == ({"r"}, {1}, {20})


def test_a_result_names_what_it_has() -> None:
    assert RESULT.headline == RESULT["first"] == 0.5
    with pytest.raises(KeyError, match=r"m has no value 'frist'; it has \['first'"):
        _ = RESULT["frist"]


def result(step: int | None, **values: Any) -> Result:
    return Result("m", values, {}, run="r", seed=0, step=step)


ROWS = [{"step": 0, "test_loss": 3.0}, {"step": 10, "test_loss": 2.0}]


def test_a_series_puts_metrics_and_measures_side_by_side() -> None:
    measured = {"m": [result(0, a=1, b=NotApplicable("no keys")), result(10, a=2.5, b=4)]}
    series = Series.collect("r", 0, ["test_loss", "m", "m.b"], ROWS, measured)
    assert series["test_loss"] == [(0, 3.0), (10, 2.0)]
    assert series["m"] == [(0, 1.0), (10, 2.5)]  # its first value
    assert series["m.b"] == [(10, 4.0)]
    assert series.absent == {}
    table = series.table()
    assert list(table.columns) == ["run", "seed", "step", "measure", "value"]
    assert len(table) == 5


def test_a_curve_without_any_point_keeps_its_reason() -> None:
    measured = {"m": [result(0, a=NotApplicable("no keys"))]}
    series = Series.collect("r", 0, ["m"], ROWS, measured)
    assert series["m"] == []
    assert series.absent == {"m": "no keys"}
    with pytest.raises(RunError, match="no curve 'x'; have"):
        _ = series["x"]


@pytest.mark.parametrize("value", ["text", [1, 2], None])
def test_what_is_no_number_over_steps_is_an_error(value: Any) -> None:
    with pytest.raises(RunError, match="no number over steps"):
        Series.collect("r", 0, ["m"], ROWS, {"m": [result(0, a=value)]})
    with pytest.raises(RunError, match="no number over steps"):
        Series.collect("r", 0, ["m"], ROWS, {"m": [result(None, a=1.0)]})


def test_the_series_of_a_run(run: Run) -> None:
    series = run.series(["test_loss", "weight_norm"])
    assert [step for step, _ in series["test_loss"]] == [row["step"] for row in run.evaluations()]
    squares = [float(sum(w.double().square().sum() for w in ck.weights.values())) for ck in run]
    # frozen biases are 0; the same float64 sums, in another order
    assert [value for _, value in series["weight_norm"]] == pytest.approx(squares, rel=1e-12)
    assert torch.get_num_threads() == 1
    with pytest.raises((RunError, ConfigError, KeyError), match="unheard"):
        run.series("weight_norm.unheard")
    with pytest.raises(ConfigError, match="unheard_of"):
        run.series("unheard_of")


def test_a_measure_by_dotted_path_has_a_series(run: Run, calls: list[Any]) -> None:
    """Any measure may be drawn, also one of another package."""
    assert len(run.series(NAME)[NAME]) == len(run.steps)


@pytest.mark.parametrize(
    "name", ["weight_norm", "losses", "spectra", "gini", "key_frequencies", "times"]
)
def test_a_real_measure_is_read_back_equal(name: str, run: Run) -> None:
    assert_same(run.measure(name), run.measure(name))
