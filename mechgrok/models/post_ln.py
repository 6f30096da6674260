"""The decoder of Power et al. (2022, arXiv 2201.02177, openai/grok) with TransformerLens hooks.

Post-LN, without biases, with fixed sinusoidal positions added unscaled:

    resid_mid = LN(resid_pre + attn_out)
    resid_post = LN(resid_mid + mlp_out)

so attn_out and mlp_out do not sum to the residual stream. Components are TransformerLens's own.
"""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call
from transformer_lens import ActivationCache, HookedTransformerConfig
from transformer_lens.components.attention import Attention
from transformer_lens.components.embed import Embed
from transformer_lens.components.layer_norm import LayerNorm
from transformer_lens.components.mlps.mlp import MLP
from transformer_lens.components.unembed import Unembed
from transformer_lens.hook_points import HookPoint

from mechgrok.config import ConfigError, PostLNModel
from mechgrok.models.hooked import HookError, StrictHooks
from mechgrok.models.transformer import check_tokens


class SumlessCache(ActivationCache):
    """TransformerLens's cache without the sums that hold for pre-LN models only."""

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise HookError(
            "in a post-LN model the parts do not sum to the residual stream: "
            "resid_mid = LN(resid_pre + attn_out); read the hook points themselves"
        )

    decompose_resid = get_full_resid_decomposition = apply_ln_to_stack = logit_attrs = _refuse


