"""Logits of fixed rows are those of the hooked forward, in every family and at every depth."""

from typing import Any

import pytest
import torch

from mechgrok.config import PostLNModel, TransformerModel
from mechgrok.models import fixed_rows, post_ln, transformer
from mechgrok.models.fixed_rows import FixedRows

SIZES: dict[str, Any] = {"d_vocab": 7, "n_ctx": 6, "d_vocab_out": 5, "seed": 0}
SMALL: dict[str, Any] = {"d_model": 8, "n_heads": 2, "d_mlp": 12, "dtype": "float64"}


def model(layers: int, kind: Any) -> Any:
    """A random float64 model with biases and normalisations that do something."""
    if kind == "post_ln":
        made: Any = post_ln.build(PostLNModel(n_layers=layers, **SMALL), **SIZES)
    else:
        config = TransformerModel(n_layers=layers, d_head=4, normalization=kind, **SMALL)
        made = transformer.build(config, **SIZES)
    chance = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=chance).double())
    return made.eval()


@pytest.mark.parametrize("kind", [None, "LN", "RMS", "post_ln"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("positions", [(5,), (2,), (4, 5), (1, 3)])
@pytest.mark.parametrize("rows", [1, 40])
def test_logits_are_the_hooked_forwards(
    kind: str | None, layers: int, positions: tuple[int, ...], rows: int
) -> None:
    of = model(layers, kind)
    tokens = torch.randint(7, (rows, 6), generator=torch.Generator().manual_seed(2)) % 3
    with torch.no_grad():
        found = FixedRows(tokens, positions).logits(of)
        expected = of(tokens)[:, list(positions)]
    assert found.shape == expected.shape
    # float64 sums in another order
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-12


def test_each_distinct_prefix_leaves_once() -> None:
    tokens = torch.tensor([[0, 1, 2], [0, 1, 3], [0, 2, 2], [0, 1, 2]])
    rows = FixedRows(tokens, (2,))
    assert len(rows.ids) == 1 + 2 + 2  # (token, position)
    first, last = rows.layers(2)
    assert first.leaving is not None
    assert len(first.leaving) == 1 + 2 + 3  # prefixes
    assert last.leaving is None
    assert last.queries.shape == (4, 1)


def test_hooks_are_heard_and_what_is_not_covered_takes_the_hooked_forward(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of = model(2, "post_ln")
    tokens = torch.randint(7, (5, 6), generator=torch.Generator().manual_seed(3))
    rows = FixedRows(tokens, (4,))
    with torch.no_grad():
        plain = rows.logits(of)
        with of.hooks([("blocks.0.hook_resid_post", lambda x, hook: x * 0)]):
            assert float((rows.logits(of) - plain).abs().max()) > 0.01
        monkeypatch.setattr(fixed_rows, "refusal", lambda model: "anything")
        assert float((rows.logits(of) - plain).abs().max()) < 1e-12
