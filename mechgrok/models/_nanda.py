"""The layout of progress-measures-paper's saved runs (Nanda et al. 2023, arXiv 2301.05217).

Released code: W_E, W_in and W_out have outputs before inputs, attention is [head d_head d_model]
without biases, W_O is [d_model (head d_head)], scores are divided by sqrt(d_head), there is no
normalisation. A saved run is a dict with `model` and, in some files, `config`, `optimizer`,
`scheduler`, `train_losses`, `test_losses` and `epoch`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, zeros
from transformer_lens import HookedTransformerConfig

from mechgrok.models import _foreign
from mechgrok.models._foreign import PublishedError, plain
from mechgrok.models.transformer import Transformer, fill, freeze_biases, make

ROW: Final = 3
"""Tokens of a row: a, b, =."""
ACTIVATIONS: Final = {"ReLU": "relu", "GeLU": "gelu"}
"""`act_type` of the released code -> TransformerLens name."""
SIZES: Final = {
    "d_model": "d_model",
    "d_mlp": "d_mlp",
    "d_vocab": "d_vocab",
    "n_ctx": "n_ctx",
    "num_layers": "n_layers",
    "num_heads": "n_heads",
    "d_head": "d_head",
}
"""Names of sizes in a stored config -> TransformerLens names."""
PUBLISHED_STRIDE: Final = 10
"""The released notebook's epochs per test loss: taken where a short run would allow several."""
OPTIMISER: Final = ("lr", "weight_decay", "betas", "eps", "amsgrad", "initial_lr")


@dataclass
class Saved:
    """A saved run, read."""

    model: Transformer
    config: dict[str, Any]
    optimizer: dict[str, Any]
    losses: dict[str, Sequence[float]]
    test_stride: int | None = None
    steps: int | None = None
    contradictions: list[str] = field(default_factory=list)


def read(saved: Any, what: str) -> Saved:
    """A saved run. Raises PublishedError for one that holds no model of one modular operation."""
    if not isinstance(saved, Mapping) or "model" not in saved:
        keys = sorted(map(str, saved)) if isinstance(saved, Mapping) else type(saved).__name__
        raise PublishedError(
            f"{what} has no 'model', only {keys}; expected a run saved with its final "
            f"weights under that key"
        )
    config = plain(saved.get("config") or {})
    config = config if isinstance(config, dict) else {"as stored": config}
    tensors = _foreign.state_dict(saved["model"], f"'model' of {what}")
    found = Saved(
        model=_model(tensors, str(config.get("act_type", "ReLU")), what),
        config=config,
        optimizer=_optimizer(saved.get("optimizer")),
        losses=_losses(saved, what),
    )
    _count(found, saved)
    found.contradictions += [*_sizes(found), *_settings(found), *_ends(found, saved)]
    return found


def _model(tensors: Mapping[str, Tensor], act_type: str, what: str) -> Transformer:
    if act_type not in ACTIVATIONS:
        raise PublishedError(
            f"{what}: act_type {act_type!r} of its config; expected one of {list(ACTIVATIONS)}"
        )
    cfg = _cfg(tensors, ACTIVATIONS[act_type], what)
    _foreign.check_shapes(tensors, _expected(cfg), what)
    _foreign.check_masks(tensors, what)
    model = make(cfg)
    fill(model, _transformer_lens_names(tensors, cfg))
    freeze_biases(model, "mlp")
    return model.eval()


def _cfg(tensors: Mapping[str, Tensor], act_fn: str, what: str) -> HookedTransformerConfig:
    """Sizes from the tensors; refuses what is no model of one modular operation."""
    layers = _foreign.n_layers(list(tensors), what)
    without = [i for i in range(layers) if f"blocks.{i}.mlp.W_in" not in tensors]
    if without:
        raise PublishedError(
            f"{what} is attention only: no blocks.{without[0]}.mlp.W_in; expected an MLP per block"
        )
    d_model, d_vocab = _foreign.sized(tensors, "embed.W_E", 2, what)
    n_ctx = _foreign.sized(tensors, "pos_embed.W_pos", 2, what)[0]
    n_heads, d_head, _ = _foreign.sized(tensors, "blocks.0.attn.W_Q", 3, what)
    d_mlp = _foreign.sized(tensors, "blocks.0.mlp.W_in", 2, what)[0]
    d_vocab_out = _foreign.sized(tensors, "unembed.W_U", 2, what)[1]
    if n_ctx != ROW or d_vocab_out not in (d_vocab, d_vocab - 1):
        raise PublishedError(
            f"{what} is of another task: pos_embed.W_pos has {n_ctx} positions and unembed.W_U "
            f"{d_vocab_out} outputs for {d_vocab} tokens; expected one answer to (a, b, =), "
            f"{ROW} positions, and {d_vocab} or {d_vocab - 1} outputs"
        )
    return HookedTransformerConfig(
        n_layers=layers,
        d_model=d_model,
        n_heads=n_heads,
        d_head=d_head,
        d_mlp=d_mlp,
        act_fn=act_fn,
        normalization_type=None,
        n_ctx=n_ctx,
        d_vocab=d_vocab,
        d_vocab_out=d_vocab_out,
        init_weights=False,
        seed=None,  # a seed here would reseed torch, numpy and random globally
        device="cpu",
        dtype=tensors["embed.W_E"].dtype,
    )


