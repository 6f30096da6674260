"""The Tiny Recursive Model (TRM; Jolicoeur-Martineau 2025, arXiv 2510.04871) with hook points.

One network f refines two states of the whole row, z_L ("thinking") and z_H ("answer"):

    f(z, inject): u = z + inject; in each block u <- norm(u + mix(u)), u <- norm(u + mlp(u))
    a cycle: L_cycles times z_L <- f(z_L, z_H + x); then z_H <- f(z_H, z_L)

norm is an RMS norm without gain, after the addition; behind `mlp_t`, which mixes positions, it is
over positions, elsewhere over channels. Only the last cycle of a pass is differentiated. Each
application of f has hook points of its own: `cycle.{h}.{l}.*` for the l-th update of z_L in cycle
h, `cycle.{h}.*` for the update of z_H that closes it; further passes count cycles on. Of the
positions of a state, those of the puzzle come first. The original normalises in float32 inside a
bfloat16 pass, and trains the puzzle's vector by sign descent of its own; here everything has the
dtype of the weights, and one optimiser.
"""

import math
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any, Final, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from mechgrok.config import TRMModel
from mechgrok.models._trm_config import HookedTRMConfig as HookedTRMConfig
from mechgrok.models._trm_parts import Block, Cycle, Embed, Halt, Positions, Unembed, rotations
from mechgrok.models.hooked import StrictHooks
from mechgrok.models.post_ln import SumlessCache
from mechgrok.models.transformer import check_tokens

HALT_BIAS: Final = -5.0
"""Initial halting logits: no row halts at first."""
CUT: Final = 2.0
"""Initial weights are normal, cut at this many standard deviations and scaled back to theirs."""


class Segment(NamedTuple):
    """What one pass gives; there are `halt_max_steps` of them."""

    logits: Float[Tensor, "batch pos d_vocab_out"]
    """At the token positions."""
    halt: Float[Tensor, "batch 2"]
    """Logits to halt and to go on."""
    active: Bool[Tensor, " batch"]
    """Rows that had not halted before; the states of the others stand still."""


