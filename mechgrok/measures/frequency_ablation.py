"""Removing frequencies from the embedding, with the controls that let the check fail.

A loss of accuracy alone does not show that the keys matter: size-matched sets of other frequencies
hold 1.6 % of a grokked embedding's power against 83 % for the keys, and a memorised model breaks
under any edit. So a model is judged on the split it solves, the power removed is reported, all
other frequencies are also removed at once, and keys are scaled as well as removed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechgrok.interventions.ablation import ablate_frequencies
from mechgrok.maths.fourier import check_frequencies, power_shares
from mechgrok.measures._modular import (
    DoesNotApply,
    Subject,
    matrices,
    report,
    table_task,
    typed_absence,
)
from mechgrok.measures.key_frequencies import KeyFrequencies, resolve_keys
from mechgrok.measures.losses import row_losses
from mechgrok.runs.result import Result, Value
from mechgrok.tasks import binary

SUBJECT: Final = "checkpoint"
MIN_CONTROLS: Final = 20
TOP: Final = 5
"""Frequencies of most embedding power that stand in where there are no keys."""
DOSES: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
NON_KEY_DOSE: Final = 0.3
KEYS_LOSE: Final = 90.0
"""Least points of accuracy that removing the keys must cost."""
CONTROLS_LOSE: Final = 5.0
"""Most points that size-matched controls (on average) or all non-keys may cost."""
SOLVED: Final = 0.99

Evaluate: TypeAlias = Callable[[Sequence[int], float], tuple[float, float]]
"""(frequencies, scale) -> (loss, accuracy) of the model with these frequencies scaled."""


@dataclass(frozen=True)
class Edit:
    """One edit of the embedding and what it did."""

    freqs: tuple[int, ...]
    """Frequencies that were scaled."""
    scale: float
    """By how much; 0 removes."""
    loss: float
    """Cross-entropy after the edit, nats."""
    accuracy: float
    """Fraction answered right after the edit."""
    power_removed: float
    """Share 0..1 of the embedding's power that the edit took away."""


@dataclass(frozen=True)
class FrequencyAblation:
    """All edits of one model on one split."""

    original: Edit
    """No edit."""
    keys: Edit
    """All keys removed."""
    controls: tuple[Edit, ...]
    """Random sets of as many non-keys removed, one each."""
    non_keys: Edit
    """All non-keys removed at once."""
    key_doses: tuple[Edit, ...]
    """All keys scaled."""
    non_key_dose: Edit
    """All non-keys scaled by 0.3."""

    def points_lost(self, *edits: Edit) -> float:
        """Mean loss of accuracy against the original, in points of a hundred."""
        return 100 * (self.original.accuracy - sum(e.accuracy for e in edits) / len(edits))

    @property
    def failed_lines(self) -> tuple[str, ...]:
        """The lines of the check that fail, each with its number; empty when it passes."""
        keys = self.points_lost(self.keys)
        controls, rest = self.points_lost(*self.controls), self.points_lost(self.non_keys)
        lines = {
            f"keys removed: lost {keys:.1f} points, expected >= {KEYS_LOSE:g}": keys >= KEYS_LOSE,
            f"size-matched controls: lost {controls:.1f} points on average, "
            f"expected <= {CONTROLS_LOSE:g}": controls <= CONTROLS_LOSE,
            f"all non-keys removed: lost {rest:.1f} points, expected <= {CONTROLS_LOSE:g}": rest
            <= CONTROLS_LOSE,
        }
        return tuple(line for line, holds in lines.items() if not holds)

    @property
    def passed(self) -> bool:
        """Whether every line of the check holds."""
        return not self.failed_lines


