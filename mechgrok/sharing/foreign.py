"""Other people's models as run directories, on which measure, plot and report work."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import torch
import yaml

from mechgrok import discovery
from mechgrok.config import AdamW, BinaryTask, RunConfig, Seeds, Stop, TransformerModel
from mechgrok.models._state_dict import trained_biases
from mechgrok.models.published import Origin, Published, load_nanda, load_transformer_lens
from mechgrok.models.transformer import Transformer
from mechgrok.runs import layout
from mechgrok.runs.checkpoint import build_model, load_weights
from mechgrok.runs.result import NotApplicable
from mechgrok.runs.run import Run, write_config
from mechgrok.runs.storage import (
    RunError,
    lock,
    remove_temporary,
    write_json,
    write_tensors,
    write_text,
)
from mechgrok.sharing.origin import Split, facts, refuse_used, rows
from mechgrok.training import losses
from mechgrok.training.evaluation import evaluate_splits
from mechgrok.training.provenance import provenance

FORMATS: Final = ("nanda", "transformer_lens")
OPERATIONS: Final = {"add": "add", "subtract": "subtract", "x2xyy2": "x2_plus_xy_plus_y2"}
"""`fn_name` of the released code -> operation."""
FREE: Final = {"n_params", "init_mode", "initializer_range"}
"""Settings of a model that decide no logit of a trained one."""


def import_model(
    file: str | Path,
    run: str | Path,
    format: str = "nanda",
    *,
    config: Mapping[str, Any] | None = None,
    seed: int | None = None,
    frac_train: float | None = None,
) -> Run:
    """Make a run directory of a published checkpoint; returns the run.

    The split is recovered from the stored losses, unless `seed` and `frac_train` are given.
    `config` is what a transformer_lens file cannot tell (`load_transformer_lens`).

    Raises PublishedError for a file that cannot be used, and RunError for a directory that holds a
    run, a split that is not known, and a model that no run config describes.
    """
    if format not in FORMATS:
        raise RunError(f"format = {format!r}; expected one of {FORMATS}")
    if config is not None and format == "nanda":
        raise RunError("config is for transformer_lens files; a nanda file tells its settings")
    directory = Path(run)
    refuse_used(directory)
    published = load_nanda(file) if format == "nanda" else load_transformer_lens(file, config)
    split = _split(published, seed, frac_train)
    settings = run_config(published, split)
    task = discovery.load("tasks", settings.task.name).make(settings.task, settings.seeds)
    _check_rebuilt(published, settings, task)
    with lock(directory):
        refuse_used(directory)
        remove_temporary(directory)
        _write(directory, published, settings, task, split)
    return Run(directory)


def read_settings(path: Path) -> dict[str, Any]:
    """A YAML or JSON file of settings. Raises RunError when it is none."""
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise RunError(f"cannot read {path}: {error}") from error
    if not isinstance(found, dict):
        raise RunError(f"{path} holds {found!r}; expected settings such as act_fn: relu")
    return found


def run_config(published: Published, split: Split) -> RunConfig:
    """The settings of a run that rebuilds the model; what is not stored keeps its default.

    Raises RunError for a model that no settings describe.
    """
    cfg, origin = published.model.cfg, published.origin
    n = cfg.d_vocab - 1
    if cfg.n_ctx != 3 or n < 3 or cfg.d_vocab_out not in (n, n + 1):
        raise RunError(
            f"{origin.file} reads {cfg.n_ctx} of {cfg.d_vocab} tokens and has {cfg.d_vocab_out} "
            f"outputs; a run needs rows (a, b, =): 3 tokens, n + 1 of them, n or n + 1 outputs. "
            f"Load it with mechgrok.models.published and measure its arrays"
        )
    return RunConfig(
        preset="imported",
        task=BinaryTask(
            operation=_operation(origin),
            n=n,
            frac_train=split.frac_train,
            outputs="tokens" if cfg.d_vocab_out == n + 1 else "answers",
        ),
        model=_model_config(published),
        optim=_optim(origin),
        seeds=Seeds(base=split.seed, data=split.seed),
        stop=Stop(max_steps=origin.steps or 0, after_generalised=None),
    )


def _operation(origin: Origin) -> str:
    name = str(origin.config.get("fn_name", "add"))
    if name not in OPERATIONS:
        raise RunError(
            f"{origin.file} was trained on {name!r}; a run can be made of "
            f"{list(OPERATIONS)}, since the labels of others are not in the file"
        )
    return OPERATIONS[name]


def _model_config(published: Published) -> TransformerModel:
    model = published.model
    if not isinstance(model, Transformer):
        raise RunError(
            f"{published.origin.file} is no HookedTransformer; expected one of {FORMATS}"
        )
    cfg = model.cfg
    if cfg.attn_only:
        raise RunError(f"{published.origin.file} is attention only; a run's model has an MLP")
    biases: Any = trained_biases(model)
    return TransformerModel(
        n_layers=cfg.n_layers,
        d_model=cfg.d_model,
        n_heads=cfg.n_heads,
        d_head=cfg.d_head,
        d_mlp=cfg.d_mlp or 0,
        act_fn=cfg.act_fn or "",
        normalization=cfg.normalization_type,  # pyright: ignore[reportArgumentType]
        trained_biases="mlp" if published.origin.format == "nanda" else biases,
        dtype="float64" if cfg.dtype == torch.float64 else "float32",
    )


def _optim(origin: Origin) -> AdamW:
    known = {f.name for f in fields(AdamW)} - {"name"}
    stored = {name: value for name, value in origin.optimizer.items() if name in known}
    stored["lr"] = origin.optimizer.get("initial_lr", stored.get("lr", AdamW().lr))
    if "betas" in stored:
        stored["betas"] = tuple(stored["betas"])
    return AdamW(**stored)


def _split(published: Published, seed: int | None, frac_train: float | None) -> Split:
    """The split: given, or recovered from the losses, or stored where there are no losses."""
    if (seed is None) != (frac_train is None):
        raise RunError("a split needs both --seed and --frac-train; give both or none")
    if seed is not None and frac_train is not None:
        return Split(seed, frac_train, "given at import, not checked")
    origin, stored = published.origin, published.origin.config
    advice = "give --seed N --frac-train F if you know them"
    if {"train", "test"} <= set(origin.losses):
        recover = discovery.module("measures", "recover_split").recover_split
        found = recover(published.model, origin.losses, labels=_labels(published))
        if isinstance(found, NotApplicable):
            raise RunError(f"the split of {origin.file} is not known: {found.reason}; {advice}")
        errors = f"off by {found.train_error:.2g} and {found.test_error:.2g} in log loss"
        return Split(found.seed, found.frac_train, f"recovered from the stored losses, {errors}")
    kinds = (stored.get("seed"), stored.get("frac_train"))
    if isinstance(kinds[0], int) and isinstance(kinds[1], float):
        return Split(kinds[0], kinds[1], "as the stored config says, not checked: no stored losses")
    raise RunError(f"{origin.file} stores no train and test losses to find its split; {advice}")


def _labels(published: Published) -> torch.Tensor:
    """Right answers of every pair, in order a * p + b."""
    task = BinaryTask(operation=_operation(published.origin), n=published.model.cfg.d_vocab - 1)
    return discovery.load("tasks", task.name).make(task, Seeds()).labels[:, 0]


def _check_rebuilt(published: Published, config: RunConfig, task: Any) -> None:
    """Refuse a model that the run's config would not build again."""
    rebuilt: Transformer = build_model(config, task)
    own, again = vars(published.model.cfg), vars(rebuilt.cfg)
    differ = [f"{k} {own[k]!r}" for k in own if k not in FREE and own[k] != again.get(k)]
    if differ:
        raise RunError(
            f"{published.origin.file} has settings that a run's config cannot hold: "
            f"{', '.join(differ)}; load it with mechgrok.models.published and measure its arrays"
        )
    load_weights(rebuilt, dict(published.model.named_parameters()))


def _write(
    directory: Path, published: Published, config: RunConfig, task: Any, split: Split
) -> None:
    """Every file of the run; config.yaml last, so that it is a run only when it is whole."""
    origin, step = published.origin, published.origin.steps or 0
    lines = rows(origin) or [_evaluated(published, config, task, step)]
    more = {"task_sha256": task.sha256, "imported": facts(published, split)}
    write_json(directory / "provenance.json", provenance(config, more))
    reason = f"from {origin.file}; not trained here"
    status = {"state": "imported", "step": step, "reason": reason, "reached": {}}
    write_json(directory / "status.json", status)
    text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
    write_text(directory / "metrics.jsonl", text)
    weights = {name: p.detach() for name, p in published.model.named_parameters()}
    header = {"step": step, "config": config.digest()}
    write_tensors(layout.checkpoint(directory, step), weights, header)
    write_config(directory / "config.yaml", config)


def _evaluated(published: Published, config: RunConfig, task: Any, step: int) -> dict[str, float]:
    """The final losses, evaluated at import where no curve is stored."""
    loss = losses.make(config.loss)
    found = evaluate_splits(published.model, task, loss, config.device)
    return {"step": step, **{f"{s}_loss": found[f"{s}_loss"] for s in ("train", "test")}}
