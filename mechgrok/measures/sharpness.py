"""Sharpness of the training loss around the weights: how much a small step can raise it.

Keskar et al. 2016 (arXiv 1609.04836), section 2.2.2, as taken up by Power et al. 2022 (arXiv
2201.02177) for validation accuracy. The released code of the latter (openai/grok) minimises the
loss where the formula maximises it, and adds gradients up over batches; the formula is here.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from mechgrok.measures._modular import Subject, report
from mechgrok.measures.losses import row_losses
from mechgrok.models.shared_prefix import row_logits
from mechgrok.runs.result import Result

SUBJECT: Final = "checkpoint"
EPSILON: Final = 1e-3
"""Size of the box, relative to |weight| + 1."""
DIRECTIONS: Final = 10
"""Random directions of the subspace."""
ITERATIONS: Final = 10
"""Iterations of L-BFGS-B from each start."""
CHUNK: Final = 8192
"""Rows differentiated at once; bounds memory, changes no digit of a mean in float64."""

Loss = Callable[[Float[Tensor, " n"]], tuple[float, Float[Tensor, " n"]]]
"""Weights as one vector -> loss and its gradient."""


@dataclass(frozen=True)
class Sharpness:
    """What the maximisation found."""

    sharpness: float
    """100 (max f - f) / (1 + f), at least 0: a lower bound where the maximiser stops early."""
    loss: float
    """f at the weights."""
    largest_loss: float
    """The largest f found in the box."""


def sharpness(
    loss: Loss,
    weights: Float[Tensor, " n"],
    epsilon: float = EPSILON,
    directions: int = DIRECTIONS,
    iterations: int = ITERATIONS,
    seed: int = 0,
) -> Sharpness:
    """Keskar et al.'s phi over a box in a random subspace; `directions=0` is all of space.

    Equations 3 and 4: y moves the weights by A y with |y_i| <= epsilon (|(A+ x)_i| + 1), where the
    rows of A+ are drawn uniformly and normalised, and A is its pseudo-inverse. L-BFGS-B starts at
    the corner that is largest to first order, and at a random point, since at a minimum there is no
    first order. Raises ValueError for an epsilon or numbers that are out of range, and for a loss
    that is not finite.
    """
    if epsilon <= 0 or iterations < 1 or not 0 <= directions <= len(weights):
        raise ValueError(
            f"got epsilon={epsilon}, iterations={iterations}, directions={directions}; expected "
            f"more than 0, at least 1, and 0 to {len(weights)}, the number of weights"
        )
    x = weights.double()
    chance = np.random.default_rng(seed)
    there, back = _subspace(x, directions, chance)
    bound = epsilon * ((back @ x if directions else x).abs() + 1)
    start, _ = loss(x)
    if not np.isfinite(start):
        raise ValueError(f"the loss at the weights is {start}; expected a finite number")

    def at(u: np.ndarray) -> tuple[float, np.ndarray]:
        """Loss and gradient at a point of the box, in units of its half-widths."""
        y = bound * torch.from_numpy(u).to(x)
        value, gradient = loss(x + (there @ y if directions else y))
        gradient = there.T @ gradient if directions else gradient
        return value, (bound * gradient).cpu().numpy()

    inside = chance.uniform(-1, 1, len(bound))
    corner = np.sign(at(0 * inside)[1])
    largest = max(start, *(_climb(at, u, iterations) for u in (corner, inside)))
    return Sharpness(100 * (largest - start) / (1 + start), start, largest)


def _subspace(
    x: Float[Tensor, " n"], k: int, chance: np.random.Generator
) -> tuple[Float[Tensor, "n k"], Float[Tensor, "k n"]]:
    """A and A+: k random directions as the rows of A+."""
    drawn = torch.from_numpy(chance.uniform(-1, 1, (k, len(x)))).to(x)
    rows = drawn / drawn.norm(dim=1, keepdim=True)
    return torch.linalg.pinv(rows), rows


def _climb(
    at: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray, iterations: int
) -> float:
    """The largest loss that L-BFGS-B finds in the box from a start.

    The loss is divided by its slope there, so that the first step is as long as the box is wide.
    """
    base, slope = at(start)
    scale = float(np.abs(slope).mean())
    if scale == 0:
        return base

    def falling(u: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = at(u)
        return (base - value) / scale, -gradient / scale

    limits = {"maxiter": iterations, "ftol": 0, "gtol": 0}
    found = minimize(
        falling, start, jac=True, method="L-BFGS-B", bounds=[(-1, 1)] * len(start), options=limits
    )
    return max(base, base - scale * float(found.fun))


def measure(
    checkpoint: Subject,
    epsilon: float = EPSILON,
    directions: int = DIRECTIONS,
    iterations: int = ITERATIONS,
    seed: int = 0,
) -> Result:
    """Sharpness of the loss on the training rows, over all trained parameters.

    Options: epsilon, directions (0: all of space), iterations, seed (of directions and start).
    """
    model = copy.deepcopy(checkpoint.model).double()
    model.cfg.dtype = torch.float64  # .double() leaves it stale (TransformerLens)
    trained = [p for p in model.parameters() if p.requires_grad]
    loss = _training_loss(model, checkpoint.task, trained)
    weights = parameters_to_vector(trained).detach()
    found = sharpness(loss, weights, epsilon, directions, iterations, seed)
    space = f"{directions} random directions, seed {seed}" if directions else "all of space"
    definition = {**DEFINITION, "selection": f"epsilon {epsilon}; {space}; {iterations} iterations"}
    values = {**vars(found), "directions": directions, "epsilon": epsilon}
    return report("sharpness", checkpoint, values, definition)


def _training_loss(model: Any, task: Any, trained: list[Any]) -> Loss:
    """Mean cross-entropy over the training answers as a function of the trained parameters."""
    device = trained[0].device
    rows = task.splits["train"]
    answers = int((task.labels[rows] >= 0).sum())

    def loss(weights: Float[Tensor, " n"]) -> tuple[float, Float[Tensor, " n"]]:
        with torch.no_grad():
            vector_to_parameters(weights, trained)
        total, gradient = 0.0, torch.zeros_like(weights)
        for part in rows.split(CHUNK):
            summed = _summed(model, task, part, device)
            parts = torch.autograd.grad(summed, trained, materialize_grads=True)
            total += float(summed.detach())
            gradient += torch.cat([g.flatten() for g in parts])
        return total / answers, gradient / answers

    return loss


def _summed(
    model: Any, task: Any, rows: Int[Tensor, " rows"], device: torch.device
) -> Float[Tensor, ""]:
    """Cross-entropy summed over the answers that these rows have."""
    at, labels = task.answer_positions[rows].to(device), task.labels[rows].to(device)
    logits = row_logits(model, task.tokens[rows].to(device), at)
    return (row_losses(logits, labels.clamp(min=0)) * (labels >= 0)).sum()


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "100 (max f - f) / (1 + f) over the box |y_i| <= epsilon (|(A+ x)_i| + 1)",
    "split": "train",
    "dtype": "float64, weights and forward pass included",
}
