"""The published folder of JSON files: written, read back to the same task, refused when damaged."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import two_hops

from mechgrok.cli import main
from mechgrok.config import CompositionTask, ConfigError, FinetuneSet, Seeds
from mechgrok.tasks.composition import Task

CHANGES = [f"task.{name}={value}" for name, value in two_hops.SMALL.items()]
NEW = FinetuneSet(facts="new", count=8, keep=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "composition"
    asked = ["data", "composition", "--out", str(out), "--seed", "3"]
    assert main([*asked, "--set", *CHANGES, "task.regime=both_half"]) == 0
    return out


def read(folder: Path, **fields: object) -> Task:
    return Task.make(CompositionTask(folder=str(folder), **fields), Seeds().with_base(3))


def test_the_files_are_as_published(folder: Path) -> None:
    task = two_hops.make(Seeds().with_base(3), regime="both_half")
    loaded = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    assert loaded["vocab"][:1] + loaded["vocab"][12:13] == ["<e_0>", "<r_0>"]
    assert loaded["vocab"][20:] == ["<mask>", "<sep>", "<a>", "</a>", "<q>", "</q>"]
    assert len(loaded["id_facts"]) == 48
    assert len(loaded["ood_facts"]) == 12
    lines = [item["target_text"].replace(">", "> ").strip() for item in loaded["train"]]
    assert lines == task.text("train")
    for item in loaded["train"]:
        answer = item["target_text"].removeprefix(item["input_text"])
        assert (answer.count("<"), answer[-4:]) == (2, "</a>")
    valid = [item["target_text"] for item in loaded["valid"]]
    kinds = [item["type"] for item in loaded["test"]]
    of = [i["target_text"] for i in loaded["test"] if i["type"] == "test_inferred_ood"]
    assert valid == of
    assert list(dict.fromkeys(kinds)) == [
        "id_atomic", "ood_atomic", "train_inferred", "test_inferred_iid", "test_inferred_ood",
    ]  # fmt: skip
    assert loaded["exposure"] == task.exposure()


def test_reading_gives_the_task_back(folder: Path) -> None:
    task, back = two_hops.make(Seeds().with_base(3), regime="both_half"), read(folder)
    assert back.sha256 == task.sha256
    assert set(back.splits) == set(task.splits)
    assert all(back.splits[name].equal(task.splits[name]) for name in task.splits)
    assert all(back.tags[name].equal(task.tags[name]) for name in task.tags)
    causal = two_hops.make(Seeds().with_base(3), regime="both_half", layout="causal")
    assert read(folder, layout="causal").sha256 == causal.sha256
    taught = two_hops.make(Seeds().with_base(3), regime="both_half", finetune=NEW)
    assert read(folder, finetune=NEW).sha256 == taught.sha256


def test_a_fine_tuning_set_is_written_and_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    task = two_hops.make(finetune=NEW)
    files = task.files()
    train, test = (json.loads(files[f"{name}.json"]) for name in ("train", "test"))
    assert len(train) == len(task.splits["train"])
    assert {"atomic_new", "test_inferred_new"} <= {item["type"] for item in test}
    assert len(json.loads(files["id_facts.json"])) == 48, "new facts are in no fact file"
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match="a fine-tuning set is made with task.finetune|follow"):
        read(tmp_path)


def _edit(name: str, change: Callable[[Any], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / name
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))

    return apply


UNKNOWN = {"input_text": "<e_12><r_0>", "target_text": "<e_12><r_0><e_1></a>"}
WRONG = {"input_text": "<e_0><r_0><r_0><r_0>", "target_text": "<e_0></a>"}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: (f / "id_facts.json").unlink(), "cannot read .*id_facts.json"),
        (lambda f: (f / "train.json").write_text("[{"), "cannot read .*train.json"),
        (lambda f: (f / "valid.json").write_text("{}"), "holds dict; expected a list"),
        (lambda f: (f / "valid.json").write_text("[]"), "has no items"),
        (_edit("vocab.json", lambda v: v.pop(3)), "is no published vocabulary"),
        (_edit("vocab.json", lambda v: v.insert(-6, "<r_8>")), None),
        (_edit("train.json", lambda v: v.append(UNKNOWN)), "has <e_12>, which is not in .*vocab"),
        (_edit("test.json", lambda v: v.append(WRONG | {"type": "id_atomic"})), "cannot read"),
        (_edit("test.json", lambda v: v[0].pop("type")), r"types .*'None'.*; expected \["),
        (_edit("train.json", lambda v: v.pop(0)), "59 atomic queries, 1 of the 60 facts"),
        (_edit("ood_facts.json", lambda v: v.pop(0)), "does not follow from id_facts"),
        (_edit("id_facts.json", lambda v: v.append([*v[0][:2], "<e_11>"])), "two tails|follow"),
        (_edit("id_facts.json", lambda v: v.append(["<e_0>"])), "cannot read '<e_0>'"),
    ],
)
def test_what_does_not_fit_is_named(
    damage: Callable[[Path], object], said: str | None, folder: Path, tmp_path: Path
) -> None:
    for path in folder.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damage(tmp_path)
    if said is None:
        assert read(tmp_path).graph.relations == 9
        return
    with pytest.raises(ConfigError, match=said):
        read(tmp_path)


def test_settings_that_the_folder_holds_are_refused(folder: Path) -> None:
    config = CompositionTask(folder=str(folder), phi=2.0)
    with pytest.raises(ConfigError, match=r"task.phi = 2.0 beside task.folder"):
        Task.make(config, Seeds())
    with pytest.raises(ConfigError, match="task.regime"):
        Task.make(replace(config, phi=16.0, regime="both_full"), Seeds())


def test_options_of_a_written_task_are_read_strictly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    assert main(["data", "composition", "--out", out, "--set", "task.entitis=3"]) == 1
    assert "'task.entities'" in capsys.readouterr().err
    assert main(["data", "composition", "--out", out, "--set", "task.phi"]) == 1
    assert not (tmp_path / "out").exists()
