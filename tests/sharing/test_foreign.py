"""Importing a published checkpoint: the run rebuilds it, says what it lacks, and is measured."""

import json
from pathlib import Path
from typing import Any

import published_files as files
import pytest
import torch

from mechgrok.cli import main
from mechgrok.models.published import load_nanda, load_transformer_lens
from mechgrok.runs.result import NotApplicable
from mechgrok.runs.run import Run, read_config
from mechgrok.runs.storage import RunError
from mechgrok.sharing import import_model
from mechgrok.training.trainer import train

TOLD = {"act_fn": "relu", "normalization": None, "attn_scale": 2.0}


@pytest.fixture
def nanda(tmp_path: Path) -> Path:
    return files.saved(files.nanda_run(files.model()), tmp_path / "theirs.pth")


@pytest.fixture
def imported(nanda: Path, tmp_path: Path) -> Run:
    return import_model(nanda, tmp_path / "run")


def test_the_run_rebuilds_the_same_model(imported: Run, nanda: Path) -> None:
    published = load_nanda(nanda)
    checkpoint = imported[-1]
    with torch.no_grad():
        expected = published.model(checkpoint.task.tokens)
        assert torch.equal(checkpoint.model(checkpoint.task.tokens), expected)
    trained = [{n for n, x in m.named_parameters() if x.requires_grad}
               for m in (checkpoint.model, published.model)]  # fmt: skip
    assert trained[0] == trained[1]


def test_the_run_says_what_the_file_says(imported: Run) -> None:
    config: Any = imported.config
    assert (config.task.n, config.task.operation, config.task.outputs) == (11, "add", "tokens")
    assert (config.task.split, config.task.frac_train, config.seeds.data) == ("nanda2023", 0.4, 7)
    assert (config.optim.weight_decay, config.optim.betas) == (0.1, (0.9, 0.98))
    facts = imported.provenance["imported"]
    assert facts["contradictions"] == ["config weight_decay 1, but the optimizer has 0.1"]
    assert "recovered" in facts["split"]["how"]
    assert "accuracies over training" in facts["not_stored"]
    assert imported.status["state"] == "imported"
    assert imported.steps == [21]


def test_curves_are_the_stored_ones_and_nothing_is_filled_in(imported: Run) -> None:
    rows = imported.evaluations()
    assert [row["step"] for row in rows] == [0, 10, 20]
    assert [row["train_loss"] for row in rows[:2]] == [5.0, 4.0]
    assert {name for row in rows for name in row} == {"step", "train_loss", "test_loss"}
    times = imported.measure("times")
    assert isinstance(times["grokked"], NotApplicable)
    assert isinstance(times["memorised_interval"], NotApplicable)
    assert times["last_step"] == 20
    with pytest.raises(RunError, match="no test_acc over training"):
        imported.at("generalised")


def test_the_stored_loss_is_that_of_the_weights(imported: Run) -> None:
    last, losses = imported.evaluations()[-1], imported.measure("losses")
    for split in ("train", "test"):
        assert losses[f"{split}_loss"] == pytest.approx(last[f"{split}_loss"], rel=1e-12)


def test_training_on_is_refused_and_harms_nothing(imported: Run, tmp_path: Path) -> None:
    before = {p: p.read_bytes() for p in imported.path.rglob("*") if p.is_file()}
    with pytest.raises(RunError, match=r"no training state.*--init-from"):
        train(imported.config, run=imported.path, progress=False)
    assert {p: p.read_bytes() for p in before} == before
    child = train(
        imported.config, run=tmp_path / "child", progress=False,
        overrides={"init_from": str(imported.path), "stop.max_steps": 2,
                   "schedule.evaluate_every": 1},
    )  # fmt: skip
    assert child.evaluations()[0]["test_loss"] == pytest.approx(
        imported.evaluations()[-1]["test_loss"], rel=1e-6
    )  # float32 weights and the loss of training, not of measures


def test_a_directory_in_use_is_left_alone(imported: Run, nanda: Path) -> None:
    before = (imported.path / "config.yaml").read_bytes()
    with pytest.raises(RunError, match="holds a run already"):
        import_model(nanda, imported.path)
    assert (imported.path / "config.yaml").read_bytes() == before


