"""Loss and accuracy as frequencies of the embedding are scaled down, keys against random others.

A single cut cannot show how the model depends on a frequency; a dose response can, and as many
random other frequencies scaled alike say what any edit of that size costs. Power left at scale x is
x^2. Frequencies, split and evaluation are those of `frequency_ablation`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from mechgrok.maths.fourier import check_frequencies, power_shares
from mechgrok.measures._modular import (
    DoesNotApply,
    Subject,
    matrices,
    report,
    table_task,
    typed_absence,
)
from mechgrok.measures.frequency_ablation import (
    Evaluate,
    chosen_keys,
    draw_control,
    solved_split,
)
from mechgrok.measures.key_frequencies import KeyFrequencies
from mechgrok.runs.result import NotApplicable, Result, Value

SUBJECT: Final = "checkpoint"
SCALES: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
N_CONTROLS: Final = 5


@dataclass(frozen=True)
class DoseResponse:
    """Curves over the scales; the last axis is (loss in nats, accuracy as a fraction)."""

    scales: tuple[float, ...]
    """Ascending, from 0 (removed) to 1 (intact)."""
    keys: Float[Tensor, "scales 2"]
    """All keys scaled together."""
    controls: Float[Tensor, "controls scales 2"]
    """Random sets of as many other frequencies, one each."""

    half: float | NotApplicable
    """Scale of the keys at which accuracy first reaches half of the intact one, interpolated."""


def dose_response(
    evaluate: Evaluate,
    keys: Sequence[int],
    *,
    p: int,
    generator: torch.Generator,
    scales: Sequence[float] = SCALES,
    n_controls: int = N_CONTROLS,
) -> DoseResponse:
    """Both curves by a function that evaluates one edit.

    Raises ValueError without keys, with fewer non-keys than keys, when no control can match,
    without controls, and for scales that do not ascend from 0 to 1.
    """
    keys = check_frequencies(tuple(keys), p)
    others = tuple(k for k in range(1, p // 2 + 1) if k not in keys)
    if not keys or len(others) < len(keys) or n_controls < 1:
        raise ValueError(
            f"got {len(keys)} keys, {len(others)} others and n_controls={n_controls}; "
            f"expected 1 to {p // 4} keys and at least 1 control"
        )
    scales = tuple(scales)
    if scales[0] != 0 or scales[-1] != 1 or list(scales) != sorted(set(scales)):
        raise ValueError(f"got scales={scales}, expected them to ascend from 0 to 1")
    drawn = [draw_control(others, len(keys), generator) for _ in range(n_controls)]
    intact = evaluate((), 1.0)
    curve = _curve(evaluate, keys, scales, intact)
    return DoseResponse(
        scales=scales,
        keys=curve,
        controls=torch.stack([_curve(evaluate, control, scales, intact) for control in drawn]),
        half=_half(scales, curve[:, 1].tolist()),
    )


def _half(scales: Sequence[float], accuracy: Sequence[float]) -> float | NotApplicable:
    half = accuracy[-1] / 2
    i = next(i for i, reached in enumerate(accuracy) if reached >= half)
    if i == 0:
        return NotApplicable("accuracy stays above half of the intact one without the keys")
    rise = (half - accuracy[i - 1]) / (accuracy[i] - accuracy[i - 1])
    return scales[i - 1] + rise * (scales[i] - scales[i - 1])


def _curve(
    evaluate: Evaluate,
    freqs: Sequence[int],
    scales: Sequence[float],
    intact: tuple[float, float],
) -> Float[Tensor, "scales 2"]:
    """Loss and accuracy at each scale; at 1 nothing is edited."""
    rows = [*(evaluate(freqs, scale) for scale in scales[:-1]), intact]
    return torch.tensor(rows, dtype=torch.float64)


@typed_absence("dose_response", "half", "keys", "controls_min_accuracy")
def measure(
    checkpoint: Subject,
    keys: str | Sequence[int] | KeyFrequencies = "own",
    n_controls: int = N_CONTROLS,
    seed: int = 0,
) -> Result:
    """Dose response of W_E's keys, headline the scale at which half of the accuracy is back.

    Options: keys ("own", "final" or frequencies), n_controls (>= 1), seed (of the controls).
    """
    task = table_task(checkpoint)
    freqs, rule = chosen_keys(checkpoint, keys, power_shares(matrices(checkpoint)["W_E"]))
    if 2 * len(freqs) > task.n // 2:
        raise DoesNotApply(
            f"{len(freqs)} of {task.n // 2} frequencies are keys: no control matches"
        )
    split, evaluate = solved_split(checkpoint, task)
    chance = torch.Generator().manual_seed(seed)
    found = dose_response(evaluate, freqs, p=task.n, generator=chance, n_controls=n_controls)
    values: dict[str, Value] = {
        "half": found.half,
        "keys": freqs,
        "controls_min_accuracy": float(found.controls[..., 1].min()),
        "original_loss": float(found.keys[-1, 0]),
        "original_accuracy": float(found.keys[-1, 1]),
    }
    for scale, (loss, accuracy) in zip(found.scales, found.keys.tolist(), strict=True):
        values |= {f"keys_x{scale:g}_loss": loss, f"keys_x{scale:g}_accuracy": accuracy}
    arrays = {
        "scales": torch.tensor(found.scales, dtype=torch.float64),
        "keys": found.keys,
        "controls": found.controls,
    }
    definition = {**DEFINITION, "split": split, "selection": f"{rule}; control seed {seed}"}
    return report("dose_response", checkpoint, values, definition, arrays)


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "frequencies of W_E over tokens 0..p-1 scaled by x, the keys together; power left "
    "x^2; half: first scale at which accuracy is half of the intact one, by linear interpolation",
    "control": f"{N_CONTROLS} random sets of as many non-keys by default, scaled alike",
    "centring": "none; the constant stays",
    "dtype": "edit and loss in float64, forward in the model's; all classes, '=' included",
}
