"""Numbers with their uncertainty: means, areas under ROC curves and distances, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm, rankdata, t

from diffae.errors import DataError
from diffae.latent import probes
from diffae.latent.probes import bootstrap_interval

GROUPS = 10
"""Parts of a sample that the jackknife leaves out in turn."""


@dataclass(frozen=True)
class Estimate:
    """A number measured on a sample, with its 95 % interval."""

    value: float
    low: float
    high: float
    count: int
    """Images (or pairs) it was measured on."""

    def above(self, bound: float) -> bool | None:
        """Whether the number exceeds a bound; None where the bound lies within the interval."""
        return True if self.low > bound else False if self.high < bound else None


def mean(values: Float[np.ndarray, " n"], seed: int = 0) -> Estimate:
    """Mean with its bootstrap interval.

    Raises:
        DataError: there are no values, or some are not finite.
    """
    values = np.asarray(values, np.float64)
    if not len(values) or not np.isfinite(values).all():
        raise DataError(f"{len(values)} values, not all finite: a mean needs at least one image and finite errors")
    interval = bootstrap_interval(lambda rows: values[rows].mean(axis=1), len(values), seed)
    return Estimate(float(values.mean()), *interval, len(values))


def proportion(right: Float[np.ndarray, " n"]) -> Estimate:
    """The share of ones among zeros and ones, with Wilson's interval, which is never empty, even where all are ones.

    Raises:
        DataError: there are no values.
    """
    from scipy.stats import binomtest

    if not len(right):
        raise DataError("0 values: a share needs at least one image")
    found = binomtest(int(np.sum(right)), len(right)).proportion_ci(method="wilson")
    return Estimate(float(np.mean(right)), float(found.low), float(found.high), len(right))


def auroc(scores: Float[np.ndarray, " n"], positive: np.ndarray, looked_at: int = 1) -> Estimate:
    """Area under the ROC curve with Newcombe's interval, which is never empty (see `diffae.latent.probes`).

    Args:
        scores: higher means positive; ties count half.
        positive: (n,) true or false.
        looked_at: the number of areas that this one was chosen from. The interval is widened for it (Bonferroni).
    Raises:
        DataError: all images are of one class.
    """
    positive = np.asarray(positive, bool)
    ones = int(positive.sum())
    if not 0 < ones < len(positive):
        raise DataError(f"{ones} positives and {len(positive) - ones} negatives: AUROC needs at least one of each")
    z = float(norm.ppf(1 - 0.025 / looked_at))
    found = probes.auroc(np.asarray(scores, np.float64), positive.astype(np.float64), z)
    return Estimate(found.value, found.low, found.high, len(positive))


def jackknife(
    statistic: Callable[..., float], samples: Sequence[Float[np.ndarray, "n d"]], seed: int = 0, groups: int = GROUPS
) -> Estimate:
    """A statistic of samples, such as a distance, with its delete-a-group jackknife interval.

    Each group, a tenth of every sample, is left out in turn. The bootstrap would draw rows twice, which biases
    distances between distributions.

    Raises:
        DataError: a sample has fewer rows than groups.
    """
    parts = grouped(samples, seed, groups)
    without = [
        statistic(*(np.delete(sample, rows[group], axis=0) for sample, rows in zip(samples, parts, strict=True)))
        for group in range(groups)
    ]
    return from_left_out(float(statistic(*samples)), np.array(without), min(map(len, samples)))


def grouped(samples: Sequence[np.ndarray], seed: int = 0, groups: int = GROUPS) -> list[list[Int[np.ndarray, " k"]]]:
    """For each sample the rows of its groups, drawn at random.

    Raises:
        DataError: a sample has fewer rows than groups.
    """
    least = min(len(sample) for sample in samples)
    if least < groups:
        raise DataError(f"{least} images: the interval of a distance needs at least {groups}; use more images")
    rng = np.random.default_rng(seed)
    return [np.array_split(rng.permutation(len(sample)), groups) for sample in samples]


def from_left_out(value: float, without: Float[np.ndarray, " groups"], count: int) -> Estimate:
    """A statistic with its jackknife interval, from its values without each group: Student's t for so few groups.

    Args:
        value: the statistic of all.
        without: without each group.
        count: of images.
    """
    groups = len(without)
    error = np.sqrt((groups - 1) / groups * np.square(without - without.mean()).sum())
    low, high = t.interval(0.95, groups - 1, value, error) if error > 0 else (value, value)
    return Estimate(value, float(low), float(high), count)


def areas(
    scores: Float[np.ndarray, " n"], labels: Float[np.ndarray, " n"], rows: Int[np.ndarray, "k n"]
) -> Float[np.ndarray, " k"]:
    """Area under the ROC curve of each of k resamples: the Mann-Whitney statistic, all of them at once.

    Args:
        scores: higher means 1.
        labels: 1, 0 or NaN (unknown, left out).
        rows: the images of each resample, possibly repeated.
    Returns:
        NaN where a resample has images of one class only.
    """
    known = ~np.isnan(labels)
    ranks = rankdata(np.where(known, scores, -np.inf)[rows], axis=1)  # the unknown come first
    ones = (labels == 1)[rows]
    n, unknown = ones.sum(axis=1), (~known)[rows].sum(axis=1)
    m = rows.shape[1] - unknown - n
    with np.errstate(invalid="ignore"):
        return ((ranks * ones).sum(axis=1) - n * (unknown + (n + 1) / 2)) / (n * m)
