"""Whether one model's activations can stand in for another's that shares no basis with it.

A map from a donor's activations to a recipient's is fitted on half of the inputs; on the other half
the recipient computes on with what the map makes of the donor, and its loss is the judge (model
stitching: Lenc and Vedaldi 2015, arXiv 1411.5908; Bansal et al. 2021, arXiv 2106.07682). A null
donor gets the same fit in the same table: a map with enough freedom fits anything it has seen.

Only maps the model allows are fitted. Without normalisation the residual stream has the symmetry
GL(d); RMS without gains leaves rotations; gains, LayerNorm or a mix over tokens leave permutations.
For two models of Z_p the task's own symmetries come first: a -> u a sends frequency k to u k.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from jaxtyping import Float, Int
from scipy.linalg import orthogonal_procrustes
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mechgrok.interventions.ablation import record
from mechgrok.interventions.metrics import accuracy, loss
from mechgrok.interventions.node import Nodes, resolve
from mechgrok.interventions.patches import Patch
from mechgrok.interventions.transplant import model_of
from mechgrok.interventions.variants import logits
from mechgrok.maths.operations import is_prime

if TYPE_CHECKING:
    import pandas as pd

DONOR: Final = "donor"


def _linear(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> Float[Tensor, "d d"]:
    """Least squares."""
    return torch.linalg.lstsq(x, y, driver="gelsd").solution


def _orthogonal(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> Float[Tensor, "d d"]:
    """Procrustes (Schoenemann 1966)."""
    return torch.as_tensor(orthogonal_procrustes(x.numpy(), y.numpy())[0])


def _permutation(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> Float[Tensor, "d d"]:
    """The permutation of channels with the largest inner product (Kuhn 1955)."""
    rows, columns = linear_sum_assignment((x.T @ y).numpy(), maximize=True)
    found = x.new_zeros(x.shape[1], y.shape[1])
    found[rows, columns] = 1
    return found


def _none(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> Float[Tensor, "d d"]:
    """The bases are taken as one."""
    return torch.eye(x.shape[1], dtype=x.dtype)


MAPS: Final[Mapping[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "linear": _linear,
    "orthogonal": _orthogonal,
    "permutation": _permutation,
    "none": _none,
}
"""Maps of the residual stream, the freest first."""
ALLOWED: Final[Mapping[Any, Sequence[str]]] = {
    None: tuple(MAPS),
    "RMSPre": ("orthogonal", "permutation", "none"),
}
"""Maps under which a model of this normalisation keeps its function; by default the last two."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """How well each donor's activations stand in for the recipient's, on rows not fitted on."""

    map: str
    node: str
    own: tuple[float, float]
    """Loss (nats) and accuracy of the recipient itself on the held-out rows."""
    fitted: Mapping[str, float]
    """Share of the recipient's activation (squared, centred) that is missed on the fitted rows."""
    held_out: Mapping[str, float]
    """The same on the other rows."""
    loss: Mapping[str, float]
    """Of the recipient on the held-out rows, with the mapped donor in place of its activation."""
    accuracy: Mapping[str, float]
    n: int
    """Held-out rows."""
    parameters: int
    """Numbers of a linear map; compare them with the fitted rows times the width."""

    def table(self) -> "pd.DataFrame":
        """One row per donor, and one for the recipient itself."""
        import pandas as pd

        rows: list[dict[str, Any]] = [
            {"donor": name, "missed_fitted": self.fitted[name], "missed_held_out": missed}
            | {"loss": self.loss[name], "accuracy": self.accuracy[name]}
            for name, missed in self.held_out.items()
        ]
        rows.append({"donor": "recipient itself", "loss": self.own[0], "accuracy": self.own[1]})
        return pd.DataFrame(rows).assign(map=self.map, node=self.node, n=self.n)


