"""Which pairs a published model was trained on, found from its final train and test loss alone.

Nanda et al. 2023 (arXiv 2301.05217), released code: rows in lexicographic order are shuffled by
Python's generator, and the first int(frac * rows) are trained on. Every seed and fraction is tried;
the split is taken when both losses are the stored ones and no other split comes near.

    published = load_nanda(path)
    found = mechgrok.measures.recover_split(published.model, published.origin.losses)
    found = mechgrok.measures.recover_split(row_losses, {"train": 9.2e-9, "test": 4.99e-7})
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechgrok.maths.fourier import sum_index
from mechgrok.measures.losses import row_losses
from mechgrok.runs.result import NotApplicable, Result, Value
from mechgrok.tasks._pairs import SPLITS

SUBJECT: Final = "run"
SEEDS: Final = range(100)
FRACTIONS: Final = tuple(percent / 100 for percent in range(1, 100))
"""Steps of .01."""
TOLERANCE: Final = 0.01
"""Largest |log(found / stored)| of either loss: what is stored precedes the last update, and test
loss may be some epochs older."""
MARGIN: Final = 10.0
"""The second-best split must be this many times farther off."""
ROUNDING: Final = 1e-9
"""Errors below this are rounding, so that they rank no split before another."""


@dataclass(frozen=True)
class Split:
    """A split of the released code, and how well it explains the stored losses."""

    seed: int
    """Of the shuffle."""
    frac_train: float
    """Share of all rows trained on."""
    train_error: float
    """log(loss on its training rows / stored train loss)."""
    test_error: float
    """log(loss on its test rows / stored test loss)."""
    runner_up: float
    """Larger absolute error of the best other split."""

    @property
    def error(self) -> float:
        """The larger absolute error."""
        return max(abs(self.train_error), abs(self.test_error))


def recover_split(
    model: Float[Tensor, " rows"] | nn.Module,
    losses: Mapping[str, Any],
    labels: Int[Tensor, " rows"] | None = None,
    seeds: Sequence[int] = SEEDS,
    tolerance: float = TOLERANCE,
) -> Split | NotApplicable:
    """Seed and fraction of the nanda2023 split with these losses; NotApplicable when none fits.

    Args:
        model: Loss of every row in nats, rows in order a * p + b; or a model of tokens (a, b, =),
            whose losses are then taken over all its outputs in float64.
        losses: `train` and `test`, in nats: the final ones, or whole curves that end with them.
        labels: Right answers of a model's rows; (a + b) mod p by default.
        seeds: Seeds to try; fractions are all multiples of .01.
        tolerance: Largest |log(found / stored)| that still fits.

    Raises ValueError for losses that are missing or negative, and for fewer than 2 seeds.
    """
    if len(seeds) < 2:
        raise ValueError(f"got seeds {list(seeds)}; expected at least 2, to tell one from another")
    rows = model if isinstance(model, Tensor) else _model_losses(model, labels)
    stored = {split: _final(losses, split) for split in ("train", "test")}
    if min(stored.values()) == 0:
        return NotApplicable(f"a stored loss is exactly 0 ({stored}), so no ratio can be taken")
    found = _best(rows.double(), stored, seeds)
    return found if isinstance(found, NotApplicable) else _accepted(found, tolerance)


def _final(losses: Mapping[str, Any], split: str) -> float:
    """The last loss of a split, from a number or a curve."""
    given = losses.get(split)
    if isinstance(given, Tensor):
        given = given.tolist()
    last = given[-1] if isinstance(given, Sequence) and len(given) else given
    value = float(last) if isinstance(last, int | float) else math.nan
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(
            f"losses have {split} = {last!r}; expected a final {split} loss in nats, at least 0"
        )
    return value


def _best(
    rows: Float[Tensor, " rows"], stored: Mapping[str, float], seeds: Sequence[int]
) -> Split | NotApplicable:
    """The split of least error, with the error of the next one."""
    trained = _sizes(len(rows))
    train, test = _split_losses(rows, seeds, torch.tensor(list(trained)))
    errors = torch.stack([(train / stored["train"]).log(), (test / stored["test"]).log()])
    worst = errors.abs().amax(dim=0).nan_to_num(nan=math.inf).flatten()
    first, second = worst.topk(2, largest=False).indices.tolist()
    seed, size = divmod(first, len(trained))
    if not math.isfinite(float(worst[first])):
        return NotApplicable("every split has a loss of exactly 0 on one side, so none compares")
    return Split(
        seed=seeds[seed],
        frac_train=list(trained.values())[size],
        train_error=float(errors[0, seed, size]),
        test_error=float(errors[1, seed, size]),
        runner_up=float(worst[second]),
    )


def _sizes(n: int) -> dict[int, float]:
    """Number of training rows -> fraction; two fractions of one number are one split."""
    sizes = {int(frac * n): frac for frac in reversed(FRACTIONS)}
    return {size: frac for size, frac in sizes.items() if 0 < size < n}


def _split_losses(
    rows: Float[Tensor, " rows"], seeds: Sequence[int], trained: Int[Tensor, " sizes"]
) -> tuple[Float[Tensor, "seeds sizes"], Float[Tensor, "seeds sizes"]]:
    """Mean loss before and after every cut of every seed's shuffle, by running sums from both ends.

    From both ends, because a train loss of 1e-8 would drown in the rounding of a difference.
    """
    place = torch.arange(len(rows))
    order = torch.tensor([SPLITS["nanda2023"](place, place, seed) for seed in seeds])[:, :, 0]
    shuffled = rows.cpu()[order]
    before = shuffled.cumsum(dim=1)[:, trained - 1]
    after = shuffled.flip(1).cumsum(dim=1)[:, len(rows) - trained - 1]
    return before / trained, after / (len(rows) - trained)


def _accepted(found: Split, tolerance: float) -> Split | NotApplicable:
    closest = (
        f"seed {found.seed}, fraction {found.frac_train:g}, which is off by "
        f"{found.error:.3g} in log loss"
    )
    if found.error > tolerance:
        return NotApplicable(f"no nanda2023 split fits; closest: {closest}, allowed {tolerance:g}")
    if found.runner_up <= max(MARGIN * found.error, ROUNDING):
        return NotApplicable(
            f"several splits fit; closest: {closest}, the next by {found.runner_up:.3g}"
        )
    return found


def _model_losses(model: nn.Module, labels: Int[Tensor, " rows"] | None) -> Float[Tensor, " rows"]:
    """Loss of every pair (a, b) of a model whose last token is "="."""
    # Imported here because it loads transformer_lens, which the arrays do not need.
    from mechgrok.models.shared_prefix import answer_logits

    net: Any = model
    p = net.cfg.d_vocab - 1
    pairs = torch.cartesian_prod(torch.arange(p), torch.arange(p))
    tokens = torch.cat([pairs, torch.full((p * p, 1), p)], dim=1).to(net.cfg.device)
    with torch.no_grad():
        logits = answer_logits(net, tokens).double().cpu()
    return row_losses(logits, sum_index(p, logits.device) if labels is None else labels.cpu())


def measure(run: Any, tolerance: float = TOLERANCE) -> Result:
    """Seed (headline) and fraction behind a run's last evaluation. Options: tolerance.

    Of an imported run it says what the published model was trained on; of a run trained here it
    gives back the run's own `seeds.data` and `task.frac_train` where its split is nanda2023.
    """
    checkpoint, last = run[-1], run.evaluations()[-1]
    labels = checkpoint.task.labels
    if labels.shape[1] != 1:
        found = NotApplicable(f"rows have {labels.shape[1]} answers; the published split has one")
    else:
        logits = checkpoint.answer_logits[:, 0].double().cpu()
        losses = {split: last[f"{split}_loss"] for split in ("train", "test")}
        found = recover_split(row_losses(logits, labels[:, 0]), losses, tolerance=tolerance)
    return Result(
        "recover_split", _values(found), DEFINITION, run=run.name, seed=run.seed, step=None
    )


def _values(found: Split | NotApplicable) -> dict[str, Value]:
    names = ("seed", "frac_train", "train_error", "test_error", "runner_up")
    return {n: found if isinstance(found, NotApplicable) else getattr(found, n) for n in names}


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "log(mean row loss / stored loss), on both sides of every cut of every shuffle",
    "split": "nanda2023, seeds 0-99, fractions in steps of .01; losses of the last evaluation",
    "dtype": "float64",
    "selection": f"both errors <= tolerance ({TOLERANCE:g}), next split {MARGIN:g} times farther",
}
