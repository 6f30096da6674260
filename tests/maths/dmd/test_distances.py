"""Distances between spectra, and the permutation of runs."""

import itertools

import numpy as np
import pytest

from mechgrok.maths.dmd import distance_matrix, hausdorff, permutation_test, wasserstein

ONE = np.array([1.0, 0.5 + 0.5j, 0.5 - 0.5j])


def test_equal_sizes_are_matched() -> None:
    assert wasserstein(ONE, ONE[::-1].copy()) == 0
    assert wasserstein(ONE, ONE + 0.1) == pytest.approx(0.1)
    assert wasserstein(np.array([0j, 1]), np.array([0.9 + 0j, 3])) == pytest.approx((0.9 + 2) / 2)
    other = np.random.default_rng(0).normal(size=3) + 0j
    orders = [np.abs(ONE - other[list(o)]).mean() for o in itertools.permutations(range(3))]
    assert wasserstein(ONE, other) == pytest.approx(min(orders))


def test_unequal_sizes_are_transported() -> None:
    assert wasserstein(np.array([0j]), np.array([0j, 1])) == pytest.approx(0.5)
    assert wasserstein(np.array([0j, 1]), np.array([0j, 0, 1, 1])) == pytest.approx(0, abs=1e-9)
    # 1/2 at 0 and 1/2 at 1 against 1/3 each at 0, 1 and 1j: 1/6 goes from each to 1j
    expected = (1 + np.sqrt(2)) / 6
    assert wasserstein(np.array([0j, 1]), np.array([0j, 1, 1j])) == pytest.approx(expected)


def test_weights_and_matching_agree_with_transport() -> None:
    other = ONE + 0.3j
    thirds = (np.full(3, 1 / 3), np.full(3, 1 / 3))
    assert wasserstein(ONE, other, thirds) == pytest.approx(wasserstein(ONE, other))
    assert wasserstein(np.array([0j, 1]), np.array([0j, 1]), ([0.8, 0.2], [0.5, 0.5])) == (
        pytest.approx(0.3)
    )


def test_hausdorff_is_the_worst_of_both_directions() -> None:
    one, other = np.array([0j, 1]), np.array([0j, 1, 3j])
    assert hausdorff(one, other) == pytest.approx(3)
    assert hausdorff(other, one) == pytest.approx(3)
    assert hausdorff(ONE, ONE) == 0


def test_bad_spectra_are_refused() -> None:
    for distance in (wasserstein, hausdorff):
        with pytest.raises(ValueError, match="empty spectrum"):
            distance(ONE, ONE[:0])
        with pytest.raises(ValueError, match="not finite"):
            distance(ONE, np.array([complex(-np.inf, 0)]))


def spectra(shift: float, n: int, seed: int) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [ONE + shift + 0.01 * generator.normal(size=3) for _ in range(n)]


def test_five_against_five_looks_at_all_252_splits() -> None:
    distances = distance_matrix([*spectra(0, 5, 0), *spectra(0.2, 5, 1)])
    assert (distances == distances.T).all()
    assert not np.diag(distances).any()
    found = permutation_test(distances, range(5))
    assert (found.splits, found.exact) == (252, True)
    assert found.p == pytest.approx(2 / 252)  # the split itself and its mirror image
    assert found.statistic == pytest.approx(0.19, abs=0.01)
    assert found == permutation_test(distances, range(5, 10))


def test_the_exact_p_is_that_of_plain_enumeration() -> None:
    distances = distance_matrix(spectra(0, 7, 3))

    def statistic(first: tuple[int, ...]) -> float:
        pairs = list(itertools.combinations(range(7), 2))
        between = [distances[i, j] for i, j in pairs if (i in first) != (j in first)]
        within = [distances[i, j] for i, j in pairs if (i in first) == (j in first)]
        return float(np.mean(between) - np.mean(within))

    every = np.array([statistic(first) for first in itertools.combinations(range(7), 3)])
    found = permutation_test(distances, [0, 1, 2])
    assert found.statistic == pytest.approx(every[0])
    assert found.p == pytest.approx((every >= every[0] - 1e-12).mean())
    assert found.splits == 35


def test_p_is_uniform_without_a_difference() -> None:
    found = [permutation_test(distance_matrix(spectra(0, 8, s)), range(4)).p for s in range(60)]
    assert 0.3 < np.mean(found) < 0.7
    assert np.mean(np.array(found) <= 0.1) < 0.2


def test_many_splits_are_drawn() -> None:
    distances = distance_matrix([*spectra(0, 10, 0), *spectra(0.2, 10, 1)])
    with pytest.raises(ValueError, match="184756 splits.*pass a generator"):
        permutation_test(distances, range(10))
    found = permutation_test(distances, range(10), np.random.default_rng(0), most=500)
    assert (found.splits, found.exact) == (500, False)
    assert 1 / 501 <= found.p < 4 / 501  # this split, and a mirror image or two
    assert found == permutation_test(distances, range(10), np.random.default_rng(0), most=500)


@pytest.mark.parametrize("first", [[0], [0, 1, 2, 3], [0, 9]])
def test_groups_that_cannot_be_compared_are_refused(first: list[int]) -> None:
    with pytest.raises(ValueError, match="at least 2 runs in each"):
        permutation_test(distance_matrix(spectra(0, 5, 0)), first)