def align(
    *,
    donor: Any,
    recipient: Any,
    tokens: Int[Tensor, "rows pos"],
    labels: Int[Tensor, " rows"],
    nodes: Nodes,
    nulls: Mapping[str, Any],
    map: str = "linear",
    donor_tokens: Int[Tensor, "rows pos"] | None = None,
    position: int = -1,
    seed: int = 0,
) -> Alignment:
    """Fit a map of one node on a random half of the rows; judge it by the loss on the other half.

    Models or checkpoints; `donor_tokens` are the rows as the donor is to read them, where the
    task's symmetry or another naming changes them (`unit_rows`). At least one null donor is needed.
    Raises ValueError for a map the recipient does not allow, for anything but one node of a width,
    and for halves with fewer rows than the width, on which a linear map is no finding.
    """
    models = {DONOR: donor, **nulls}
    if not nulls:
        raise ValueError("got no null donor; pass at least one, such as an untrained model")
    own = model_of(recipient)
    _check_map(own, map)
    chosen = resolve(own, nodes, tokens.shape[1])
    if len(chosen) != 1 or chosen[0].freq is not None:
        raise ValueError(f"got {len(chosen)} nodes, expected one, without a frequency")
    [node] = chosen
    theirs = tokens if donor_tokens is None else donor_tokens
    if len(theirs) != len(tokens):
        raise ValueError(f"got {len(theirs)} rows for the donor and {len(tokens)}; pass pairs")
    order = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(seed))
    fit, judge = order[: len(tokens) // 2], order[len(tokens) // 2 :]

    def activations(model: Any, rows: Tensor) -> Float[Tensor, "n *pos d"]:
        return node.read(record(model, rows, [node])[node.hook]).double().cpu()

    target = activations(own, tokens)
    width = target.shape[-1]
    per_row = target.flatten(1).shape[1] // width
    if map == "linear" and len(fit) * per_row < width:
        raise ValueError(f"{len(fit)} fitted rows for a map of width {width}; pass more rows")
    spread = (target - target.flatten(0, -2).mean(dim=0)).square()
    found: dict[str, dict[str, float]] = {"fitted": {}, "held_out": {}, "loss": {}, "accuracy": {}}
    for name, one in models.items():
        given = activations(model_of(one), theirs)
        if given.shape != target.shape:
            raise ValueError(
                f"{name} has {list(given.shape)} at {node.name}, the recipient "
                f"{list(target.shape)}; align models of one width on the same rows"
            )
        mapped = given @ MAPS[map](given[fit].flatten(0, -2), target[fit].flatten(0, -2))
        for part, rows in (("fitted", fit), ("held_out", judge)):
            missed = (mapped - target)[rows].square().sum() / spread[rows].sum()
            found[part][name] = float(missed)
        patch = Patch(node, mapped[judge])
        found["loss"][name], found["accuracy"][name] = _judged(
            own, tokens[judge], labels[judge], [patch], position
        )
    return Alignment(
        map=map,
        node=node.name,
        own=_judged(own, tokens[judge], labels[judge], [], position),
        n=len(judge),
        parameters=width * width,
        **found,
    )


def _judged(
    model: Any, tokens: Tensor, labels: Tensor, variant: Sequence[Patch], position: int
) -> tuple[float, float]:
    with torch.no_grad():
        [run] = logits(model, tokens, [variant], (position % tokens.shape[1],))
    answers = run[:, 0]
    return float(loss(answers, labels).mean()), float(accuracy(answers, labels).double().mean())


def _check_map(model: Any, name: str) -> None:
    if name not in MAPS:
        raise ValueError(f"unknown map {name!r}; expected one of {list(MAPS)}")
    kind = getattr(model.cfg, "normalization_type", "a norm of its own")
    allowed = ALLOWED.get(kind, ("permutation", "none"))
    if name not in allowed:
        raise ValueError(
            f"a {name} map of the residual stream is no symmetry of a model with normalisation "
            f"{kind!r}; expected one of {list(allowed)}"
        )


@dataclass(frozen=True)
class Unit:
    """The symmetry a -> u a under which two spectra agree best."""

    u: int
    """In 1..p//2; u and p - u map frequencies alike."""
    cosine: float
    """Of the two spectra after it, 0..1."""
    others: tuple[float, ...]
    """The cosines at all other units: its chance."""


def best_unit(
    donor: Float[Tensor, " n_freqs"], recipient: Float[Tensor, " n_freqs"], p: int
) -> Unit:
    """The u for which the donor, reading u a for a, has the recipient's frequencies.

    Takes the power at each frequency 1..p//2 (`maths.fourier.power_shares` of W_E). A donor of
    power at k, reading u a, has it at u k. Raises ValueError for a p that is not prime, for which
    units and frequencies do not correspond, and for spectra of another length.
    """
    if not is_prime(p) or p < 3:
        raise ValueError(f"got p={p}, expected an odd prime")
    if len(donor) != p // 2 or len(recipient) != p // 2:
        raise ValueError(f"got {len(donor)} and {len(recipient)} powers, expected {p // 2} each")
    freqs = torch.arange(1, p // 2 + 1)
    cosines = []
    for u in freqs.tolist():
        image = u * freqs % p
        moved = torch.zeros_like(donor)
        moved[torch.minimum(image, p - image) - 1] = donor
        cosines.append(float(torch.cosine_similarity(moved, recipient, dim=0)))
    best = max(range(len(cosines)), key=cosines.__getitem__)
    others = tuple(cosines[:best] + cosines[best + 1 :])
    return Unit(best + 1, cosines[best], others)


def unit_rows(p: int, u: int) -> Int[Tensor, " pairs"]:
    """For every row a*p + b, the row of (u a, u b)."""
    element = torch.arange(p) * u % p
    return (element[:, None] * p + element).flatten()