class Positions(nn.Module):
    """Fixed positions: sin(pos / 10000^(i/d)) at even i, cos(pos / 10000^((i-1)/d)) at odd i."""

    W_pos: Tensor

    def __init__(self, cfg: HookedTransformerConfig) -> None:
        super().__init__()
        i = torch.arange(cfg.d_model)
        rates = 10_000 ** (-(i - i % 2).double() / cfg.d_model)
        angles = torch.arange(cfg.n_ctx)[:, None] * rates
        table = torch.where(i % 2 == 0, angles.sin(), angles.cos())
        self.register_buffer("W_pos", table.to(cfg.dtype), persistent=False)

    def forward(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
        """The same positions for every row."""
        return self.W_pos[: tokens.shape[1]].expand(len(tokens), -1, -1)


class Block(nn.Module):
    """Attention, then the MLP, each normalised together with what it adds to."""

    def __init__(self, cfg: HookedTransformerConfig, layer: int, dropout: float) -> None:
        super().__init__()
        self.cfg, self.dropout = cfg, dropout
        self.attn, self.mlp = Attention(cfg, "global", layer), MLP(cfg)
        self.ln1, self.ln2 = LayerNorm(cfg), LayerNorm(cfg)
        self.hook_resid_pre, self.hook_resid_mid = HookPoint(), HookPoint()
        self.hook_resid_post = HookPoint()
        self.hook_attn_out, self.hook_mlp_out = HookPoint(), HookPoint()

    def forward(
        self, x: Float[Tensor, "batch pos d_model"], generator: torch.Generator | None
    ) -> Float[Tensor, "batch pos d_model"]:
        """The residual stream leaving the block; dropout is drawn from `generator`."""
        pre = self.hook_resid_pre(x)
        mid = self.hook_resid_mid(self.ln1(pre + self.hook_attn_out(self.attn(pre, pre, pre))))
        added = self.mlp(mid)
        if self.training and self.dropout > 0:
            kept = torch.empty_like(added).bernoulli_(1 - self.dropout, generator=generator)
            added = added * kept / (1 - self.dropout)
        return self.hook_resid_post(self.ln2(mid + self.hook_mlp_out(added)))


class PostLN(StrictHooks):
    """A post-LN decoder; `cfg` is a HookedTransformerConfig of its sizes."""

    def __init__(self, cfg: HookedTransformerConfig, dropout: float, weight_noise: float) -> None:
        """Uninitialised, without biases but the normalisations'."""
        super().__init__()
        self.cfg, self.dropout, self.weight_noise = cfg, dropout, weight_noise
        self.embed, self.hook_embed = Embed(cfg), HookPoint()
        self.pos_embed, self.hook_pos_embed = Positions(cfg), HookPoint()
        self.blocks = nn.ModuleList(Block(cfg, layer, dropout) for layer in range(cfg.n_layers))
        self.unembed = Unembed(cfg)
        _remove_biases(self)
        self.setup()

    @property
    def noisy(self) -> bool:
        """Whether a forward pass now draws noise: in training, with dropout or weight noise."""
        return self.training and (self.dropout > 0 or self.weight_noise > 0)

    def run_with_cache(
        self, *model_args: Any, return_cache_object: bool = True, **model_kwargs: Any
    ) -> Any:
        """As HookedTransformer's; `return_cache_object=False` gives a plain dict."""
        out, cache = super().run_with_cache(*model_args, **model_kwargs)
        batched = not model_kwargs.get("remove_batch_dim", False)
        return out, SumlessCache(cache, self, batched) if return_cache_object else cache

    def set_use_attn_result(self, use_attn_result: bool) -> None:
        """Whether `hook_result` is computed."""
        self.cfg.use_attn_result = use_attn_result

    def forward(
        self,
        tokens: Int[Tensor, "batch pos"],
        *,
        generator: torch.Generator | None = None,
        perturbed: bool = False,
    ) -> Float[Tensor, "batch pos d_vocab_out"]:
        """Logits; in training, weight noise (unless already `perturbed`) and dropout are drawn from
        `generator`.

        Raises ValueError for token ids or rows that do not fit, and without the generator it needs.
        """
        check_tokens(self.cfg, tokens)
        if self.noisy and generator is None:
            raise ValueError(
                "dropout or weight noise is on, and no global generator is used: pass "
                "generator=torch.Generator().manual_seed(...), or call model.eval()"
            )
        if self.training and self.weight_noise > 0 and not perturbed:
            weights = self._perturbed(generator)
            return functional_call(
                self, weights, (tokens,), {"generator": generator, "perturbed": True}
            )
        x = self.hook_embed(self.embed(tokens)) + self.hook_pos_embed(self.pos_embed(tokens))
        for block in self.blocks:
            x = block(x, generator)
        return self.unembed(x)

    def _perturbed(self, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Every weight with fresh noise: each is used once in a forward pass."""
        noise = {
            name: torch.empty_like(weight).normal_(generator=generator)
            for name, weight in self.named_parameters()
        }
        return {n: w + self.weight_noise * noise[n] for n, w in self.named_parameters()}


def build(
    config: PostLNModel,
    *,
    d_vocab: int,
    n_ctx: int,
    d_vocab_out: int,
    seed: int,
    device: str = "cpu",
) -> PostLN:
    """A freshly initialised model; no global generator is touched.

    Linear weights are uniform within 1/sqrt(inputs), embeddings N(0, 1): torch's defaults. Raises
    ConfigError for settings out of range and for the mps device.
    """
    _check(config, device)
    cfg = HookedTransformerConfig(
        n_layers=config.n_layers,
        d_model=config.d_model,
        n_heads=config.n_heads,
        d_head=config.d_model // config.n_heads,
        d_mlp=config.d_mlp,
        act_fn=config.act_fn,
        normalization_type="LN",
        n_ctx=n_ctx,
        d_vocab=d_vocab,
        d_vocab_out=d_vocab_out,
        init_weights=False,
        seed=None,  # a seed here would reseed torch, numpy and random globally
        device=device,
        dtype=getattr(torch, config.dtype),
    )
    model = PostLN(cfg, config.dropout, config.weight_noise)
    _initialise(model, torch.Generator().manual_seed(seed))
    return model.to(device)


def _initialise(model: PostLN, chance: torch.Generator) -> None:
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if name == "embed.W_E":
                weight.copy_(torch.randn(weight.shape, generator=chance))
            elif ".W_" in name:
                draws = 2 * torch.rand(weight.shape, generator=chance) - 1
                weight.copy_(draws / math.sqrt(_inputs(name, model.cfg)))


def _inputs(name: str, cfg: HookedTransformerConfig) -> int:
    """What a linear map reads: the heads together are as wide as the stream."""
    return int(cfg.d_mlp or 0) if name.endswith("W_out") else cfg.d_model


def _remove_biases(model: nn.Module) -> None:
    """Make the components' biases constants: they are 0, and neither trained nor saved."""
    for module in model.modules():
        for name, bias in list(module.named_parameters(recurse=False)):
            if name.startswith("b_"):
                delattr(module, name)
                module.register_buffer(name, torch.zeros_like(bias), persistent=False)


def _check(config: PostLNModel, device: str) -> None:
    for name in ("n_layers", "d_model", "n_heads", "d_mlp"):
        if getattr(config, name) < 1:
            raise ConfigError(f"model.{name} = {getattr(config, name)}; expected at least 1")
    if config.d_model % config.n_heads:
        raise ConfigError(
            f"model.d_model = {config.d_model} is not a multiple of model.n_heads = "
            f"{config.n_heads}; the heads share it"
        )
    if not 0 <= config.dropout < 1:
        raise ConfigError(f"model.dropout = {config.dropout}; expected at least 0 and below 1")
    if not 0 <= config.weight_noise < math.inf:
        raise ConfigError(f"model.weight_noise = {config.weight_noise}; expected at least 0")
    if torch.device(device).type == "mps":
        raise ConfigError("device = 'mps' gives silently wrong results; use cpu or cuda")
