"""Checkpoints that other people published, as hooked models with a record of where they come from.

`load_nanda` reads the files of progress-measures-paper (Nanda et al. 2023, arXiv 2301.05217),
`load_openai_grok` weights of openai/grok (Power et al. 2022, arXiv 2201.02177),
`load_transformer_lens` a saved HookedTransformer state dict, `load_trm` weights of the Tiny
Recursive Model (arXiv 2510.04871). Sizes come from the tensors; what a
file leaves open or contradicts is said, never guessed.

    published = load_nanda("theirs.pth")
    logits = published.model(tokens)
    mechgrok.measures.recover_split(published.model, published.origin.losses)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mechgrok.config import TransformerModel, TRMModel
from mechgrok.models import _grok, _nanda, _state_dict, _trm_names
from mechgrok.models._foreign import PublishedError as PublishedError
from mechgrok.models._foreign import digest_of, read_file
from mechgrok.models.post_ln import PostLN
from mechgrok.models.transformer import Transformer
from mechgrok.models.trm import HookedTRM, HookedTRMConfig


@dataclass(frozen=True)
class Origin:
    """What a published file says about itself, as plain data."""

    file: str
    """Its name, without the folder; `state dict` for tensors given directly."""
    format: str
    """nanda, openai_grok, transformer_lens or trm."""
    sha256: str
    """Of the whole file, or of names and bytes of tensors given directly."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Settings stored in the file, or given when it was loaded; empty where there are none."""
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the stored optimiser; empty where there is none."""
    losses: Mapping[str, Sequence[float]] = field(default_factory=dict, repr=False)
    """`train` and `test`, in nats, as stored: train at every epoch, test every `test_stride`
    epochs, both before that epoch's update. A curve that is not stored is left out."""
    test_stride: int | None = None
    """Epochs between stored test losses; None when it cannot be told."""
    steps: int | None = None
    """Updates the weights have seen; None when the file does not tell."""
    contradictions: tuple[str, ...] = ()
    """Every pair of statements in the file that cannot both be true."""


@dataclass(frozen=True)
class Published:
    """A model somebody else trained."""

    model: Transformer | PostLN | HookedTRM
    """In eval mode, on the cpu, in the dtype of the file."""
    origin: Origin
    """Where it comes from."""


def load_nanda(path: str | Path) -> Published:
    """A .pth file of progress-measures-paper: one modular operation on tokens (a, b, =).

    `model` is its only required key. Raises PublishedError for files that need more than
    `weights_only=True`, and for models of another kind (attention only, several outputs, ...), by
    the name of what is missing or different.
    """
    file = Path(path)
    saved, digest = read_file(file)
    found = _nanda.read(saved, file.name)
    origin = Origin(
        file=file.name,
        format="nanda",
        sha256=digest,
        config=found.config,
        optimizer=found.optimizer,
        losses=found.losses,
        test_stride=found.test_stride,
        steps=found.steps,
        contradictions=tuple(found.contradictions),
    )
    return Published(found.model, origin)


def load_openai_grok(
    source: str | Path | Mapping[str, Any], *, act_fn: str = "relu", n_ctx: int | None = None
) -> Published:
    """Weights of openai/grok's transformer under its own parameter names: a state dict, or a file.

    A leading `transformer.`, and a training checkpoint's `state_dict`, are taken off. `act_fn`
    (relu or gelu) and, where the file keeps no `position_encoding`, `n_ctx` are not in the tensors;
    without either, n_ctx is the published 50. Raises PublishedError for weights that are missing,
    of another shape or model, for other positions than the fixed ones, and for files that need more
    than `weights_only=True`.
    """
    if isinstance(source, Mapping):
        name, saved, digest = "state dict", source, None
    else:
        name = Path(source).name
        saved, digest = read_file(Path(source))
    model, tensors, settings = _grok.read(saved, act_fn, n_ctx, name)
    origin = Origin(name, "openai_grok", digest or digest_of(tensors), config=settings)
    return Published(model, origin)


def load_transformer_lens(
    path: str | Path, config: Mapping[str, Any] | TransformerModel | None = None
) -> Published:
    """A saved HookedTransformer state dict (.pth, .pt or .safetensors), with or without masks.

    Sizes come from the tensors. `config` says what tensors cannot: `act_fn`, `normalization` (where
    it has no parameters) and `attn_scale` (or TransformerLens's `use_attn_scale: true` for
    sqrt(d_head)); it may be a whole HookedTransformerConfig as a dict, or a TransformerModel of
    this package. Raises PublishedError for what is needed and missing, for what contradicts the
    tensors, and for files that need more than `weights_only=True`.
    """
    file = Path(path)
    saved, digest = read_file(file)
    model, settings = _state_dict.read(saved, config, file.name)
    return Published(model, Origin(file.name, "transformer_lens", digest, config=settings))


def load_trm(
    state_dict: str | Path | Mapping[str, Any],
    config: Mapping[str, Any] | HookedTRMConfig | TRMModel | None = None,
) -> Published:
    """Weights of the Tiny Recursive Model under the original's parameter names: tensors, or a file.

    Leading `_orig_mod.`, `model.` and `inner.` are taken off. `config` is the original's mapping
    (its `arch` part, or the whole) or one of ours; sizes come from the tensors, and what neither
    tells takes the original's default (3 H cycles, 6 L cycles, 8 heads, rope, 16 passes, 16 puzzle
    positions where there is a puzzle vector). Computes in the dtype of the weights, where the
    original computes in bfloat16. Raises PublishedError for a vocabulary or sizes that do not fit,
    missing or unexpected tensors, and several puzzle vectors.
    """
    if isinstance(state_dict, Mapping):
        name, saved, digest = "state dict", state_dict, None
    else:
        name = Path(state_dict).name
        saved, digest = read_file(Path(state_dict))
    model, tensors, settings = _trm_names.read(saved, config, name)
    return Published(model, Origin(name, "trm", digest or digest_of(tensors), config=settings))
