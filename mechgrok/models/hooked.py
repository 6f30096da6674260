"""Hooks that cannot fail silently, for every hooked model of the package.

TransformerLens 3.9 returns an empty cache for an unknown name, and never calls a hook behind a flag
that is off. The mixin here turns both into errors; names, arguments and results stay its own.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

NamesFilter = str | Sequence[str] | Callable[[str], bool] | None
Hook = tuple[str | Callable[[str], bool], Callable[..., Any]]

MEANINGS = {
    "hook_embed": "token embedding",
    "hook_pos_embed": "position embedding",
    "hook_resid_pre": "residual stream entering the block",
    "hook_resid_mid": "residual stream between attention and MLP",
    "hook_resid_post": "residual stream leaving the block",
    "hook_attn_in": "residual stream copied per head, before normalisation",
    "hook_q_input": "input of the queries, per head",
    "hook_k_input": "input of the keys, per head",
    "hook_v_input": "input of the values, per head",
    "hook_mlp_in": "input of the MLP, before normalisation",
    "hook_attn_out": "what attention adds to the residual stream",
    "hook_mlp_out": "what the MLP adds to the residual stream",
    "hook_q": "queries",
    "hook_k": "keys",
    "hook_v": "values",
    "hook_z": "values mixed by attention, per head",
    "hook_attn_scores": "attention logits, masked",
    "hook_pattern": "attention weights, query position by key position",
    "hook_result": "what each head adds to the residual stream",
    "hook_pre": "neurons before the activation function",
    "hook_post": "neurons after the activation function",
    "hook_scale": "standard deviation a normalisation divides by",
    "hook_normalized": "residual stream after normalisation",
    "hook_pre_linear": "neurons' other factor, which is not activated",
    "hook_rot_q": "queries after rotation",
    "hook_rot_k": "keys after rotation",
    "hook_mix_out": "what mixing positions adds to the state",
    "hook_input": "input of the recursion: embeddings, those of the puzzle first",
    "hook_z_H": "answer state of a recursive model",
    "hook_z_L": "thinking state of a recursive model",
    "hook_halt": "logits to halt and to go on",
    "hook_in": "residual stream entering the unembedding",
    "hook_out": "logits",
}
"""What each hook point holds, by the last part of its name."""


class HookError(ValueError):
    """A hook name that does not exist, or a hook that never fired."""


class StrictHooks(HookedRootModule):
    """Mixin before a HookedRootModule: unknown or silent hooks are errors."""

    cfg: Any
    """Sizes under TransformerLens's names; at least d_vocab and n_ctx."""
    _caching = False

    def run_with_cache(
        self, *model_args: Any, names_filter: NamesFilter = None, **model_kwargs: Any
    ) -> Any:
        """TransformerLens's `run_with_cache`; a name that cannot be cached is a HookError."""
        names = None if names_filter is None else hook_names(self, names_filter)
        self._caching = True
        try:
            out, cache = super().run_with_cache(*model_args, names_filter=names, **model_kwargs)
        finally:
            self._caching = False
        kept = cache.keys()
        silent = [n for n in names or [] if n not in kept and n + "_grad" not in kept]
        if silent and not callable(names_filter):
            raise HookError(_never_fired(silent))
        return out, cache

    def add_hook(self, name: Any, hook: Any, *args: Any, **kwargs: Any) -> None:
        """TransformerLens's `add_hook`; an unknown name is a HookError."""
        hook_names(self, name)
        super().add_hook(name, hook, *args, **kwargs)

    @contextmanager
    def hooks(
        self,
        fwd_hooks: Sequence[Hook] = (),
        bwd_hooks: Sequence[Hook] = (),
        reset_hooks_end: bool = True,
        clear_contexts: bool = False,
    ) -> Iterator[Any]:
        """TransformerLens's `hooks`; raises HookError for an unknown name, and at the end for a
        forward hook that never fired."""
        fired: set[int] = set()
        for name, _ in (*fwd_hooks, *bwd_hooks):
            hook_names(self, name)
        watched = fwd_hooks if self._caching else _watched(fwd_hooks, fired)
        with super().hooks(
            list(watched), list(bwd_hooks), reset_hooks_end, clear_contexts
        ) as model:
            yield model
        if not self._caching:
            silent = [str(name) for i, (name, _) in enumerate(fwd_hooks) if i not in fired]
            if silent:
                raise HookError(_never_fired(silent))


def hook_names(model: HookedRootModule, names: NamesFilter) -> list[str]:
    """The hook points a name, list of names or filter selects.

    Raises HookError for an unknown name (with the nearest ones) and for a filter that selects none.
    """
    known = list(model.hook_dict)
    if callable(names):
        found = [n for n in known if names(n)]
        if not found:
            raise HookError(f"the filter selects none of the {len(known)} hook points")
        return found
    wanted = [names] if isinstance(names, str) else list(known if names is None else names)
    for name in wanted:
        if name not in model.hook_dict:
            near = get_close_matches(name, known, n=3, cutoff=0.4) or known[:3]
            raise HookError(f"unknown hook {name!r}; nearest: {near}; `mechgrok hooks` lists all")
    return wanted


def weights(model: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint holds: every parameter, and the buffers a model names in `kept`."""
    kept: Sequence[str] = getattr(model, "kept", ())
    return {**dict(model.named_parameters()), **{name: model.get_buffer(name) for name in kept}}


def has_hooks(model: HookedRootModule) -> bool:
    """Whether any hook, of TransformerLens or of torch, is attached anywhere in the model."""
    return any(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or (isinstance(module, HookPoint) and (module.fwd_hooks or module.bwd_hooks))
        for module in model.modules()
    )


def hook_table(
    model: HookedRootModule, tokens: Int[Tensor, "batch pos"]
) -> list[tuple[str, str, str]]:
    """(name, shape on `tokens`, meaning) of every hook point; a flag that is off is said so."""
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
    shapes = {name: str(list(cache[name].shape)) for name in cache}
    return [
        (name, shapes.get(name, "off: its use_* flag is not set"), MEANINGS.get(_last(name), ""))
        for name in model.hook_dict
    ]


def _watched(hooks: Sequence[Hook], fired: set[int]) -> list[Hook]:
    return [(name, _watch(function, i, fired)) for i, (name, function) in enumerate(hooks)]


def _watch(function: Callable[..., Any], index: int, fired: set[int]) -> Callable[..., Any]:
    def watching(activation: Tensor, hook: HookPoint) -> Any:
        fired.add(index)
        return function(activation, hook=hook)

    return watching


def _never_fired(names: Sequence[str]) -> str:
    return (
        f"hooks that never fired: {list(names)}; either no forward pass reached them, or a flag is "
        f"off (hook_result needs model.set_use_attn_result(True))"
    )


def _last(name: str) -> str:
    return name.rsplit(".", 1)[-1]
