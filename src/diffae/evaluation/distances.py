"""Frechet and kernel distances between two sets of features."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from diffae.errors import DataError

KERNEL_BLOCK = 2048
"""Rows of the kernel matrix held in memory at once."""


def frechet(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> float:
    """Frechet distance of the Gaussians fitted to two sets of features (Heusel et al. 2017, Eq. 6), in float64.

    It is biased upwards: for two samples of size n from the same distribution it is of the order of d^2 / n.

    Raises:
        DataError: a set has fewer than two rows, the widths differ, or values are not finite.
    """
    _check(a, b)
    mean_a, mean_b = a.mean(0, np.float64), b.mean(0, np.float64)
    if len(a) * len(b) >= a.shape[1] ** 2:
        return frechet_of_moments(mean_a, _covariance(a), mean_b, _covariance(b))
    # few images: with X and Y the centred features over sqrt(n - 1), A = X'X and B = Y'Y, so tr (A B)^(1/2) is the
    # sum of the singular values of X Y', which is a smaller matrix than A and B
    x, y = ((rows - mean) / np.sqrt(len(rows) - 1) for rows, mean in ((a, mean_a), (b, mean_b)))
    cross = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    spread = np.square(x).sum() + np.square(y).sum() - 2 * cross
    return float(np.square(mean_a - mean_b).sum() + max(spread, 0.0))


def frechet_of_moments(
    mean_a: Float[np.ndarray, " d"],
    covariance_a: Float[np.ndarray, "d d"],
    mean_b: Float[np.ndarray, " d"],
    covariance_b: Float[np.ndarray, "d d"],
) -> float:
    """Squared Frechet distance of two Gaussians: |m_a - m_b|^2 + tr(A + B - 2 (A B)^(1/2)).

    The trace of (A B)^(1/2) is computed as the sum of the square roots of the eigenvalues of A^(1/2) B A^(1/2): that
    matrix is symmetric, so the result is real even where A or B is singular, as with fewer images than features.
    """
    values, vectors = np.linalg.eigh(covariance_a)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    cross = np.linalg.eigvalsh(root @ covariance_b @ root).clip(0)
    spread = np.trace(covariance_a) + np.trace(covariance_b) - 2 * np.sqrt(cross).sum()
    return float(np.square(mean_a - mean_b).sum() + max(spread, 0.0))


def kernel(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> float:
    """Kernel distance: the unbiased squared MMD with the kernel (x y / d + 1)^3 (Binkowski et al. 2018, Eq. 4).

    Its expectation is 0 for two samples of the same distribution, at any size, so it may be slightly negative. It
    uses all pairs, not random subsets.

    Raises:
        DataError: a set has fewer than two rows, the widths differ, or values are not finite.
    """
    _check(a, b)
    n, m = len(a), len(b)
    within = (_kernel_sum(a, a) - _diagonal_sum(a)) / (n * (n - 1)) + (_kernel_sum(b, b) - _diagonal_sum(b)) / (
        m * (m - 1)
    )
    return float(within - 2 * _kernel_sum(a, b) / (n * m))


def _kernel_sum(a: np.ndarray, b: np.ndarray) -> float:
    b = b.astype(np.float64)
    blocks = (a[start : start + KERNEL_BLOCK].astype(np.float64) for start in range(0, len(a), KERNEL_BLOCK))
    return float(sum(((block @ b.T / a.shape[1] + 1) ** 3).sum() for block in blocks))


def _diagonal_sum(a: np.ndarray) -> float:
    return float(((np.square(a.astype(np.float64)).sum(1) / a.shape[1] + 1) ** 3).sum())


def _covariance(a: np.ndarray) -> Float[np.ndarray, "d d"]:
    return np.atleast_2d(np.cov(a.astype(np.float64), rowvar=False))


def _check(a: np.ndarray, b: np.ndarray) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise DataError(f"features have shapes {a.shape} and {b.shape}: they must be (images, d) of the same d")
    if min(len(a), len(b)) < 2:
        raise DataError(f"features of {len(a)} and {len(b)} images: a distance of distributions needs at least 2 each")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise DataError("features are not finite: look at the images, or at the network they come from")
