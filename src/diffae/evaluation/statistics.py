"""Numbers with their uncertainty: means, areas under ROC curves and distances of samples, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from diffae.errors import DataError

RESAMPLES = 1000
"""Bootstrap resamples behind an interval."""
GROUPS = 10
"""Parts of a sample that the jackknife leaves out in turn."""

_SHARES = (2.5, 97.5)  # percentiles of a 95 % interval
_NORMAL = 1.96  # half a 95 % interval of a normal distribution, in standard deviations


@dataclass(frozen=True)
class Estimate:
    """A number measured on a sample, with its 95 % interval."""

    value: float
    low: float
    high: float
    count: int
    """Images (or pairs) it was measured on."""


def mean(values: Float[np.ndarray, " n"], seed: int = 0) -> Estimate:
    """Mean with its percentile bootstrap interval.

    Raises:
        DataError: no values, or values that are not finite.
    """
    values = np.asarray(values, np.float64)
    if not len(values) or not np.isfinite(values).all():
        raise DataError(f"{len(values)} values, not all finite: a mean needs at least one image and finite errors")
    drawn = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), _SHARES)
    return Estimate(float(values.mean()), float(low), float(high), len(values))


def auroc(scores: Float[np.ndarray, " n"], positive: np.ndarray, seed: int = 0) -> Estimate:
    """Area under the ROC curve, with its percentile bootstrap interval (positives and negatives drawn apart).

    Args:
        scores: higher means positive; ties count half.
        positive: (n,) true or false.
    Raises:
        DataError: all of one class.
    """
    positive = np.asarray(positive, bool)
    one, other = np.asarray(scores, np.float64)[positive], np.asarray(scores, np.float64)[~positive]
    if not len(one) or not len(other):
        raise DataError(f"{len(one)} positives and {len(other)} negatives: AUROC needs at least one of each")
    rng = np.random.default_rng(seed)
    drawn = [x[rng.integers(0, len(x), (RESAMPLES, len(x)))] for x in (one, other)]
    low, high = np.percentile(_areas(*drawn), _SHARES)
    return Estimate(float(_areas(one[None], other[None])[0]), float(low), float(high), len(positive))


def jackknife(
    statistic: Callable[..., float], samples: Sequence[Float[np.ndarray, "n d"]], seed: int = 0, groups: int = GROUPS
) -> Estimate:
    """A statistic of samples, such as a distance, with a normal interval from leaving out a tenth of each in turn.

    The bootstrap would draw rows twice, which biases distances of distributions; the jackknife does not.

    Raises:
        DataError: fewer rows than groups.
    """
    least = min(len(sample) for sample in samples)
    if least < groups:
        raise DataError(f"{least} images: the interval of a distance needs at least {groups}; use more images")
    rng = np.random.default_rng(seed)
    parts = [np.array_split(rng.permutation(len(sample)), groups) for sample in samples]
    without = np.array(
        [
            statistic(*(np.delete(sample, rows[group], axis=0) for sample, rows in zip(samples, parts, strict=True)))
            for group in range(groups)
        ]
    )
    error = np.sqrt((groups - 1) / groups * np.square(without - without.mean()).sum())
    value = statistic(*samples)
    return Estimate(float(value), float(value - _NORMAL * error), float(value + _NORMAL * error), least)


def _areas(one: Float[np.ndarray, "k n"], other: Float[np.ndarray, "k m"]) -> Float[np.ndarray, " k"]:
    """The Mann-Whitney statistic of each row: the share of pairs in which the positive scores higher."""
    n, m = one.shape[1], other.shape[1]
    ranks = rankdata(np.concatenate([one, other], axis=1), axis=1)[:, :n].sum(axis=1)
    return (ranks - n * (n + 1) / 2) / (n * m)
