"""Alignment on models whose map is known: GL(d), a permutation, and a -> u a."""

from typing import Any

import pytest
import torch

from mechgrok.circuits.alignment import align, best_unit, unit_rows
from mechgrok.config import TransformerModel
from mechgrok.interventions import nodes
from mechgrok.maths.fourier import fourier_basis, power_shares
from mechgrok.models.transformer import build

P = 7
TOKENS = torch.cartesian_prod(torch.arange(P), torch.arange(P), torch.tensor([P]))
SIZES = TransformerModel(d_model=6, n_heads=2, d_head=3, d_mlp=10, dtype="float64")


def made(seed: int, sizes: TransformerModel = SIZES) -> Any:
    return build(sizes, d_vocab=P + 1, n_ctx=3, d_vocab_out=P, seed=seed).eval()


def rebased(M: torch.Tensor) -> Any:
    """Model 0 with its residual stream in another basis."""
    model, back = made(0), torch.linalg.inv(M)
    with torch.no_grad():
        for write in (model.embed.W_E, model.pos_embed.W_pos):
            write.copy_(write @ M)
        model.unembed.W_U.copy_(back @ model.unembed.W_U)
        for block in model.blocks:
            for read in (block.attn.W_Q, block.attn.W_K, block.attn.W_V, block.mlp.W_in):
                read.copy_(back @ read)
            for write in (block.attn.W_O, block.mlp.W_out):
                write.copy_(write @ M)
    return model


def labels(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS)[:, -1].argmax(-1)


def aligned(donor: Any, map: str, **more: Any) -> Any:
    recipient = made(0)
    return align(
        donor=donor, recipient=recipient, tokens=TOKENS, labels=labels(recipient),
        nodes="resid_post", nulls={"untrained": made(1)}, map=map, **more,
    )  # fmt: skip


def test_a_change_of_basis_is_undone_on_rows_not_fitted_on() -> None:
    M = torch.randn(6, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    torch.testing.assert_close(rebased(M)(TOKENS), made(0)(TOKENS), rtol=0, atol=1e-10)
    found = aligned(rebased(M), "linear")
    assert found.loss["donor"] == pytest.approx(found.own[0], abs=1e-9)
    assert found.held_out["donor"] < 1e-18
    assert found.loss["untrained"] > found.own[0] + 0.1  # the null, with the same fit
    assert found.held_out["untrained"] > 0.1
    worse = aligned(rebased(M), "orthogonal")
    assert worse.held_out["donor"] > 0.01


def test_a_permutation_is_found_and_none_is_not_enough() -> None:
    order = torch.tensor([2, 0, 1, 5, 3, 4])
    donor = rebased(torch.eye(6, dtype=torch.float64)[order])
    found = aligned(donor, "permutation")
    assert found.held_out["donor"] < 1e-28
    assert found.loss["donor"] == pytest.approx(found.own[0], abs=1e-12)
    assert aligned(donor, "none").loss["donor"] > found.own[0] + 0.1
    assert aligned(made(0), "none").loss["donor"] == pytest.approx(found.own[0], abs=1e-12)


def test_a_fit_with_room_to_spare_is_exposed_by_the_other_rows() -> None:
    """24 fitted rows and a map of width 20 between models that have nothing in common."""
    wide = TransformerModel(**{**vars(SIZES), "d_model": 20})
    found = align(
        donor=made(2, wide), recipient=made(0, wide), tokens=TOKENS, labels=TOKENS[:, 0],
        nodes=nodes("resid_post", position=-1), nulls={"untrained": made(1, wide)},
    )  # fmt: skip
    for name in ("donor", "untrained"):
        assert found.fitted[name] < 0.5
        assert found.held_out[name] > 2 * found.fitted[name]


def test_the_table_has_the_null_and_the_recipient() -> None:
    frame = aligned(made(2), "orthogonal").table()
    assert list(frame.donor) == ["donor", "untrained", "recipient itself"]
    assert (frame.n == len(TOKENS) - len(TOKENS) // 2).all()


def test_the_unit_between_two_spectra_is_found() -> None:
    p, u = 23, 5
    rows = fourier_basis(p)
    keys = [2, 3, 9]
    donor = torch.stack([rows[2 * k - 1] for k in keys], dim=1)
    read = donor[torch.arange(p) * u % p]  # the donor reading u a for a
    found = best_unit(power_shares(donor), power_shares(read), p)
    assert (found.u, found.cosine) == (u, pytest.approx(1))
    assert max(found.others) < 0.99
    assert best_unit(power_shares(donor), power_shares(donor), p).u == 1


def test_rows_of_a_unit_are_multiplied_pairs() -> None:
    a, b = TOKENS[:, 0], TOKENS[:, 1]
    moved = TOKENS[unit_rows(P, 3)]
    assert torch.equal(moved[:, 0], 3 * a % P)
    assert torch.equal(moved[:, 1], 3 * b % P)


def test_what_cannot_be_aligned_says_why() -> None:
    normed = TransformerModel(**{**vars(SIZES), "normalization": "LN"})
    with pytest.raises(ValueError, match=r"linear map .* no symmetry .* 'LN'.*permutation"):
        align(
            donor=made(1, normed), recipient=made(0, normed), tokens=TOKENS, labels=TOKENS[:, 0],
            nodes="resid_post", nulls={"untrained": made(2, normed)},
        )  # fmt: skip
    with pytest.raises(ValueError, match="unknown map 'affine'"):
        aligned(made(1), "affine")
    with pytest.raises(ValueError, match="no null donor"):
        align(
            donor=made(1), recipient=made(0), tokens=TOKENS, labels=TOKENS[:, 0],
            nodes="resid_post", nulls={},
        )  # fmt: skip
    with pytest.raises(ValueError, match="got 2 nodes"):
        align(
            donor=made(1), recipient=made(0), tokens=TOKENS, labels=TOKENS[:, 0],
            nodes="head", nulls={"x": made(2)},
        )  # fmt: skip
    with pytest.raises(ValueError, match="p=9"):
        best_unit(torch.ones(4), torch.ones(4), 9)