def test_a_split_that_is_not_known_is_asked_for(tmp_path: Path) -> None:
    run = files.nanda_run(files.model())
    run["test_losses"][-1] *= 2
    path = files.saved(run, tmp_path / "a.pth")
    with pytest.raises(RunError, match=r"not known: no nanda2023 split fits; closest.*--seed N"):
        import_model(path, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(RunError, match="both"):
        import_model(path, tmp_path / "run", seed=7)
    made = import_model(path, tmp_path / "run", seed=8, frac_train=0.4)
    assert made.provenance["imported"]["split"]["how"].startswith("given")
    assert "config seed 7, but the run has 8" in str(made.provenance["imported"]["contradictions"])


def test_without_losses_the_stored_split_is_taken_and_one_evaluation_made(tmp_path: Path) -> None:
    saved = files.nanda_run(files.model())
    only = {"model": saved["model"], "config": saved["config"]}
    made = import_model(files.saved(only, tmp_path / "a.pth"), tmp_path / "run")
    assert "not checked" in made.provenance["imported"]["split"]["how"]
    assert [row["step"] for row in made.evaluations()] == [0]
    only.pop("config")
    with pytest.raises(RunError, match="stores no train and test losses"):
        import_model(files.saved(only, tmp_path / "a.pth"), tmp_path / "other")


def test_a_transformer_lens_file_becomes_a_run(tmp_path: Path) -> None:
    model = files.model(2, normalization="LN")
    path = files.saved(model.state_dict(), tmp_path / "a.pth")
    told = {"act_fn": "relu", "use_attn_scale": True}
    made = import_model(
        path, tmp_path / "run", "transformer_lens", config=told, seed=0, frac_train=0.5
    )
    assert [p.name for p in (made.path / "checkpoints").iterdir()] == ["step_00000000.safetensors"]
    tokens = made.task.tokens
    with torch.no_grad():
        assert torch.equal(made[-1].model(tokens), load_transformer_lens(path, told).model(tokens))


@pytest.mark.parametrize(
    ("config", "said"),
    [({"attn_scale": 1.0}, "attn_scale 1.0"), ({"eps": 0.1}, "eps 0.1")],
)
def test_a_model_no_config_can_hold_is_refused(
    config: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = files.saved(files.model().state_dict(), tmp_path / "a.pth")
    with pytest.raises(RunError, match=f"cannot hold: .*{said}"):
        import_model(
            path, tmp_path / "run", "transformer_lens", config=TOLD | config, seed=0, frac_train=0.5
        )
    assert not (tmp_path / "run").exists()


def test_operations_of_the_released_code(tmp_path: Path) -> None:
    run = files.nanda_run(files.model())
    for name, said in (("rand", "'rand'"), ("add", None)):
        run["config"]["fn_name"] = name
        path = files.saved(run, tmp_path / "a.pth")
        if said:
            with pytest.raises(RunError, match=said):
                import_model(path, tmp_path / name)
        else:
            import_model(path, tmp_path / name)


def test_the_command_line_imports_measures_plots_and_reports(
    nanda: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["import", str(nanda), "--format", "nanda", "--run", str(run)]) == 0
    assert "seed 7, fraction 0.4" in capsys.readouterr().out
    assert main(["measure", str(run), "--all"]) == 0
    printed = capsys.readouterr().out
    assert "recover_split.seed" in printed
    assert "accuracies over training are not recorded" in printed
    assert main(["report", str(run)]) == 0
    assert "not known: accuracies" in capsys.readouterr().out
    assert main(["plot", str(run), "--names", "grokking_curve"]) == 0
    assert (run / "report.html").exists()
    page = (run / "report.html").read_text()
    assert "theirs.pth" in page
    assert "more weight decay" not in page, "no advice on training a run that was not trained here"
    capsys.readouterr()
    assert main(["import", str(nanda), "--run", str(run)]) == 1
    assert "holds a run already" in capsys.readouterr().err
    (tmp_path / "bad.pth").write_bytes(b"no")
    assert main(["import", str(tmp_path / "bad.pth"), "--run", str(tmp_path / "b")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_settings_come_from_a_file(tmp_path: Path) -> None:
    path = files.saved(files.model().state_dict(), tmp_path / "a.pth")
    settings, run = tmp_path / "told.yaml", tmp_path / "run"
    settings.write_text(json.dumps(TOLD))
    given = ["--format", "transformer_lens", "--seed", "0", "--frac-train", "0.5"]
    asked = ["import", str(path), *given, "--run", str(run), "--config"]
    assert main([*asked, str(tmp_path / "none.yaml")]) == 1
    assert main([*asked, str(settings)]) == 0
    assert read_config(run / "config.yaml").seeds.data == 0
