"""The command line: what it resolves, what it refuses, and that each command does its work."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from mechgrok import discovery
from mechgrok.cli import main, read_train
from mechgrok.config import ConfigError
from mechgrok.presets import ABOUT, NAMES, preset


def test_flags_sets_and_dotted_overrides_meet_in_one_config() -> None:
    asked = read_train(
        [
            "--preset",
            "quick",
            "--seed",
            "3",
            "--set",
            "optim.lr=2e-3",
            "--optim.weight-decay",
            "0.3",
        ],
        "smoke_p17",
        "test",
    )
    assert asked.config.preset == "quick"
    assert asked.config.seeds.init == 3
    assert asked.config.optim.lr == 2e-3
    assert asked.config.optim.weight_decay == 0.3


def test_the_default_preset_is_used_without_arguments() -> None:
    asked = read_train([], "nanda2023_mainline", "test")
    assert asked.config == preset("nanda2023_mainline")
    assert asked.run is None


def test_a_config_file_is_read_back(tmp_path: Path) -> None:
    from mechgrok.runs.run import write_config

    path = tmp_path / "config.yaml"
    write_config(path, preset("clean_p47", 5))
    assert read_train(["--config", str(path)], "quick", "test").config == preset("clean_p47", 5)
    assert yaml.safe_load(path.read_text())["task"]["n"] == 47


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--preset", "quik"], "quick"),
        (["--set", "optim.weigth_decay=1"], "optim.weight_decay"),
        (["--optim.weigth-decay", "1"], "optim.weight_decay"),
        (["--set", "optim.lr"], "a.b=value"),
        (["--set", "optim.lr=fast"], "expected a number"),
        (["--preset", "quick", "--config", "x.yaml"], "give one"),
    ],
)
def test_a_setting_that_does_not_exist_is_named_with_the_nearest(
    arguments: list[str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        read_train(arguments, "smoke_p17", "test")


def test_a_known_error_is_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--preset", "quik"]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("error: unknown preset 'quik'")
    assert printed.err.count("\n") == 1


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    lines = dict(line.split(maxsplit=1) for line in shown.splitlines()[2:])
    assert {"train", "import", "measure", "plot", "report", "hooks", "data"} <= set(lines)
    assert sorted(lines) == discovery.names("cli")
    assert main(["dance"]) == 1


def test_presets_and_doctor_and_hooks_print(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets"]) == 0
    listed = [line.split("  ", 1) for line in capsys.readouterr().out.splitlines()]
    assert {name: about.strip() for name, about in listed} == ABOUT
    assert [name for name, _ in listed] == list(NAMES)
    assert main(["doctor"]) == 0
    assert "transformer-lens" in capsys.readouterr().out
    assert main(["hooks", "smoke_p17"]) == 0
    lines = capsys.readouterr().out.splitlines()
    pattern = next(line for line in lines if line.startswith("blocks.0.attn.hook_pattern"))
    assert "[2, 2, 3, 3]" in pattern
    assert all(line.split("  ")[-1].strip() for line in lines), "every hook has a meaning"


def test_train_measure_plot_and_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    smoke = ["--preset", "smoke_p17", "--stop.max-steps", "50", "--run", str(run)]
    assert main(["train", *smoke]) == 0
    assert "memorised" in capsys.readouterr().out
    assert main(["measure", str(run), "--names", "losses", "--step", "0"]) == 0
    assert "losses.test_loss" in capsys.readouterr().out
    assert main(["plot", str(run), "--names", "spectra"]) == 1, "spectra were not measured"
    assert "mechgrok measure" in capsys.readouterr().err
    assert main(["report", str(run)]) == 0
    assert (run / "report.html").stat().st_size > 1_000_000
    assert main(["plot", str(run), "--names", "grokking_curve"]) == 0
    assert (run / "figures" / "grokking_curve.html").exists()


def test_a_reader_that_has_gone_is_no_error() -> None:
    """`mechgrok presets | head -0`: no traceback, and the exit code a shell gives."""
    script = "import time, sys; time.sleep(0.5); from mechgrok.cli import main; sys.exit(main())"
    started = subprocess.Popen(
        [sys.executable, "-c", script, "presets"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert started.stdout is not None
    started.stdout.close()
    started.stdout = None
    _, errors = started.communicate(timeout=60)
    assert (started.returncode, errors) == (141, b"")


def test_data_writes_equations_and_their_digests(tmp_path: Path) -> None:
    out = tmp_path / "data"
    assert main(["data", "spectral_add40", "--out", str(out), "--seed", "3"]) == 0
    train, test = ((out / f"{name}.txt").read_text().splitlines() for name in ("train", "test"))
    assert (len(train), len(test)) == (3764, 5645)
    assert train[0] == "<|eos|> 66 + 47 = 16 <|eos|>", "the published shuffle, whatever the seed"
    whole = hashlib.sha256("\n".join(train + test).encode()).hexdigest()
    assert whole.startswith("5c2307cf112be35c"), "the published file"
    settings = json.loads((out / "settings.json").read_text())
    assert settings["task"]["operation"] == "add"
    assert settings["rows"] == {"train": 3764, "test": 5645}
    assert len(json.loads((out / "vocabulary.json").read_text())) == 239
    sums = [line.split("  ") for line in (out / "SHA256SUMS").read_text().splitlines()]
    assert {name for _, name in sums} == {p.name for p in out.iterdir()} - {"SHA256SUMS"}
    for digest, name in sums:
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest


def test_data_of_any_task_and_as_parquet(tmp_path: Path) -> None:
    for name in discovery.names("tasks"):
        assert main(["data", name, "--out", str(tmp_path / name)]) == 0
        lines = (tmp_path / name / "train.txt").read_text().splitlines()
        assert len(lines) > 1000
        assert len(set(lines)) == len(lines), "a row is trained on twice"
    out = tmp_path / "parquet"
    assert main(["data", "smoke_p17", "--out", str(out), "--parquet"]) == 0
    table = pd.read_parquet(out / "test.parquet")
    lines = (out / "test.txt").read_text().splitlines()
    first = " ".join(map(str, [*table["tokens"][0][:2], "=", *table["labels"][0]]))
    assert (len(table), first) == (len(lines), lines[0])


def test_data_of_an_unknown_name_or_into_a_used_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "spectral_ad40", "--out", str(tmp_path / "new")]) == 1
    assert "'spectral_add40'" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine").write_text("x")
    assert main(["data", "quick", "--out", str(tmp_path)]) == 1
    assert "holds mine; give a new or empty folder" in capsys.readouterr().err
    assert main(["data", "quick", "--out", str(tmp_path / "mine")]) == 1
    assert (tmp_path / "mine").read_text() == "x"
