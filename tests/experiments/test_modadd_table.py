"""Bands that can fail, intervals from five runs on, and the recorded table itself."""

import json
from pathlib import Path
from typing import Any

import _modadd_picture
import modadd_table
import pytest

from mechgrok.config import ConfigError
from mechgrok.maths.statistics import MIN_RUNS

EXPECTED = json.loads(modadd_table.EXPECTED.read_text())


def rows(gini: list[float], untrained: float = 0.03, grokked: bool = True) -> list[dict[str, Any]]:
    """One run of quick per number."""
    return [
        {
            "run": f"quick__seed{seed}",
            "seed": seed,
            "values": {"gini.W_E": x, "times.grokked": grokked},
            "untrained": {"gini.W_E": untrained},
        }
        for seed, x in enumerate(gini)
    ]


@pytest.mark.parametrize(
    ("margin", "threshold", "inside", "outside"),
    [
        (modadd_table.Margin("at least", 0.25), 0.25, 0.25, 0.24),
        (modadd_table.Margin("at least", 2, factor=True), 0.25, 0.25, 0.24),
        (modadd_table.Margin("at most", 0.25), 1.25, 1.25, 1.26),
        (modadd_table.Margin("at most", 2, factor=True), 2.0, 2.0, 2.1),
    ],
)
def test_a_margin_widens_the_worst_run(
    margin: modadd_table.Margin, threshold: float, inside: float, outside: float
) -> None:
    assert margin.threshold([0.5, 1.0]) == threshold
    assert margin.holds(inside, threshold)
    assert not margin.holds(outside, threshold)


def test_bands_come_from_their_own_seeds_and_are_checked_on_the_others() -> None:
    found = rows([0.5, 0.6, 0.6, 0.6, 0.1])
    made = modadd_table.recorded("quick", found)
    assert made["band_seeds"] == [0, 1, 2, 3]
    assert made["bands"]["gini.W_E"]["threshold"] == 0.25
    failed = modadd_table.outside("quick", found, {"quick": made})
    assert len(failed) == 1
    assert "quick__seed4 gini.W_E 0.1" in failed[0]
    assert modadd_table.outside("quick", rows([0.5, 0.6, 0.6, 0.6, 0.3]), {"quick": made}) == []


def test_a_band_that_the_untrained_model_is_inside_of_is_refused() -> None:
    with pytest.raises(ConfigError, match="says nothing"):
        modadd_table.recorded("quick", rows([0.5, 0.5, 0.5, 0.5], untrained=0.3))


def test_runs_that_did_not_grok_are_counted_and_not_judged() -> None:
    made = modadd_table.recorded("quick", rows([0.5] * 4))
    three = rows([0.5] * 3) + rows([0.1], grokked=False)
    assert modadd_table.outside("quick", three, {"quick": made}) == []
    two = rows([0.5] * 2) + rows([0.1] * 2, grokked=False)
    assert modadd_table.outside("quick", two, {"quick": made}) == ["quick: 2 of 4 runs grokked"]


def test_a_number_that_is_gone_is_outside() -> None:
    made = modadd_table.recorded("quick", rows([0.5] * 4))
    lost = rows([0.5] * 5)
    lost[4]["values"]["gini.W_E"] = "does not apply: no embedding"
    assert len(modadd_table.outside("quick", lost, {"quick": made})) == 1


def test_no_interval_below_five_runs_or_without_every_number() -> None:
    assert modadd_table.interval(rows([0.5] * (MIN_RUNS - 1)), "gini.W_E") is None
    ends = modadd_table.interval(rows([0.1, 0.2, 0.3, 0.4, 0.5]), "gini.W_E")
    assert ends is not None
    assert ends["mean"] == pytest.approx(0.3)
    assert 0.1 < ends["low"] < 0.3 < ends["high"] < 0.5
    censored = rows([0.1, 0.2, 0.3, 0.4, 0.5])
    censored[0]["values"]["gini.W_E"] = "does not apply: censored"
    assert modadd_table.interval(censored, "gini.W_E") is None
    assert modadd_table.interval(rows([0.5] * 5), "times.grokked") is None


def test_the_recorded_bands_are_made_of_the_recorded_runs() -> None:
    for preset, entry in EXPECTED.items():
        assert modadd_table.recorded(preset, entry["runs"])["bands"] == entry["bands"]
        assert set(entry["bands"]) == set(modadd_table.MARGINS)
        assert modadd_table.outside(preset, entry["runs"], EXPECTED) == []
        assert bool(entry["intervals"]) == (len(entry["runs"]) >= MIN_RUNS)


def test_the_picture_draws_every_run_and_few_intervals() -> None:
    figure = _modadd_picture.draw(EXPECTED)
    panels = {a.text for a in figure.layout.annotations}
    assert panels == set(modadd_table.MARGINS) - {"phases.in_order", "frequency_ablation.passed"}
    circles = [t for t in figure.data if "circle" in str(t.marker.symbol)]
    drawn = sum(len(t.x) for t in circles)
    assert drawn == len(panels) * sum(len(entry["runs"]) for entry in EXPECTED.values())
    bars = [t for t in figure.data if t.error_y.array is not None]
    with_intervals = [e for e in EXPECTED.values() if len(e["runs"]) >= MIN_RUNS]
    assert len(bars) == len(panels) * len(with_intervals)


def test_the_picture_is_of_the_recorded_runs() -> None:
    stem = modadd_table.PICTURE
    source = json.loads(stem.with_name(f"{stem.name}.source.json").read_text())
    recorded = [row for entry in EXPECTED.values() for row in entry["runs"]]
    assert [run["weights"] for run in source["runs"]] == [row["weights"] for row in recorded]


def test_the_small_table_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert modadd_table.main(["--small", "--runs", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "smoke_p17, n = 1" in printed
    assert "phases.in_order" in printed
    assert "-  times.generalised: does not apply: censored" in printed
