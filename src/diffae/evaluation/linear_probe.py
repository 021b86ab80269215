"""How much does a code tell a linear reader? AUROC of binary attributes, R2 of numbers (paper Table 8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from diffae.errors import DataError
from diffae.evaluation.statistics import RESAMPLES, SHARES, Estimate, areas, auroc
from diffae.latent.probes import LEAST_OF_CLASS, fit_plane


@dataclass(frozen=True)
class ProbeResult:
    """One attribute, read from codes of unseen images."""

    attribute: str
    area: Estimate
    positives: int
    """Among the tested images."""
    logits: Float[np.ndarray, " m"]
    labels: Float[np.ndarray, " m"]
    """Of all tested images: 1, 0 or NaN (unknown)."""


def probe_attribute(
    name: str,
    codes: Float[np.ndarray, "n d"],
    labels: Float[np.ndarray, " n"],
    test_codes: Float[np.ndarray, "m d"],
    test_labels: Float[np.ndarray, " m"],
) -> ProbeResult:
    """AUROC, on test images, of the logistic regression that attribute directions use (see `diffae.latent.probes`).

    Args:
        name: of the attribute.
        codes, labels: of the images to fit; labels 0, 1 or NaN (unknown, left out).
        test_codes, test_labels: of other images.
    Raises:
        DataError: fewer than 5 examples of a class.
    """
    x, y = _known(name, codes, labels)
    _, y_test = _known(name, test_codes, test_labels)
    mean, std = x.mean(axis=0), x.std(axis=0)
    std = np.where(std > 0, std, 1.0)
    plane, _ = fit_plane((x - mean) / std, y, binary=True)
    logits = plane.read((test_codes - mean) / std)
    area = auroc(logits[~np.isnan(test_labels)], y_test == 1)
    return ProbeResult(name, area, int((y_test == 1).sum()), logits, test_labels)


def probeable(
    labels: Mapping[str, Float[np.ndarray, " n"]], test_labels: Mapping[str, Float[np.ndarray, " m"]]
) -> list[str]:
    """Attributes of which there are enough examples of both classes, to fit and to test."""

    def enough(values: np.ndarray) -> bool:
        return min((values == 1).sum(), (values == 0).sum()) >= LEAST_OF_CLASS

    return [name for name in labels if name in test_labels and enough(labels[name]) and enough(test_labels[name])]


def _known(name: str, codes: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known = ~np.isnan(labels)
    positives = int((labels[known] == 1).sum())
    if min(positives, int(known.sum()) - positives) < LEAST_OF_CLASS:
        counts = f"{positives} positives and {int(known.sum()) - positives} negatives"
        raise DataError(
            f"attribute {name!r} has {counts}: at least {LEAST_OF_CLASS} of each are needed; label more images"
        )
    return codes[known].astype(np.float64), labels[known]


def macro_average(readings: list[ProbeResult]) -> float:
    """Plain mean of the areas."""
    return float(np.mean([reading.area.value for reading in readings]))


def lead(readings: list[ProbeResult], others: list[ProbeResult], seed: int = 0) -> Estimate:
    """By how much the weighted average of some readings is above that of others, of the same images and attributes.

    With the percentile bootstrap's interval; both read the same images, so the same are drawn for both.
    """
    count = len(readings[0].labels)
    rows = np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))
    weights = [reading.positives for reading in readings]
    pairs = zip(readings, others, strict=True)
    leads = [areas(a.logits, a.labels, rows) - areas(b.logits, b.labels, rows) for a, b in pairs]
    low, high = np.nanpercentile(np.average(leads, axis=0, weights=weights), SHARES)
    value = weighted_average(readings) - weighted_average(others)
    return Estimate(value, float(low), float(high), count)


def weighted_average(readings: list[ProbeResult]) -> float:
    """Mean of the areas, each weighted by its number of positives, as the paper weighs them."""
    return float(np.average([r.area.value for r in readings], weights=[r.positives for r in readings]))
