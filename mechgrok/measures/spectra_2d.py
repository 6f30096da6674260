"""2-D Fourier spectra, over a and over b, of attention to a, neurons and logits.

Nanda et al. 2023 (arXiv 2301.05217), section 4.1 and figure 4: on the mainline the logits have 20
large components, 4 products {cos k, sin k}(a) x {cos k, sin k}(b) for each of 5 key frequencies.
As two matrix products; one three-operand einsum takes 30 times as long.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mechgrok.maths.fourier import (
    check_frequencies,
    check_pairs,
    component_frequencies,
    component_names,
    to_fourier_2d,
)
from mechgrok.measures._modular import (
    ANSWER,
    Subject,
    activations,
    neurons,
    pairs,
    report,
    table_task,
    typed_absence,
)
from mechgrok.measures.key_frequencies import KeyFrequencies, resolve_keys
from mechgrok.runs.result import NotApplicable, Result, Value

SUBJECT: Final = "checkpoint"
OPERAND_A: Final = 0
"""Position of a."""
LARGE: Final = 0.1
"""Least norm of a large component, relative to the largest one."""
TOP: Final = 20
CHUNK: Final = 64
"""Columns transformed at once; bounds memory, changes no number."""


@dataclass(frozen=True)
class Spectrum2d:
    """2-D spectrum of a table over all pairs, const x const left out throughout."""

    norms: Float[Tensor, "p p"]
    """Norm over the last axis of component f of a (row) and g of b (column); 0 at const x const."""
    n_large: int
    """Components whose norm is at least `LARGE` times the largest; 0 for a constant table."""
    n_large_key_products: int
    """How many of the large ones are products of one key with itself."""
    n_key_products: int
    """Products that the keys have: 4 for each (1 for p/2)."""
    n_leading_key_products: int
    """How many key products are among the `n_key_products` largest components: no threshold."""
    top: tuple[str, ...]
    """Names 'cos 3 x sin 3' (a x b) of the 20 largest, largest first."""
    product_share: float | NotApplicable
    """Share 0..1 of power in the keys' products."""
    key_share: float | NotApplicable
    """Share 0..1 of power in the keys' linear terms and products."""

    @property
    def leading_are_key_products(self) -> bool:
        """The paper's statement: the largest components are the 4 products of every key."""
        return 0 < self.n_key_products == self.n_leading_key_products


def spectra_2d(
    tables: Mapping[str, Float[Tensor, "pairs _"]], p: int, keys: Sequence[int] = ()
) -> dict[str, Spectrum2d]:
    """2-D spectrum of every named table; rows are all pairs a * p + b, in float64.

    Raises ValueError for an incomplete table and for keys outside 1..p//2.
    """
    check_frequencies(keys, p)
    return {name: _spectrum(table, p, keys) for name, table in tables.items()}


def _spectrum(table: Float[Tensor, "pairs d"], p: int, keys: Sequence[int]) -> Spectrum2d:
    check_pairs(table.shape[0], p)
    power = torch.zeros(p, p, dtype=torch.float64, device=table.device)
    for columns in table.split(CHUNK, dim=1):
        # Subtracting the mean first keeps rounding of a large constant out of small components.
        centred = columns.double() - columns.double().mean(dim=0)
        grid = rearrange(centred, "(a b) d -> a b d", a=p)
        power += to_fourier_2d(grid).square().sum(dim=2)
    norms = power.sqrt()
    norms[0, 0] = 0
    freqs = component_frequencies(p, table.device)
    own = (freqs == torch.tensor(keys, dtype=torch.long, device=table.device)[:, None]).double()
    products = torch.einsum("kf,kg->fg", own, own)
    with_const = own + (freqs == 0)
    key_terms = torch.einsum("kf,kg->fg", with_const, with_const).clamp(max=1)
    key_terms[0, 0] = 0
    large = (norms >= LARGE * norms.max()) & (norms.max() > 0)
    leading = norms.flatten().topk(int(products.sum())).indices
    return Spectrum2d(
        norms=norms,
        n_large=int(large.sum()),
        n_large_key_products=int((large & (products > 0)).sum()),
        n_key_products=int(products.sum()),
        n_leading_key_products=int(products.flatten()[leading].sum()),
        top=_top(norms),
        product_share=_share(norms, products),
        key_share=_share(norms, key_terms),
    )