def frequency_ablation(
    evaluate: Evaluate,
    shares: Float[Tensor, " n_freqs"],
    keys: Sequence[int],
    *,
    p: int,
    generator: torch.Generator,
    n_controls: int = MIN_CONTROLS,
    doses: Sequence[float] = DOSES,
) -> FrequencyAblation:
    """Every edit of the check, by a function that evaluates one.

    `shares` are the embedding's power shares at frequency 1..p//2. Raises ValueError without keys,
    with fewer than 20 controls, or with fewer non-keys than keys, when no control can match.
    """
    keys = check_frequencies(tuple(keys), p)
    others = tuple(k for k in range(1, p // 2 + 1) if k not in keys)
    if not keys or len(others) < len(keys):
        raise ValueError(f"got {len(keys)} keys and {len(others)} others; expected 1 to {p // 4}")
    if n_controls < MIN_CONTROLS:
        raise ValueError(f"got n_controls={n_controls}, expected at least {MIN_CONTROLS}")
    edit = partial(_edit, evaluate, shares)
    drawn = [draw_control(others, len(keys), generator) for _ in range(n_controls)]
    return FrequencyAblation(
        original=edit((), 1.0),
        keys=edit(keys, 0.0),
        controls=tuple(edit(control, 0.0) for control in drawn),
        non_keys=edit(others, 0.0),
        key_doses=tuple(edit(keys, dose) for dose in doses),
        non_key_dose=edit(others, NON_KEY_DOSE),
    )


def _edit(
    evaluate: Evaluate, shares: Float[Tensor, " n_freqs"], freqs: tuple[int, ...], scale: float
) -> Edit:
    loss, accuracy = evaluate(freqs, scale)
    power = sum(float(shares[k - 1]) for k in freqs)
    return Edit(freqs, scale, loss, accuracy, power_removed=(1 - scale**2) * power)


def draw_control(others: Sequence[int], size: int, generator: torch.Generator) -> tuple[int, ...]:
    """A random set of `size` of the other frequencies, ascending."""
    order = torch.randperm(len(others), generator=generator).tolist()
    return tuple(sorted(others[i] for i in order[:size]))


@typed_absence("frequency_ablation", "keys_accuracy", "passed", "failed_lines")
def measure(
    checkpoint: Subject,
    keys: str | Sequence[int] | KeyFrequencies = "own",
    n_controls: int = MIN_CONTROLS,
    seed: int = 0,
) -> Result:
    """Ablation of W_E's frequencies with controls, headline the accuracy without the keys.

    Options: keys ("own", "final" or frequencies), n_controls (>= 20), seed (of the controls).
    """
    task = table_task(checkpoint)
    shares = power_shares(matrices(checkpoint)["W_E"])
    freqs, rule = chosen_keys(checkpoint, keys, shares)
    if 2 * len(freqs) > task.n // 2:
        raise DoesNotApply(
            f"{len(freqs)} of {task.n // 2} frequencies are keys: no control matches"
        )
    split, evaluate = solved_split(checkpoint, task)
    found = frequency_ablation(
        evaluate,
        shares,
        freqs,
        p=task.n,
        generator=torch.Generator().manual_seed(seed),
        n_controls=n_controls,
    )
    definition = {**DEFINITION, "split": split, "selection": f"{rule}; control seed {seed}"}
    arrays = {"dose": _columns(found.key_doses), "controls": _columns(found.controls)}
    return report("frequency_ablation", checkpoint, _values(found, freqs), definition, arrays)


def chosen_keys(
    checkpoint: Subject,
    keys: str | Sequence[int] | KeyFrequencies,
    shares: Float[Tensor, " n_freqs"],
) -> tuple[tuple[int, ...], str]:
    """The keys, or where there are none the frequencies of most power; and the words for it."""
    freqs, rule = resolve_keys(checkpoint, keys)
    if freqs:
        return freqs, rule
    top = shares.topk(min(TOP, len(shares) // 2)).indices + 1
    freqs = tuple(sorted(top.tolist()))
    return freqs, f"no key frequencies, so the {len(freqs)} of most embedding power ({rule})"


def solved_split(checkpoint: Subject, task: binary.Task) -> tuple[str, Evaluate]:
    """The split that the model solves: test if its accuracy is >= .99, otherwise train."""
    evaluate = _evaluator(checkpoint, task, task.splits["test"])
    if evaluate((), 1.0)[1] >= SOLVED:
        return "test (solved: accuracy >= .99)", evaluate
    return "train (test is not solved)", _evaluator(checkpoint, task, task.splits["train"])


def _evaluator(checkpoint: Subject, task: binary.Task, rows: Int[Tensor, " _"]) -> Evaluate:
    # Imported here because it loads transformer_lens, which the pure functions do not need.
    from mechgrok.models.shared_prefix import answer_logits

    model = checkpoint.model
    device = model.embed.W_E.device
    tokens, labels = task.tokens[rows].to(device), task.labels[rows, 0].to(device)

    def evaluate(freqs: Sequence[int], scale: float) -> tuple[float, float]:
        edited = ablate_frequencies(model, freqs, task.n, scale, order=task.renamed)
        with edited, torch.no_grad():
            logits = answer_logits(model, tokens).double()
        correct = (logits.argmax(dim=1) == labels).double()
        return float(row_losses(logits, labels).mean()), float(correct.mean())

    return evaluate


def _values(found: FrequencyAblation, keys: tuple[int, ...]) -> dict[str, Value]:
    controls = found.controls
    values: dict[str, Value] = {
        "keys_accuracy": found.keys.accuracy,
        "passed": found.passed,
        "failed_lines": found.failed_lines,
        "keys": keys,
        "keys_points_lost": found.points_lost(found.keys),
        "controls_points_lost": found.points_lost(*controls),
        "non_keys_points_lost": found.points_lost(found.non_keys),
        "controls_min_accuracy": min(e.accuracy for e in controls),
        "controls_mean_accuracy": sum(e.accuracy for e in controls) / len(controls),
        "controls_mean_loss": sum(e.loss for e in controls) / len(controls),
        "controls_power_removed": sum(e.power_removed for e in controls) / len(controls),
    }
    named = {"original": found.original, "keys": found.keys, "non_keys": found.non_keys}
    named |= {f"keys_x{e.scale:g}": e for e in found.key_doses}
    named[f"non_keys_x{NON_KEY_DOSE:g}"] = found.non_key_dose
    for name, edit in named.items():
        values[f"{name}_accuracy"] = edit.accuracy
        values[f"{name}_loss"] = edit.loss
        values[f"{name}_power_removed"] = edit.power_removed
    return values


def _columns(edits: Sequence[Edit]) -> Float[Tensor, "edits 4"]:
    """scale, loss, accuracy, power removed."""
    rows = [(e.scale, e.loss, e.accuracy, e.power_removed) for e in edits]
    return torch.tensor(rows, dtype=torch.float64)


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "frequencies of W_E over tokens 0..p-1 scaled, 0 removes; the constant stays",
    "centring": "none",
    "dtype": "edit and loss in float64, forward in the model's; all classes, '=' included",
    "check": f"keys lose >= {KEYS_LOSE:g} points; controls on average and all non-keys at once "
    f"lose <= {CONTROLS_LOSE:g}",
}
