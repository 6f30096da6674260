"""Options, commands and files that the pages name exist."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from mechgrok.cli import read_train
from mechgrok.options import dotted, override
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


TWO_HOP = (DOCS / "two_hop.md").read_text()
ELSEWHERE = {"transfer.train", "task.folder", "task.regime", "model.passes", "task.injected"}
"""Options beside a flag that the published commands of the preset do not give."""


@pytest.mark.parametrize(
    ("heading", "name"),
    [
        ("Recursive model", "two_hop_published"),
        ("Data", "two_hop_published"),
        ("Transformer", "composition_gpt2"),
    ],
)
def test_two_hop_options_exist_and_are_as_published(heading: str, name: str) -> None:
    below = TWO_HOP.split(f"### {heading}")[1].split("\n###")[0]
    cells = [line.split("|")[2] for line in below.splitlines() if line.startswith("| ")]
    found = dict(re.findall(r"`([a-z]+\.[A-Za-z_]+)=([^`]*)`", " ".join(cells)))
    assert len(found) > 3
    known = dotted(preset(name))
    for option, text in found.items():
        value = yaml.safe_load(text)
        given = float(value) if re.fullmatch(r"\d+e-\d+", text) else value
        override(preset(name), {option: given})
        if option not in ELSEWHERE:
            assert known[option] == given, option


PUBLISHED_FLAGS = """
data_dir model_name_or_path weight_decay max_seq_length max_length block_size train_batch_size
eval_batch_size learning_rate gradient_accumulation_steps save_step save_step_dense max_steps
scheduler fp16 evaluate_during_training predict_during_training init_weights add_tokens n_layer
evaluate_train output_dir do_train
arch data_paths evaluators epochs eval_interval lr puzzle_emb_lr puzzle_emb_weight_decay arch.mlp_t
arch.pos_encodings arch.L_layers arch.H_cycles arch.L_cycles arch.halt_max_steps arch.hidden_size
run_name ema global_batch_size max_inference_steps checkpoint_every_eval format causal post_fix
load_checkpoint
"""
"""Of the commands in the README of arXiv 2601.09049's code, pretraining and fine-tuning."""


@pytest.mark.parametrize("flag", PUBLISHED_FLAGS.split())
def test_every_flag_of_the_published_commands_is_listed(flag: str) -> None:
    named = " ".join(line.split("|")[1] for line in TWO_HOP.splitlines() if line.startswith("| "))
    assert re.search(rf"(?<![\w.]){re.escape(flag)}(?!\w)", named)
