"""Frechet and kernel distances between two sets of features."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64

from diffae.errors import DataError

KERNEL_BLOCK = 2048
"""Rows of the kernel matrix held in memory at once."""


def frechet(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> float:
    """Frechet distance of the Gaussians fitted to two sets of features (Heusel et al. 2017, Eq. 6), in float64.

    |m_a - m_b|^2 + tr(A + B - 2 (A B)^(1/2)), biased upwards: for two samples of size n from the same distribution it
    is of the order of d^2 / n.

    Raises:
        DataError: a set has fewer than two rows, the widths differ, or values are not finite.
    """
    a, b = _checked(a, b)
    # with X and Y the centred features over sqrt(n - 1), A = X'X and B = Y'Y, so tr (A B)^(1/2) is the sum of the
    # singular values of X Y'; the R of X = QR has the same X'X in at most d rows
    x, y = (np.linalg.qr((rows - rows.mean(0)) / np.sqrt(len(rows) - 1), mode="r") for rows in (a, b))
    cross = np.linalg.svd(np.inner(x, y), compute_uv=False).sum()
    spread = np.square(x).sum() + np.square(y).sum() - 2 * cross
    return float(np.square(a.mean(0) - b.mean(0)).sum() + max(spread, 0.0))


def kernel(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> float:
    """Kernel distance: the unbiased squared MMD with the kernel (x y / d + 1)^3 (Binkowski et al. 2018, Eq. 4).

    Its expectation is 0 for two samples of the same distribution, at any size, so it may be slightly negative. It
    uses all pairs, not random subsets.

    Raises:
        DataError: a set has fewer than two rows, the widths differ, or values are not finite.
    """
    a, b = _checked(a, b)
    within = sum((_kernel_sum(x, x) - _diagonal_sum(x)) / (len(x) * (len(x) - 1)) for x in (a, b))
    return float(within - 2 * _kernel_sum(a, b) / (len(a) * len(b)))


def _kernel_sum(a: np.ndarray, b: np.ndarray) -> float:
    blocks = (a[start : start + KERNEL_BLOCK] for start in range(0, len(a), KERNEL_BLOCK))
    return sum(((block @ b.T / a.shape[1] + 1) ** 3).sum() for block in blocks)


def _diagonal_sum(a: np.ndarray) -> float:
    return ((np.square(a).sum(1) / a.shape[1] + 1) ** 3).sum()


def _checked(a: np.ndarray, b: np.ndarray) -> tuple[Float64[np.ndarray, "n d"], Float64[np.ndarray, "m d"]]:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise DataError(f"features have shapes {a.shape} and {b.shape}: they must be (images, d) of the same d")
    if min(len(a), len(b)) < 2:
        raise DataError(f"features of {len(a)} and {len(b)} images: a distance of distributions needs at least 2 each")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise DataError("features are not finite: look at the images, or at the network they come from")
    return a.astype(np.float64), b.astype(np.float64)
