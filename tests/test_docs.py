"""Options and flags that the pages name exist; test_pages.py has their commands and links."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

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


REPRODUCING = (DOCS / "reproducing.md").read_text()
CONFIG_FIELDS = """
lr weight_decay p d_model fn_name frac_train num_epochs save_models save_every stopping_thresh seed
num_layers batch_style d_vocab n_ctx d_mlp num_heads act_type device use_ln
take_metrics_every_n_epochs
"""
"""Of `Config` in the released transformers.py of Nanda et al. (2023)."""
FORK_FLAGS = """
enable_fingerprint fingerprint_source probe_size proj_dim n_quantiles record_every layer_name
token_index center_mode fingerprint_seed perturbation_seed perturbation_scale n_delays k_mode
min_step max_step pca_dim
"""
"""Of the fork for arXiv 2605.08237: fingerprints, perturbations and their analysis."""


def first_cells(page: str) -> str:
    return " ".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| "))


@pytest.mark.parametrize("name", CONFIG_FIELDS.split())
def test_every_field_of_the_released_config_is_listed(name: str) -> None:
    assert re.search(rf"`{name}[=`]", first_cells(REPRODUCING))


@pytest.mark.parametrize("flag", FORK_FLAGS.split())
def test_every_flag_of_the_fork_is_listed(flag: str) -> None:
    assert re.search(rf"`--{flag}[ `]", first_cells(REPRODUCING))


@pytest.mark.parametrize(
    ("name", "value"),
    sorted(set(re.findall(r"`([a-z]+\.[a-z_.]+)=([^`]*)`", REPRODUCING))),
)
def test_every_option_of_the_papers_exists(name: str, value: str) -> None:
    """Those of Nanda et al. are the preset's own."""
    spectral = name.startswith(("record.", "perturbation.")) or name == "seeds.probe"
    base = preset("spectral_add40" if spectral else "nanda2023_mainline")
    given = yaml.safe_load(value)
    override(base, {name: given})
    if not spectral and name != "schedule.checkpoints":
        assert dotted(base)[name] == given
