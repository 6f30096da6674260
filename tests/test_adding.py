"""docs/adding.md: its files, in a temporary package, do what its commands ask."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from mechgrok import discovery
from mechgrok.cli import main
from mechgrok.config import ConfigError
from mechgrok.maths import operations
from mechgrok.models.hooked import HookError
from mechgrok.runs.run import Run

PAGE = (Path(__file__).parents[1] / "docs" / "adding.md").read_text()
FILES = dict(re.findall(r"^`(lab/\w+\.py)`\n\n```python\n(.*?)^```", PAGE, re.M | re.S))
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.S) for line in block.splitlines()
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Every file of the page written, every command run, in its order."""
    root = tmp_path_factory.mktemp("adding")
    (root / "lab").mkdir()
    for name, text in FILES.items():
        (root / name).write_text(text)
    before = dict(operations.OPERATIONS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root)
        patch.chdir(root)
        yield root
    operations.OPERATIONS.clear()
    operations.OPERATIONS.update(before)


def run_commands(word: str) -> int:
    """Run the page's commands that name a file; returns how many."""
    asked = [shlex.split(line) for line in COMMANDS if word in line]
    for words in asked:
        assert words[0] == "mechgrok"
        assert main(words[1:]) == 0, words
    return len(asked)


def test_the_page_has_a_file_and_a_command_of_every_kind() -> None:
    assert len(FILES) == 5
    assert len(COMMANDS) == 6
    assert all(f"lab.{Path(name).stem}" in " ".join(COMMANDS) for name in FILES)
    assert PAGE.count("```python") == len(FILES), "a block is not tested"


def test_a_task(folder: Path) -> None:
    assert run_commands("lab.last_digit") == 1
    run = Run("results/task")
    assert run.task.d_vocab_out == 10
    a, b, _ = run.task.tokens[40].tolist()
    assert run.task.labels[40].tolist() == [(a + b) % 10]
    assert len(run.task.splits["train"]) == int(0.3 * 17 * 17)
    assert run[-1].answer_logits.shape == (17 * 17, 1, 10)


def test_an_operation(folder: Path) -> None:
    assert run_commands("lab.cubes") == 1
    task = Run("results/operation").task
    a, b = task.tags["a"], task.tags["b"]
    assert torch.equal(task.labels[:, 0], (a**3 + b**3) % 17)


def test_a_model_a_measure_and_a_figure(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_commands("results/model") == 4
    assert "hook_post" in capsys.readouterr().out
    run = Run("results/model")
    last = run[-1]
    assert type(last.model).__name__ == "PositionSum"
    logits, cache = last.model.run_with_cache(run.task.tokens, names_filter="hook_post")
    assert torch.equal(logits, cache["hook_post"] @ last.model.W_U)
    with pytest.raises(HookError, match="nearest"):
        last.model.run_with_cache(run.task.tokens, names_filter="hook_pst")
    before, after = (run.evaluations()[i]["train_loss"] for i in (0, -1))
    assert after < before, "it is trained"
    result = run.result("lab.rank_one")
    svd = torch.linalg.svdvals(last.model.W_U.detach().double())
    assert result.headline == pytest.approx(float(svd[0] ** 2 / svd.square().sum()))
    assert len(run.series("lab.rank_one")["lab.rank_one"]) == len(run)
    assert Path("results/model/figures/lab.rank_one_curve.html").exists()


def test_settings_name_the_path(folder: Path) -> None:
    stored = yaml.safe_load(Path("results/task/config.yaml").read_text())
    assert stored["task"]["name"] == "lab.last_digit"


def test_a_file_without_its_member_and_a_missing_file_are_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"lab.cubes has no 'measure'; a file of measures must"):
        discovery.load("measures", "lab.cubes")
    with pytest.raises(ConfigError, match=r"no module 'lab.none' for plots"):
        discovery.load("plots", "lab.none")
