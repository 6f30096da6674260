"""Theorems of the Fourier basis, for odd and even n."""

import numpy as np
import pytest
import torch
from measures.closed_forms import cosine_logits, noise, sums

from mechgrok.maths import fourier

SIZES = [3, 4, 7, 8, 59, 113]


@pytest.mark.parametrize("n", SIZES)
def test_basis_is_orthonormal(n: int) -> None:
    basis = fourier.fourier_basis(n)
    assert torch.allclose(basis @ basis.T, torch.eye(n).double(), atol=1e-12)


@pytest.mark.parametrize("n", SIZES)
def test_names_say_what_the_rows_are(n: int) -> None:
    x = torch.arange(n).double()
    for name, freq, row in zip(
        fourier.component_names(n),
        fourier.component_frequencies(n).tolist(),
        fourier.fourier_basis(n),
        strict=True,
    ):
        kind, _, number = name.partition(" ")
        assert int(number or 0) == freq
        wave = {"const": torch.ones_like(x), "cos": torch.cos(2 * torch.pi * freq * x / n)}
        wave["sin"] = torch.sin(2 * torch.pi * freq * x / n)
        assert torch.allclose(row, wave[kind] / wave[kind].norm(), atol=1e-12)


def test_order_is_cosine_first() -> None:
    assert fourier.component_names(5) == ("const", "cos 1", "sin 1", "cos 2", "sin 2")
    assert fourier.component_names(4) == ("const", "cos 1", "sin 1", "cos 2")


@pytest.mark.parametrize("n", SIZES)
def test_parseval_and_round_trip(n: int) -> None:
    x = noise(n, n, 2)
    assert torch.allclose(fourier.to_fourier(x).norm(), x.norm())
    assert torch.allclose(fourier.from_fourier(fourier.to_fourier(x)), x, atol=1e-12)
    assert torch.allclose(fourier.to_fourier_2d(x).norm(), x.norm())
    assert torch.allclose(fourier.from_fourier_2d(fourier.to_fourier_2d(x)), x, atol=1e-12)


def test_2d_transform_is_the_definition() -> None:
    x, basis = noise(7, 7, 3), fourier.fourier_basis(7)
    expected = torch.einsum("fa,gb,abd->fgd", basis, basis, x)
    assert torch.allclose(fourier.to_fourier_2d(x), expected, atol=1e-12)


@pytest.mark.parametrize("n", SIZES)
def test_frequency_norms_agree_with_rfft(n: int) -> None:
    x = noise(n, 6)
    spectrum = np.abs(np.fft.rfft(x.numpy(), axis=0)) * np.sqrt(2 / n)
    if n % 2 == 0:
        spectrum[-1] /= np.sqrt(2)
    expected = np.linalg.norm(spectrum[1:], axis=1)
    assert np.allclose(fourier.frequency_norms(x).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("n", SIZES)
def test_shares_and_the_constant_make_one(n: int) -> None:
    x = noise(n, 4)
    constant = fourier.component_norms(x)[0].square() / x.square().sum()
    assert fourier.power_shares(x).sum() + constant == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("n", "freqs"), [(7, [1, 3]), (8, [2, 4]), (113, [14, 35, 56])])
def test_keep_plus_remove_is_identity(n: int, freqs: list[int]) -> None:
    x = noise(n, 5)
    kept, rest = fourier.project_frequencies(x, freqs), fourier.scale_frequencies(x, freqs, 0.0)
    assert torch.allclose(kept + rest, x, atol=1e-12)
    assert float((kept * rest).sum()) == pytest.approx(0, abs=1e-10)
    assert torch.allclose(fourier.project_frequencies(kept, freqs), kept, atol=1e-12)


def test_scaling_touches_only_its_frequencies() -> None:
    x = noise(13, 4)
    before, after = (
        fourier.frequency_norms(x),
        fourier.frequency_norms(fourier.scale_frequencies(x, [2, 6], 0.5)),
    )
    expected = torch.tensor([1, 0.5, 1, 1, 1, 0.5]).double() * before
    assert torch.allclose(after, expected, atol=1e-12)


@pytest.mark.parametrize("p", [5, 8, 11])
def test_diagonal_sum_kernel_is_the_naive_cube(p: int) -> None:
    logits = noise(p * p, p)
    cubes = [cosine_logits(p, {k: 1.0}) for k in range(1, p // 2 + 1)]
    naive = torch.stack([(logits * cube / cube.norm()).sum() for cube in cubes])
    assert torch.allclose(fourier.cosine_coefficients(logits, p), naive, atol=1e-12)


@pytest.mark.parametrize("p", [5, 8, 11])
def test_sum_projection_is_the_naive_projection(p: int) -> None:
    logits, freqs = noise(p * p, p), [1, p // 2]
    s = sums(p).double()
    waves = [f(2 * torch.pi * k * s / p) for k in freqs for f in (torch.cos, torch.sin)]
    directions = torch.stack([w / w.norm() for w in waves if w.norm() > 1e-6])
    expected = directions.T @ directions @ logits
    assert torch.allclose(fourier.project_sums(logits, p, freqs), expected, atol=1e-12)


@pytest.mark.parametrize("n", [-1, 0, 1, 2])
def test_too_small_moduli_are_refused(n: int) -> None:
    with pytest.raises(ValueError, match="n >= 3"):
        fourier.fourier_basis(n)


@pytest.mark.parametrize("freqs", [[0], [4], [-1], [7]])
def test_frequencies_outside_are_refused(freqs: list[int]) -> None:
    with pytest.raises(ValueError, match=r"expected 1\.\.3"):
        fourier.project_frequencies(noise(7, 2), freqs)


def test_other_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="repeated"):
        fourier.check_frequencies([2, 2], 7)
    with pytest.raises(ValueError, match="49 pairs"):
        fourier.sum_means(noise(48, 7), 7)
    with pytest.raises(ValueError, match="drop the '=' class"):
        fourier.cosine_coefficients(noise(49, 8), 7)
    with pytest.raises(ValueError, match="zeros"):
        fourier.power_shares(torch.zeros(7, 2))


def test_dtype_follows_the_tensor() -> None:
    x = noise(7, 2).float()
    assert fourier.to_fourier(x).dtype == torch.float32
    assert fourier.scale_frequencies(x, [1], 0.5).dtype == torch.float32