def _expected(cfg: HookedTransformerConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter in the released layout."""
    d, heads, d_mlp = cfg.d_model, cfg.n_heads, int(cfg.d_mlp or 0)
    shapes: dict[str, tuple[int, ...]] = {
        "embed.W_E": (d, cfg.d_vocab),
        "pos_embed.W_pos": (cfg.n_ctx, d),
        "unembed.W_U": (d, cfg.d_vocab_out),
    }
    for i in range(cfg.n_layers):
        block = f"blocks.{i}"
        shapes |= {f"{block}.attn.W_{x}": (heads, cfg.d_head, d) for x in "QKV"}
        shapes |= {
            f"{block}.attn.W_O": (d, heads * cfg.d_head),
            f"{block}.mlp.W_in": (d_mlp, d),
            f"{block}.mlp.b_in": (d_mlp,),
            f"{block}.mlp.W_out": (d, d_mlp),
            f"{block}.mlp.b_out": (d,),
        }
    return shapes


def _transformer_lens_names(
    tensors: Mapping[str, Tensor], cfg: HookedTransformerConfig
) -> dict[str, Tensor]:
    """The weights in TransformerLens's layout; the biases the released model lacks are 0."""
    found = {
        name: _turned(name.rsplit(".", 1)[-1], x, cfg.n_heads)
        for name, x in tensors.items()
        if not _foreign.is_buffer(name)
    }
    for i in range(cfg.n_layers):
        attn = f"blocks.{i}.attn"
        found |= {f"{attn}.b_{x}": zeros(cfg.n_heads, cfg.d_head) for x in "QKV"}
        found[f"{attn}.b_O"] = zeros(cfg.d_model)
    found["unembed.b_U"] = zeros(cfg.d_vocab_out)
    return found


def _turned(name: str, x: Float[Tensor, "..."], n_heads: int) -> Float[Tensor, "..."]:
    if name in ("W_E", "W_in", "W_out"):
        return rearrange(x, "out into -> into out")
    if name in ("W_Q", "W_K", "W_V"):
        return rearrange(x, "head d_head d_model -> head d_model d_head")
    if name == "W_O":
        return rearrange(x, "d_model (head d_head) -> head d_head d_model", head=n_heads)
    return x


def _optimizer(stored: Any) -> dict[str, Any]:
    groups = stored.get("param_groups") if isinstance(stored, Mapping) else None
    first = groups[0] if isinstance(groups, list) and groups else {}
    return {name: plain(first[name]) for name in OPTIMISER if name in first}


def _losses(saved: Mapping[str, Any], what: str) -> dict[str, Sequence[float]]:
    found: dict[str, Sequence[float]] = {}
    for split in ("train", "test"):
        curve = plain(saved.get(f"{split}_losses"))
        if not curve:
            continue
        if not isinstance(curve, list) or not all(isinstance(x, int | float) for x in curve):
            raise PublishedError(f"{what}: {split}_losses is no list of numbers")
        found[split] = tuple(map(float, curve))
    return found


def _count(found: Saved, saved: Mapping[str, Any]) -> None:
    """Updates taken, and epochs between stored test losses."""
    train, test = (found.losses.get(split, ()) for split in ("train", "test"))
    epoch = plain(saved.get("epoch"))
    counts = {"epoch": epoch + 1} if isinstance(epoch, int) else {}
    if train:
        counts["train_losses"] = len(train)
    found.steps = counts.get("train_losses", counts.get("epoch"))
    if len(set(counts.values())) > 1:
        found.contradictions.append(f"epoch {epoch}, but {len(train)} train losses")
    if train and test:
        found.test_stride, problem = _stride(len(train), len(test))
        found.contradictions += problem


def _stride(train: int, test: int) -> tuple[int | None, list[str]]:
    """Epochs between test losses, the first of which is epoch 0's; None when it cannot be told."""
    fitting = [s for s in range(1, train + 1) if -(-train // s) == test]
    if not fitting:
        return None, [f"{test} test losses are no even stride of {train} train losses"]
    if len(fitting) > 1 and PUBLISHED_STRIDE not in fitting:
        return None, []
    return (fitting[0] if len(fitting) == 1 else PUBLISHED_STRIDE), []


def _sizes(found: Saved) -> list[str]:
    """Sizes of the stored config that are not the tensors'."""
    cfg = found.model.cfg
    actual = {name: getattr(cfg, ours) for name, ours in SIZES.items()} | {"p": cfg.d_vocab - 1}
    return [
        f"config {name} {found.config[name]}, but the tensors have {size}"
        for name, size in actual.items()
        if name in found.config and found.config[name] != size
    ]


def _settings(found: Saved) -> list[str]:
    """Optimiser settings of the stored config that are not the stored optimiser's."""
    actual = dict(found.optimizer)
    actual["lr"] = actual.get("initial_lr", actual.get("lr"))
    return [
        f"config {name} {found.config[name]}, but the optimizer has {actual[name]}"
        for name in ("lr", "weight_decay")
        if actual.get(name) is not None
        and name in found.config
        and found.config[name] != actual[name]
    ]


def _ends(found: Saved, saved: Mapping[str, Any]) -> list[str]:
    """Last losses and the scheduler's count against the curves."""
    problems = []
    for split, curve in found.losses.items():
        last = plain(saved.get(f"{split}_loss"))
        if isinstance(last, float) and abs(last - curve[-1]) > 1e-6 * abs(curve[-1]):
            problems.append(f"{split}_loss {last:.6g}, but {split}_losses end at {curve[-1]:.6g}")
    scheduler = plain(saved.get("scheduler") or {})
    count = scheduler.get("last_epoch") if isinstance(scheduler, dict) else None
    if isinstance(count, int) and found.steps is not None and count != found.steps:
        problems.append(f"the scheduler counts {count} updates, but the file tells {found.steps}")
    return problems