class HookedTRM(StrictHooks):
    """A Tiny Recursive Model, initialised from `cfg.seed`."""

    z_H_init: Tensor
    z_L_init: Tensor
    puzzle: Tensor
    rotary: Tensor | None

    def __init__(self, cfg: HookedTRMConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.embed, self.hook_embed = Embed(cfg), HookPoint()
        if cfg.positions == "learned":
            self.pos_embed, self.hook_pos_embed = Positions(cfg), HookPoint()
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.n_layers))
        self.unembed, self.halt = Unembed(cfg), Halt(cfg)
        self.hook_input, self.hook_z_H, self.hook_z_L = HookPoint(), HookPoint(), HookPoint()
        self.cycle = nn.ModuleList(Cycle(cfg) for _ in range(cfg.cycles))
        for name in self.kept:  # buffers as in the original, so that they are not counted
            blank = torch.empty(cfg.d_model, dtype=cfg.dtype, device=cfg.device)
            self.register_buffer(name, blank)
        rotary = rotations(cfg) if cfg.positions == "rope" else None
        self.register_buffer("rotary", rotary, persistent=False)
        if not self.z_H_init.is_meta:
            _initialise(self, torch.Generator().manual_seed(cfg.seed))
        self.setup()

    @property
    def kept(self) -> tuple[str, ...]:
        """Buffers that belong to the weights: the states before the first cycle, and the puzzle's
        vector."""
        puzzle = ("puzzle",) if self.cfg.puzzle_positions else ()
        return ("z_H_init", "z_L_init", *puzzle)

    @property
    def scale(self) -> float:
        """What embeddings are multiplied by: sqrt(d_model), over sqrt(2) with learned positions."""
        return math.sqrt(self.cfg.d_model / (2 if self.cfg.positions == "learned" else 1))

    @property
    def noisy(self) -> bool:
        """Whether a forward pass now draws numbers: in training with several passes."""
        return self.training and self.cfg.halt_max_steps > 1

    def run_with_cache(
        self, *model_args: Any, return_cache_object: bool = True, **model_kwargs: Any
    ) -> Any:
        """As HookedTransformer's; `return_cache_object=False` gives a plain dict."""
        out, cache = super().run_with_cache(*model_args, **model_kwargs)
        batched = not model_kwargs.get("remove_batch_dim", False)
        return out, SumlessCache(cache, self, batched) if return_cache_object else cache

    def forward(
        self, tokens: Int[Tensor, "batch pos"], *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "batch pos d_vocab_out"]:
        """Logits at every token position, after the last pass.

        Raises ValueError for token ids or rows that do not fit.
        """
        return self.unroll(tokens, generator)[-1].logits

    def unroll(
        self, tokens: Int[Tensor, "batch pos"], generator: torch.Generator | None = None
    ) -> list[Segment]:
        """Every pass. In training rows halt when the halting logit is above 0, or later where
        `generator` says so; otherwise all rows take all passes."""
        check_rows(self.cfg, tokens)
        x = self._input(tokens)
        z_H = self.hook_z_H(self.z_H_init.expand_as(x))
        z_L = self.hook_z_L(self.z_L_init.expand_as(x))
        halting = Halting(self, len(tokens), generator)
        found = []
        for first in range(0, self.cfg.cycles, self.cfg.H_cycles):
            new_H, new_L = self._run(x, z_H, z_L, first)
            z_H, z_L = halting.keep(new_H, z_H), halting.keep(new_L, z_L)
            logits = self.unembed(z_H[:, self.cfg.puzzle_positions :])
            found.append(Segment(logits, self.halt(z_H), halting.active))
            halting.after(found[-1].halt)
            z_H, z_L = z_H.detach(), z_L.detach()  # the carry has no gradient
        return found

    def _input(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch length d_model"]:
        """x: token and puzzle embeddings, and learned positions."""
        cfg, scale = self.cfg, self.scale
        x = self.hook_embed(scale * self.embed.W_E[tokens])
        if cfg.puzzle_positions:
            x = torch.cat([self.first(scale).expand(len(x), -1, -1), x], dim=1)
        if cfg.positions == "learned":
            own = scale * self.pos_embed.W_pos
            x = x + self.hook_pos_embed(own.expand(len(x), -1, -1))
        return self.hook_input(x)

    def first(self, scale: float) -> Float[Tensor, "puzzle d_model"]:
        """The puzzle's positions: its vector, then zeros."""
        rest = self.puzzle.new_zeros(self.cfg.puzzle_positions - 1, self.cfg.d_model)
        return torch.cat([scale * self.puzzle[None], rest])

    def _run(self, x: Tensor, z_H: Tensor, z_L: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """One pass of H_cycles cycles, the last of them with gradient."""
        last = first + self.cfg.H_cycles - 1
        for h in range(first, last + 1):
            cycle: Any = self.cycle[h]
            with nullcontext() if h == last else torch.no_grad():
                for step in range(self.cfg.L_cycles):
                    points = cycle.get_submodule(str(step))
                    z_L = points.hook_z_L(self._network(z_L, z_H + x, points))
                z_H = cycle.hook_z_H(self._network(z_H, z_L, cycle))
        return z_H, z_L

    def _network(self, z: Tensor, inject: Tensor, points: Any) -> Tensor:
        u = z + inject
        for block, at in zip(self.blocks, points.blocks, strict=True):
            u = block(u, self.rotary, at)
        return u


class Halting:
    """Which rows still run."""

    def __init__(self, model: HookedTRM, rows: int, generator: torch.Generator | None) -> None:
        """Raises ValueError for a training pass without the generator it needs."""
        if model.noisy and generator is None:
            raise ValueError(
                "with halt_max_steps above 1 rows explore in training, and no global generator is "
                "used: pass generator=torch.Generator().manual_seed(...), or call model.eval()"
            )
        self.adaptive, self.taken = model.noisy, 0
        self.active = torch.ones(rows, dtype=torch.bool, device=model.z_H_init.device)
        if self.adaptive:
            kind = {"generator": generator, "device": self.active.device}
            explores = torch.rand(rows, **kind) < model.cfg.halt_exploration
            drawn = torch.randint(2, model.cfg.halt_max_steps + 1, (rows,), **kind)
            self.least = explores * drawn

    def keep(self, new: Tensor, old: Tensor, axis: int = 0) -> Tensor:
        """The new state of rows that run, the old one of the others; `axis` counts rows."""
        if not self.adaptive or self.taken == 0:
            return new
        shape = [-1 if i == axis else 1 for i in range(new.ndim)]
        return torch.where(self.active.view(shape), new, old)

    def after(self, halt: Float[Tensor, "batch 2"]) -> None:
        """Halt the rows that want to and have taken the passes they must."""
        self.taken += 1
        if self.adaptive:
            stops = (halt.detach()[:, 0] > 0) & (self.taken >= self.least)
            self.active = self.active & ~stops


def check_rows(cfg: HookedTRMConfig, tokens: Int[Tensor, "batch pos"]) -> None:
    """Raise ValueError for token ids or rows that do not fit; no position may be left out."""
    check_tokens(cfg, tokens)
    if tokens.shape[1] != cfg.n_ctx and (cfg.mlp_t or cfg.positions == "learned"):
        raise ValueError(
            f"rows have {tokens.shape[1]} tokens; the weights are for exactly {cfg.n_ctx}: pad them"
        )


def build(
    config: TRMModel,
    *,
    d_vocab: int,
    n_ctx: int,
    d_vocab_out: int,
    seed: int,
    device: str = "cpu",
) -> HookedTRM:
    """A freshly initialised model; no global generator is touched.

    Raises ConfigError for settings out of range and for the mps device.
    """
    given: dict[str, Any] = {**asdict(config), "dtype": getattr(torch, config.dtype)}
    del given["name"]
    given |= {"d_vocab": d_vocab, "n_ctx": n_ctx, "d_vocab_out": d_vocab_out}
    return HookedTRM(HookedTRMConfig(**given, seed=seed, device=device))


def _initialise(model: HookedTRM, chance: torch.Generator) -> None:
    """LeCun's normal initialisation, cut: standard deviation 1/sqrt(inputs), 1 for the states."""
    width = model.cfg.d_model
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if name.startswith("halt."):
                weight.fill_(HALT_BIAS if name == "halt.b" else 0.0)
            elif name.startswith(("embed.", "pos_embed.")) or ".attn." in name:
                weight.copy_(_cut_normal(weight, chance) / math.sqrt(width))
            else:
                weight.copy_(_cut_normal(weight, chance) / math.sqrt(weight.shape[0]))
        for name in ("z_H_init", "z_L_init"):
            state = getattr(model, name)
            state.copy_(_cut_normal(state, chance))
        if model.cfg.puzzle_positions:
            model.puzzle.zero_().requires_grad_()


def _cut_normal(like: Tensor, chance: torch.Generator) -> Float[Tensor, "..."]:
    """N(0, 1) cut at CUT standard deviations, then scaled so that its own is 1."""
    edge = math.erf(CUT / math.sqrt(2))
    uniform = torch.rand(like.shape, generator=chance, dtype=torch.float64)
    draws = torch.erfinv(edge * (2 * uniform - 1)) * math.sqrt(2)
    density = math.exp(-CUT * CUT / 2) / math.sqrt(2 * math.pi)
    return draws / math.sqrt(1 - 2 * CUT * density / edge)