def _top(norms: Float[Tensor, "p p"]) -> tuple[str, ...]:
    names = component_names(len(norms))
    order = norms.flatten().topk(min(TOP, norms.numel() - 1)).indices.tolist()
    return tuple(f"{names[i // len(norms)]} x {names[i % len(norms)]}" for i in order)


def _share(norms: Float[Tensor, "p p"], terms: Float[Tensor, "p p"]) -> float | NotApplicable:
    power = norms.square()
    if power.sum() == 0:
        return NotApplicable("the table is one constant, which has no other components")
    return float((power * terms).sum() / power.sum())


@typed_absence("spectra_2d", "n_large_logits", "leading_are_key_products", "top_logits")
def measure(checkpoint: Subject, keys: str | Sequence[int] | KeyFrequencies = "final") -> Result:
    """2-D spectra of logits (row-centred), neurons and each head's attention to a.

    Options: keys ("final", "own" or frequencies). Headline the number of large components of the
    logits. Without keys their shares do not apply.
    """
    p = table_task(checkpoint).n
    freqs, rule, absent = _keys(checkpoint, keys)
    found = spectra_2d(_tables(checkpoint), p, freqs)
    values: dict[str, Value] = {}
    for name, one in found.items():
        values[f"n_large_{name}"] = one.n_large
        values[f"key_products_{name}"] = absent or one.n_large_key_products
        values[f"product_share_{name}"] = absent or one.product_share
        values[f"key_share_{name}"] = absent or one.key_share
        values[f"top_{name}"] = one.top
    values["expected_key_products"] = absent or found["logits"].n_key_products
    values["leading_key_products"] = absent or found["logits"].n_leading_key_products
    values["leading_are_key_products"] = absent or found["logits"].leading_are_key_products
    arrays = {f"norms_{name}": one.norms for name, one in found.items()}
    definition = {**DEFINITION, "order": ", ".join(component_names(p)[:3]) + ", ..."}
    return report("spectra_2d", checkpoint, values, {**definition, "selection": rule}, arrays)


def _keys(
    checkpoint: Subject, keys: str | Sequence[int] | KeyFrequencies
) -> tuple[tuple[int, ...], str, NotApplicable | None]:
    """Keys, their rule, and why there are none."""
    freqs, rule = resolve_keys(checkpoint, keys)
    return freqs, rule, None if freqs else NotApplicable(f"no key frequencies: {rule}")


def _tables(checkpoint: Subject) -> dict[str, Float[Tensor, "pairs _"]]:
    logits = pairs(checkpoint).logits
    tables = {"logits": logits - logits.mean(dim=1, keepdim=True)}
    model = checkpoint.model
    if not model.cfg.attn_only:
        tables["neurons"] = neurons(checkpoint)
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.cfg.n_layers)]
    select = dict.fromkeys(names, lambda pattern: pattern[:, :, ANSWER, OPERAND_A])
    for layer, to_a in enumerate(activations(model, checkpoint.task.tokens, select).values()):
        tables |= {f"attention_L{layer}H{head}": x[:, None] for head, x in enumerate(to_a.T)}
    return tables


DEFINITION: Final[Mapping[str, str]] = {
    "operator": "F[f, g] = sum_ab B[f, a] B[g, b] X[a, b] in the orthonormal real basis, norm over "
    f"classes or neurons; large: norm >= {LARGE:g} of the largest",
    "centring": "const x const left out; logits also centred by row, which softmax ignores",
    "split": "all pairs, '=' class dropped; attention from '=' to a; neurons post-activation",
    "dtype": "spectra in float64, activations in the model's",
}
