"""Files of tensors that other people wrote: read without running anything that is in them.

torch.load is only called with `weights_only=True`: a pickle that names a class or function runs
code when it is read in full, so such a file is refused with the names it asks for.
"""

import hashlib
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint

SHOWN: Final = 8
"""Names listed in a message before the rest is counted."""
DTYPES: Final = (torch.float32, torch.float64)


class PublishedError(ValueError):
    """A foreign file that cannot be used; the message names what is missing or different."""


def read_file(path: Path) -> tuple[Any, str]:
    """What a .pth, .pt or .safetensors file holds, on the cpu, and the file's sha256.

    Raises PublishedError for a file that is missing, damaged, or needs more than weights_only=True.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PublishedError(f"cannot read {path}: {error.strerror}; give a file") from error
    digest = hashlib.sha256(data).hexdigest()
    if path.suffix == ".safetensors":
        try:
            return load_safetensors(data), digest
        except (SafetensorError, ValueError) as error:
            raise PublishedError(f"{path.name} is no safetensors file: {error}") from error
    return _load(path), digest


def _load(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = _unsafe(path)
        if not wanted:
            reason = str(error).splitlines()[0]
            raise PublishedError(f"torch.load does not read {path.name}: {reason}") from None
        raise PublishedError(
            f"{path.name} needs {listed(wanted)}, which weights_only=True does not load because "
            f"reading them runs code of the file; ask its author for the state dict alone "
            f"(torch.save of plain tensors), or convert it where you trust it"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise PublishedError(f"{path.name} is damaged or no torch file: {reason}") from None


def _unsafe(path: Path) -> list[str]:
    """Names a pickle asks for beyond tensors and plain data; none when it is not even that."""
    try:
        return sorted(map(str, get_unsafe_globals_in_checkpoint(path)))
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError):
        return []  # the old format before zip files, or no pickle: the first error says enough


def state_dict(found: Any, what: str) -> dict[str, Tensor]:
    """A mapping of names to finite tensors of one float type, buffers left as they are.

    Raises PublishedError when it is something else, naming what.
    """
    if not isinstance(found, Mapping):
        raise PublishedError(f"{what} is a {type(found).__name__}; expected a dict of tensors")
    others = [f"{name} ({type(x).__name__})" for name, x in found.items() if not is_tensor(x)]
    if others:
        raise PublishedError(
            f"{what} holds more than tensors: {listed(others)}; save its state dict alone"
        )
    tensors = {str(name): x.detach() for name, x in found.items()}
    weights = {name: x for name, x in tensors.items() if not is_buffer(name)}
    kinds = sorted({str(x.dtype) for x in weights.values()})
    if len(kinds) != 1 or kinds[0] not in map(str, DTYPES):
        raise PublishedError(f"{what} has weights of type {kinds}; expected all float32 or float64")
    broken = [name for name, x in weights.items() if not bool(x.isfinite().all())]
    if broken:
        raise PublishedError(f"{what} has values that are not finite in {listed(broken)}")
    return tensors


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Sha256 of the names, types, shapes and bytes of tensors, in the order of their names."""
    found = hashlib.sha256()
    for name, x in sorted(tensors.items()):
        found.update(f"{name} {x.dtype} {list(x.shape)} ".encode())
        found.update(x.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def is_tensor(x: Any) -> bool:
    """Whether a value of a file is a tensor."""
    return isinstance(x, Tensor)


def is_buffer(name: str) -> bool:
    """Whether a name is one of attention's constants, which a model makes for itself."""
    return name.endswith((".attn.mask", ".attn.IGNORE"))


def check_masks(tensors: Mapping[str, Tensor], what: str) -> None:
    """Raise PublishedError for a stored mask that is not the causal one every model here has."""
    for name, mask in tensors.items():
        if name.endswith(".attn.mask") and mask.numel():  # TransformerLens 3 stores it empty
            if not torch.equal(mask.bool(), torch.ones_like(mask, dtype=torch.bool).tril()):
                raise PublishedError(f"{what}: {name} is not causal; expected a lower triangle")


def n_layers(names: Sequence[str], what: str) -> int:
    """Number of blocks. Raises PublishedError without any, or when one is left out."""
    found = {int(n.split(".")[1]) for n in names if n.startswith("blocks.")}
    if found != set(range(len(found))) or not found:
        raise PublishedError(f"{what} has blocks {sorted(found)}; expected 0, 1, ... without a gap")
    return len(found)


def check_shapes(
    tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], what: str
) -> None:
    """Raise PublishedError that names missing, unexpected and differently shaped tensors."""
    weights = [name for name in tensors if not is_buffer(name)]
    problems = [f"missing {name}" for name in expected if name not in tensors]
    problems += [f"unexpected {name}" for name in weights if name not in expected]
    problems += [
        f"{name} has shape {list(tensors[name].shape)}, expected {list(shape)}"
        for name, shape in expected.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    if problems:
        raise PublishedError(f"{what} is another model: {listed(problems)}")


def sized(tensors: Mapping[str, Tensor], name: str, n_dims: int, what: str) -> tuple[int, ...]:
    """Shape of a tensor. Raises PublishedError when it is missing or has other dimensions."""
    if name not in tensors:
        raise PublishedError(f"{what} has no {name}; it has {listed(list(tensors))}")
    shape = tuple(tensors[name].shape)
    if len(shape) != n_dims or 0 in shape:
        raise PublishedError(
            f"{what}: {name} has shape {list(shape)}; expected {n_dims} dimensions"
        )
    return shape


def listed(names: Sequence[str]) -> str:
    """Names for a message, the first few of them."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def plain(value: Any) -> Any:
    """A value of a file as JSON can hold it: tensors of one number become it, the rest words."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Tensor):
        return value.item() if value.numel() == 1 else f"tensor of shape {list(value.shape)}"
    return value if isinstance(value, str | int | float | bool | None) else str(value)
