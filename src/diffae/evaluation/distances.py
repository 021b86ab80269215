"""Frechet and kernel distances between two sets of features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Float64

from diffae.errors import DataError

KERNEL_BLOCK = 2048
"""Rows of features, and of the kernel matrix, in memory at once."""


def frechet(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> float:
    """Frechet distance of the Gaussians fitted to two sets of features (Heusel et al. 2017, Eq. 6), in float64.

    |m_a - m_b|^2 + tr(A + B - 2 (A B)^(1/2)), biased upwards: for two samples of size n from the same distribution it
    is of the order of d^2 / n.

    Raises:
        DataError: a set has fewer than two rows, the widths differ, or values are not finite.
    """
    _check(a, b)
    # with X and Y the centred features over sqrt(n - 1), A = X'X and B = Y'Y, so tr (A B)^(1/2) is the sum of the
    # singular values of X Y'; the R of X = QR has the same X'X in at most d rows
    (mean_a, x), (mean_b, y) = _mean_and_factor(a), _mean_and_factor(b)
    cross = np.linalg.svd(np.inner(x, y), compute_uv=False).sum()
    spread = np.square(x).sum() + np.square(y).sum() - 2 * cross
    return float(np.square(mean_a - mean_b).sum() + max(spread, 0.0))


def _mean_and_factor(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of features, and R with R'R their covariance, from a few rows at a time."""
    mean = sum((block.sum(axis=0) for block in _blocks(rows)), np.zeros(rows.shape[1])) / len(rows)
    factor = np.zeros((0, rows.shape[1]))
    for block in _blocks(rows):
        centred = (block - mean) / np.sqrt(len(rows) - 1)
        factor = np.asarray(np.linalg.qr(np.concatenate([factor, centred]), mode="r"))
    return mean, factor


def kernel(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> float:
    """Kernel distance: the unbiased squared MMD with the kernel (x y / d + 1)^3 (Binkowski et al. 2018, Eq. 4).

    Its expectation is 0 for two samples of the same distribution, at any size, so it may be slightly negative. It
    uses all pairs, not random subsets.

    Raises:
        DataError: a set has fewer than two rows, the widths differ, or values are not finite.
    """
    return float(kernels_without([a], [b])[0])


def kernels_without(
    a: Sequence[Float[np.ndarray, "n d"]], b: Sequence[Float[np.ndarray, "m d"]]
) -> Float64[np.ndarray, " groups"]:
    """Kernel distance of two sets, then of the sets without each group in turn (as many groups in both).

    Each pair of images is compared once, whatever is left out; a few thousand rows are in memory at a time.

    Args:
        a, b: features of the groups of each set.
    Raises:
        DataError: as of `kernel`.
    """
    for one, other in zip(a, b, strict=True):
        _check(one, other, least=2 if len(a) == 1 else 1)
    across, within = _sums(a, b), [(_sums(x, x) - np.diag(list(map(_diagonal_sum, x))), _sizes(x)) for x in (a, b)]
    left_out = [np.zeros(len(a)), *np.eye(len(a))][: 1 if len(a) == 1 else None]
    found = []
    for kept in (1 - out for out in left_out):
        sizes = [kept @ count for _, count in within]
        inside = [kept @ total @ kept / (n * (n - 1)) for (total, _), n in zip(within, sizes, strict=True)]
        found.append(sum(inside) - 2 * (kept @ across @ kept) / (sizes[0] * sizes[1]))
    return np.array(found)


def _sums(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([[_kernel_sum(x, y) for y in b] for x in a])


def _sizes(groups: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([len(group) for group in groups], np.float64)


def _kernel_sum(a: np.ndarray, b: np.ndarray) -> float:
    return sum(((x @ y.T / a.shape[1] + 1) ** 3).sum() for x in _blocks(a) for y in _blocks(b))


def _diagonal_sum(a: np.ndarray) -> float:
    return sum(((np.square(x).sum(1) / a.shape[1] + 1) ** 3).sum() for x in _blocks(a))


def _blocks(rows: np.ndarray) -> Iterator[Float64[np.ndarray, "k d"]]:
    """A few rows at a time, in float64."""
    for start in range(0, len(rows), KERNEL_BLOCK):
        yield rows[start : start + KERNEL_BLOCK].astype(np.float64)


def _check(a: np.ndarray, b: np.ndarray, least: int = 2) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise DataError(f"features have shapes {a.shape} and {b.shape}: they must be (images, d) of the same d")
    if min(len(a), len(b)) < least:
        raise DataError(f"features of {len(a)} and {len(b)} images: a distance of distributions needs at least 2 each")
    if not all(np.isfinite(block).all() for rows in (a, b) for block in _blocks(rows)):
        raise DataError("features are not finite: look at the images, or at the network they come from")
