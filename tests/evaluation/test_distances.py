"""Distances of distributions against closed forms, scipy and torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from torchmetrics.image.kid import poly_mmd

from diffae.errors import DataError
from diffae.evaluation import distances
from diffae.evaluation.distances import frechet, kernel, kernels_without


def features(count: int, width: int, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(width, width))
    return (generator.normal(size=(count, width)) @ mixing + shift).astype(np.float32)


def frechet_of_moments(mean_a: np.ndarray, a: np.ndarray, mean_b: np.ndarray, b: np.ndarray) -> float:
    """By the eigenvalues of A^(1/2) B A^(1/2), real even where A or B is singular."""
    values, vectors = np.linalg.eigh(a)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ b @ root).clip(0)).sum()
    return np.square(mean_a - mean_b).sum() + np.trace(a) + np.trace(b) - 2 * cross


def test_frechet_of_two_gaussians_has_a_closed_form_in_one_dimension() -> None:
    # (m_a - m_b)^2 + (s_a - s_b)^2
    one = np.array([[1.0], [3.0]]), np.array([[10.0], [16.0]])
    deviations = [np.std(x, ddof=1) for x in one]
    assert frechet(*one) == pytest.approx((13 - 2) ** 2 + (deviations[1] - deviations[0]) ** 2)


def test_frechet_of_commuting_covariances_is_the_difference_of_their_roots() -> None:
    a, b = np.array([1.0, 4.0, 9.0]), np.array([4.0, 4.0, 0.0])  # one of them singular
    mean = np.array([1.0, 0.0, 2.0])
    expected = np.square(mean).sum() + np.square(np.sqrt(a) - np.sqrt(b)).sum()
    x, y = (np.concatenate([np.diag(side), -np.diag(side)]) for side in (np.sqrt(2.5 * a), np.sqrt(2.5 * b)))
    np.testing.assert_allclose(np.cov(x.T), np.diag(a), atol=1e-12)
    assert frechet(x + mean, y) == pytest.approx(expected)
    assert frechet_of_moments(mean, np.diag(a), np.zeros(3), np.diag(b)) == pytest.approx(expected)


def test_frechet_agrees_with_the_matrix_square_root_of_scipy() -> None:
    a, b = features(200, 7), features(150, 7, seed=1, shift=0.5)
    covariances = [np.cov(x.astype(np.float64), rowvar=False) for x in (a, b)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    gap = np.square(a.mean(0, np.float64) - b.mean(0, np.float64)).sum()
    expected = gap + np.trace(covariances[0] + covariances[1] - 2 * np.real(root))
    assert frechet(a, b) == pytest.approx(expected, rel=1e-8)
    assert frechet(a, b) == pytest.approx(frechet(b, a), rel=1e-8)


@pytest.mark.parametrize(("n", "m"), [(8, 9), (4, 200), (30, 30), (90, 70)])
def test_frechet_is_that_of_the_moments_with_few_images_and_with_many(n: int, m: int) -> None:
    a, b = features(n, 20), features(m, 20, seed=1, shift=0.5)
    moments = [f(x.astype(np.float64)) for x in (a, b) for f in (lambda x: x.mean(0), lambda x: np.cov(x.T))]
    assert frechet(a, b) == pytest.approx(frechet_of_moments(*moments), rel=1e-6)


def test_frechet_of_fewer_images_than_features_is_finite_and_zero_to_itself() -> None:
    a = features(5, 40)
    assert frechet(a, a) == pytest.approx(0, abs=1e-4)
    assert frechet(a, features(6, 40, seed=1)) > 1


@pytest.mark.parametrize("block", [7, 2048])
def test_kernel_agrees_with_torchmetrics(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "KERNEL_BLOCK", block)
    a, b = features(30, 6), features(30, 6, seed=1, shift=1.0)
    expected = poly_mmd(torch.from_numpy(a).double(), torch.from_numpy(b).double())
    assert kernel(a, b) == pytest.approx(expected.item(), rel=1e-9)


def test_kernel_of_sets_of_different_sizes_has_a_closed_form() -> None:
    a, b = np.array([[0.0], [1.0]]), np.array([[1.0], [2.0], [0.0]])

    def k(x: float, y: float) -> float:
        return (x * y + 1) ** 3

    within_b = (k(1, 2) + k(1, 0) + k(2, 0)) / 3
    across = sum(k(x, y) for x in (0, 1) for y in (1, 2, 0)) / 6
    assert kernel(a, b) == pytest.approx(k(0, 1) + within_b - 2 * across)


def test_kernel_is_unbiased_and_frechet_is_not() -> None:
    pairs = [(features(40, 3, seed=2 * i), features(40, 3, seed=2 * i + 1)) for i in range(200)]
    found = np.array([kernel(a, b) for a, b in pairs])
    assert abs(found.mean()) < 3 * found.std() / len(found) ** 0.5
    assert min(frechet(a, b) for a, b in pairs) > 0


@pytest.mark.parametrize("distance", [frechet, kernel])
@pytest.mark.parametrize(
    ("a", "b", "complaint"),
    [
        (np.zeros((1, 3)), np.zeros((4, 3)), "at least 2 each"),
        (np.zeros((4, 3)), np.zeros((4, 2)), "same d"),
        (np.zeros(4), np.zeros(4), "same d"),
        (np.full((4, 3), np.nan), np.zeros((4, 3)), "not finite"),
    ],
)
def test_bad_features_are_refused(distance, a: np.ndarray, b: np.ndarray, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        distance(a, b)


def test_kernels_without_a_group_are_those_of_the_other_groups() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((25, 3)), rng.standard_normal((31, 3)) + 0.5
    parts = [np.array_split(x, 4) for x in (a, b)]
    found = kernels_without(*parts)
    left = [kernel(*(np.concatenate([*x[:g], *x[g + 1 :]]) for x in parts)) for g in range(4)]
    assert found == pytest.approx([kernel(a, b), *left])


@pytest.mark.parametrize("rows", [1, 7, 4096])
def test_blocks_change_nothing(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((40, 6)).astype(np.float32), rng.standard_normal((30, 6)).astype(np.float32) + 1
    moments = [part for x in (a, b) for part in (x.mean(0, dtype=float), np.cov(x.astype(float).T))]
    whole = kernel(a, b)
    monkeypatch.setattr(distances, "KERNEL_BLOCK", rows)
    assert frechet(a, b) == pytest.approx(frechet_of_moments(*moments), rel=1e-6)
    assert kernel(a, b) == pytest.approx(whole, rel=1e-9)
