"""Numbers with their uncertainty: means, areas under ROC curves and distances of samples, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata

from diffae.errors import DataError
from diffae.latent import probes as linear

RESAMPLES = 1000
"""Bootstrap resamples behind an interval."""
GROUPS = 10
"""Parts of a sample that the jackknife leaves out in turn."""

SHARES = (2.5, 97.5)
"""Percentiles of a 95 % interval."""

_NORMAL = 1.96  # half a 95 % interval of a normal distribution, in standard deviations


@dataclass(frozen=True)
class Estimate:
    """A number measured on a sample, with its 95 % interval."""

    value: float
    low: float
    high: float
    count: int
    """Images (or pairs) it was measured on."""

    def above(self, bound: float) -> bool | None:
        """Whether the number is above a bound; None where the interval holds both answers."""
        return True if self.low > bound else False if self.high < bound else None


def mean(values: Float[np.ndarray, " n"], seed: int = 0) -> Estimate:
    """Mean with its percentile bootstrap interval.

    Raises:
        DataError: no values, or values that are not finite.
    """
    values = np.asarray(values, np.float64)
    if not len(values) or not np.isfinite(values).all():
        raise DataError(f"{len(values)} values, not all finite: a mean needs at least one image and finite errors")
    drawn = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), SHARES)
    return Estimate(float(values.mean()), float(low), float(high), len(values))


def auroc(scores: Float[np.ndarray, " n"], positive: np.ndarray) -> Estimate:
    """Area under the ROC curve, with Newcombe's interval (see `diffae.latent.probes`), which is never empty.

    Args:
        scores: higher means positive; ties count half.
        positive: (n,) true or false.
    Raises:
        DataError: all of one class.
    """
    positive = np.asarray(positive, bool)
    ones = int(positive.sum())
    if not 0 < ones < len(positive):
        raise DataError(f"{ones} positives and {len(positive) - ones} negatives: AUROC needs at least one of each")
    found = linear.auroc(np.asarray(scores, np.float64), positive.astype(np.float64))
    return Estimate(found.value, found.low, found.high, len(positive))


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


def areas(
    scores: Float[np.ndarray, " n"], labels: Float[np.ndarray, " n"], rows: Int[np.ndarray, "k n"]
) -> Float[np.ndarray, " k"]:
    """Area under the ROC curve of each of k choices of images: the Mann-Whitney statistic.

    Args:
        scores: higher means 1.
        labels: 1, 0 or NaN, which does not count.
        rows: the images of each choice, some of them several times.
    Returns:
        NaN where a choice has images of one class only.
    """
    known = ~np.isnan(labels)
    ranks = rankdata(np.where(known, scores, -np.inf)[rows], axis=1)  # the unknown come first
    ones = (labels == 1)[rows]
    n, unknown = ones.sum(axis=1), (~known)[rows].sum(axis=1)
    m = len(labels) - unknown - n
    with np.errstate(invalid="ignore"):
        return ((ranks * ones).sum(axis=1) - n * (unknown + (n + 1) / 2)) / (n * m)
