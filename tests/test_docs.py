"""Options, commands and files that the pages name exist."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from mechgrok.cli import read_train
from mechgrok.options import override
from mechgrok.presets import preset
from mechgrok.tasks.equation import SYMBOLS

DOCS = Path(__file__).parents[1] / "docs"
OPENAI = (DOCS / "openai_grok.md").read_text()
OPTIONS = sorted(set(re.findall(r"`([a-z]+\.[a-z_]+)=([^`]*)`", OPENAI)))
FLAGS = {
    "random_seed", "gpu", "max_epochs", "max_steps", "batchsize", "n_layers", "n_heads", "d_model",
    "dropout", "weight_noise", "non_linearity", "max_context_len", "math_operator",
    "operand_length", "train_data_pct", "warmup_steps", "anneal_lr_steps", "anneal_lr", "max_lr",
    "weight_decay", "weight_decay_kind", "noise_factor", "save_activations", "save_outputs",
    "logdir", "datadir", "early_stop_threshold", "early_stop_delay_steps",
}  # fmt: skip
"""openai/grok's, and the early stop of its fork for arXiv 2605.08237."""


def table(heading: str) -> list[list[str]]:
    """Cells of the first table below a heading."""
    below = OPENAI.split(f"## {heading}")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in below.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_every_old_flag_has_its_row() -> None:
    named = [flag for row in table("Old flag") for flag in re.findall(r"`--(\w+)", row[0])]
    assert sorted(named) == sorted(FLAGS)


@pytest.mark.parametrize(("name", "value"), OPTIONS)
def test_every_option_exists_and_takes_its_value(name: str, value: str) -> None:
    changes: dict[str, Any] = {name: {"h": 0.3}.get(value, yaml.safe_load(value))}
    elsewhere = {"task.length": ("task.name", "sequences"),
                 "model.normalization": ("model.name", "transformer")}  # fmt: skip
    if name in elsewhere:
        changes |= dict([elsewhere[name]])
    elif (name, value) == ("optim.batch_size", "h"):
        changes[name] = 64
    override(preset("spectral_add40"), changes)


def test_every_operation_has_its_row() -> None:
    named = [name for row in table("Operations") for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(named) == sorted([*SYMBOLS, "sort", "reverse", "copy"])


@pytest.mark.parametrize("page", ["sweeps", "openai_grok"])
def test_every_command_is_understood(page: str, tmp_path: Path) -> None:
    from mechgrok.cli import main

    text = (DOCS / f"{page}.md").read_text()
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL))
    lines = [shlex.split(line, comments=True) for line in blocks.splitlines()]
    assert len(lines) >= 4
    for words in lines:
        if words[:2] == ["mechgrok", "train"]:
            assert read_train(words[2:], "quick", "test").config.preset in words
        elif words[:2] == ["mechgrok", "sweep"]:
            assert main([*words[1:], "--dry-run", "--runs", str(tmp_path)]) == 0
        elif words[0] == "python":
            assert (DOCS.parent / words[1]).exists()
        else:
            assert words[:2] == ["mechgrok", "data"]
