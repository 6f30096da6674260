"""Export and import: the same run comes back, whatever its model and task, or the file is named."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml
from datasets import load_dataset
from huggingface_hub import ModelCard

from mechgrok import discovery
from mechgrok.cli import main
from mechgrok.config import HaltingCrossEntropy
from mechgrok.runs import layout
from mechgrok.runs.checksums import NAME, check_sums, write_sums
from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError, read_json, read_tensors, tensor_digest, write_json
from mechgrok.sharing import export_run, import_run
from mechgrok.training.evaluation import evaluate_model
from mechgrok.training.trainer import train

SMALL: dict[str, dict[str, Any]] = {
    "binary": {"task.n": 7},
    "group": {"task.group": "S_3"},
    "equation": {"task.modulus": 11},
    "sequences": {"task.n": 8},
    "comparison": {"task.entities": 20, "task.attributes": 2, "task.values": 4},
    "composition": {
        "task.entities": 12,
        "task.relations": 8,
        "task.out_degree": 6,
        "task.phi": 1.0,
        "task.iid_share": 0.2,
        "task.ood_share": 0.2,
    },
}
"""Settings that make a task of a few hundred rows."""
MODELS: dict[str, dict[str, Any]] = {
    "transformer": {"model.d_model": 8, "model.n_heads": 2, "model.d_head": 4, "model.d_mlp": 16},
    "post_ln": {"model.d_model": 8, "model.n_heads": 2, "model.d_mlp": 16},
    "trm": {"model.d_model": 8, "model.puzzle_positions": 2},
}


def small(task: str, model: str, directory: Path, **more: Any) -> Run:
    """A run of four steps."""
    changes = {"task.name": task, "model.name": model, **SMALL[task], **MODELS[model]}
    changes |= {"stop.max_steps": 4, "schedule.evaluate_every": 2, **more}
    changes["schedule.checkpoints"] = ["at 0", "every 2"]
    if model == "trm":
        changes["loss.name"] = HaltingCrossEntropy().name
    return train(tiny.config(task__frac_train=0.6), run=directory, progress=False,
                 overrides=changes)  # fmt: skip


def digests(run: Run) -> dict[int, str]:
    """Of every tensor of every checkpoint, averages too."""
    files = {step: layout.checkpoint(run.path, step) for step in run.steps}
    return {step: tensor_digest(read_tensors(file)[0]) for step, file in files.items()}


@pytest.fixture
def folder(tiny_run: Run, tmp_path: Path) -> Path:
    return export_run(tiny_run, tmp_path / "folder")


def test_every_task_and_model_is_tried() -> None:
    assert set(SMALL) == set(discovery.names("tasks"))
    assert set(MODELS) == set(discovery.names("models"))


@pytest.mark.parametrize(
    ("task", "model"), [*((t, "transformer") for t in SMALL), ("equation", "post_ln"),
                        ("composition", "trm")],
)  # fmt: skip
def test_the_same_run_comes_back(task: str, model: str, tmp_path: Path) -> None:
    run = small(task, model, tmp_path / "run")
    back = import_run(export_run(run, tmp_path / "folder"), tmp_path / "back")
    assert digests(back) == digests(run)
    assert back.config == run.config
    assert back.evaluations() == run.evaluations()
    assert back.task.sha256 == run.task.sha256
    assert torch.equal(back[-1].answer_logits, run[-1].answer_logits)
    assert {p.suffix for p in back.path.rglob("*") if p.is_file()} <= {
        *("", ".yaml", ".json", ".jsonl", ".safetensors")
    }, "no pickle"
    rows = load_dataset(str(tmp_path / "folder" / "data"), cache_dir=str(tmp_path / "cache"))
    for split, at in run.task.splits.items():
        assert rows[split]["tokens"][:] == run.task.tokens[at].tolist()
        assert rows[split]["labels"][:] == run.task.labels[at].tolist()


def test_averages_and_fingerprints_go_along(tmp_path: Path) -> None:
    run = tiny.train(tiny.config(), tmp_path / "run", **tiny.EVERYTHING)
    back = import_run(export_run(run, tmp_path / "folder"), tmp_path / "back")
    assert digests(back) == digests(run)
    assert back[-1].kind == "ema"
    for name, values in run.fingerprints.values.items():
        assert (back.fingerprints.values[name] == values).all()


def test_averages_go_alone(tmp_path: Path, tiny_run: Run) -> None:
    run = tiny.train(tiny.config(), tmp_path / "run", **tiny.EVERYTHING)
    folder = export_run(run, tmp_path / "folder", data=False, raw=False)
    assert all(name.startswith("ema/") for name in read_tensors(layout.checkpoint(folder, 0))[0])
    back = import_run(folder, tmp_path / "back")
    assert torch.equal(back[-1].answer_logits, run[-1].answer_logits)
    with pytest.raises(RunError, match="ask for ema"):
        back.checkpoint(back.steps[-1], "raw")
    with pytest.raises(RunError, match="keeps no ema weights"):
        export_run(tiny_run, tmp_path / "other", raw=False)


def test_the_folder_is_a_run_itself(folder: Path, tiny_run: Run) -> None:
    assert torch.equal(Run(folder)[-1].answer_logits, tiny_run[-1].answer_logits)


@pytest.mark.parametrize(
    "name",
    [
        "config.yaml", "provenance.json", "metrics.jsonl", "data/test.parquet",
        "checkpoints/step_00000020.safetensors",
    ],
)  # fmt: skip
def test_a_damaged_or_missing_file_is_named(name: str, folder: Path, tmp_path: Path) -> None:
    path = folder / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        RunError, match=rf"{name} is damaged or was edited.*export the folder again"
    ):
        import_run(folder, tmp_path / "back")
    path.unlink()
    with pytest.raises(RunError, match=rf"{name} is missing.*export the folder again"):
        import_run(folder, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_folder_without_its_sums_is_refused(folder: Path, tmp_path: Path) -> None:
    sums = (folder / NAME).read_text()
    for text in ("x\n", f"{'0' * 64}  ../metrics.jsonl\n", f"{'0' * 64}  /etc/hosts\n"):
        (folder / NAME).write_text(sums + text)
        with pytest.raises(RunError, match="SHA256SUMS has a line"):
            import_run(folder, tmp_path / "back")
    (folder / NAME).unlink()
    with pytest.raises(RunError, match="has no SHA256SUMS.*mechgrok export"):
        import_run(folder, tmp_path / "back")


def test_a_checkpoint_that_is_not_listed_stays_behind(folder: Path, tmp_path: Path) -> None:
    step_20 = layout.checkpoint(folder, 20)
    shutil.copy(step_20, layout.checkpoint(folder, 21))
    assert import_run(folder, tmp_path / "back").steps == [0, 20, 40, 60]


def test_the_card_may_be_edited(folder: Path, tmp_path: Path) -> None:
    (folder / "README.md").write_text("mine")
    assert len(import_run(folder, tmp_path / "back")) == 4


def test_a_task_that_comes_out_differently_is_refused(folder: Path, tmp_path: Path) -> None:
    said = read_json(folder / "provenance.json")
    write_json(folder / "provenance.json", said | {"task_sha256": "0"})
    write_sums(folder, check_all(folder))
    with pytest.raises(RunError, match="other rows here than where it was trained"):
        import_run(folder, tmp_path / "back")
    assert not (tmp_path / "back" / "config.yaml").exists()


def check_all(folder: Path) -> list[str]:
    return [line.split("  ")[1] for line in (folder / NAME).read_text().splitlines()]


def test_checkpoints_are_chosen_and_folders_kept(tiny_run: Run, tmp_path: Path) -> None:
    out = export_run(tiny_run, tmp_path / "folder", [60, 0], data=False)
    assert Run(out).steps == [0, 60]
    assert not (out / "data").exists()
    assert "load_dataset" not in (out / "README.md").read_text()
    with pytest.raises(RunError, match=r"no checkpoint at \[7\]; it has \[0, 20, 40, 60\]"):
        export_run(tiny_run, tmp_path / "other", [7])
    with pytest.raises(RunError, match="new or empty folder"):
        export_run(tiny_run, out)
    back = import_run(out, tmp_path / "back")
    with pytest.raises(RunError, match="holds a run already"):
        import_run(out, back.path)


def test_an_imported_run_is_not_trained_over(folder: Path, tmp_path: Path) -> None:
    back = import_run(folder, tmp_path / "back")
    for path in (back.path, folder):
        with pytest.raises(RunError, match=r"no training state.*--init-from"):
            train(back.config, run=path, progress=False)
    changes = {"init_from": str(back.path), "stop.max_steps": 2}
    child = train(back.config, run=tmp_path / "child", progress=False, overrides=changes)
    assert tensor_digest(child[0].weights) == tensor_digest(back[-1].weights)


def test_no_folder_of_this_machine_goes_along(tiny_run: Run, tmp_path: Path) -> None:
    data = tmp_path / "secret" / "task"
    first = small("composition", "transformer", tmp_path / "secret" / "parent")
    data.mkdir(parents=True)
    for name, text in first.task.files().items():
        (data / name).write_text(text)
    run = train(
        tiny.config(), run=tmp_path / "run", progress=False,
        overrides={"task.name": "composition", "task.folder": str(data), "task.test_rows": 50,
                   "init_from": str(first.path), "stop.max_steps": 0},
    )  # fmt: skip
    write_json(run.path / "status.json", run.status | {"reason": f"cannot write {data}/x: full"})
    out = export_run(run, tmp_path / "folder")
    for path in out.rglob("*"):
        assert path.is_dir() or b"secret" not in path.read_bytes(), path
    assert Run(out).config.init_from == "parent"
    assert Run(out).status["reason"] == "cannot write x: full"
    shutil.rmtree(tmp_path / "secret")
    back = import_run(out, tmp_path / "back")
    assert back.task.sha256 == Run(out).provenance["task_sha256"]
    assert digests(back) == digests(run)
    assert "parent" in back[-1].lineage[-1]


def test_the_card_is_counted_and_measured(folder: Path, tiny_run: Run) -> None:
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "mechgrok"
    found = {r.metric_name: r.metric_value for r in card.data.eval_results or []}
    last = tiny_run[-1]
    for split in ("train", "test"):
        measured = evaluate_model(last.model, tiny_run.task, split)
        assert found[f"{split} acc"] == measured["correct"]
        assert found[f"{split} loss"] == pytest.approx(measured["loss"])
    cells = [line.strip("|").split(" | ") for line in card.text.splitlines() if " | " in line]
    rows = {row[0].strip(): row[-1].strip() for row in cells}
    trained = sum(x.numel() for x in last.model.parameters() if x.requires_grad)
    held = sum(x.numel() for x in last.weights.values())
    assert rows["parameters"] == f"{held:,}, of which {trained:,} trained"
    assert rows["torch"] == torch.__version__
    assert rows["`task.frac_train`"] == "`0.6`"
    assert rows["train"] == str(len(tiny_run.task.splits["train"]))
    assert rows["memorised"] == "not by step 60"
    assert tiny_run.task.sha256 in card.text
    assert "mechgrok import FOLDER --format mechgrok --run DIR" in card.text


def test_the_command_line_exports_imports_and_measures(
    tiny_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    source, out, run = str(tiny_run.path), str(tmp_path / "out"), str(tmp_path / "back")
    assert main(["export", source, "--steps", "0", "60"]) == 0
    assert Run(tmp_path / "exports" / "tiny").steps == [0, 60]
    assert main(["export", source, "--out", out]) == 0
    assert "mechgrok push" in capsys.readouterr().out
    asked = ["import", out, "--format", "mechgrok", "--run", run]
    assert main([*asked, "--seed", "1"]) == 1
    assert "--seed: an exported run holds its settings" in capsys.readouterr().err
    assert main(asked) == 0
    assert "run tiny, exported by mechgrok" in capsys.readouterr().out
    assert main(["measure", run, "--names", "losses"]) == 0
    assert "losses.test_loss" in capsys.readouterr().out  # plot, report: tests/test_offline.py
    assert main(asked) == 1
    assert "holds a run already" in capsys.readouterr().err


def test_sums_are_those_of_sha256sum(folder: Path) -> None:
    import subprocess

    done = subprocess.run(["sha256sum", "--check", "--strict", NAME], cwd=folder, check=False,
                          capture_output=True)  # fmt: skip
    assert done.returncode == 0
    assert check_sums(folder) == sorted(check_all(folder))
    every = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert every - set(check_all(folder)) == {"README.md", "data/README.md", NAME}
    assert yaml.safe_load((folder / "config.yaml").read_text())["preset"] == "tiny"
