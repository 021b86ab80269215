"""How much does a code tell a linear reader? AUROC of binary attributes, R2 of numbers (paper Table 8)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from diffae.errors import DataError
from diffae.evaluation.statistics import Estimate, auroc
from diffae.linear import LEAST_OF_CLASS, fit_plane


@dataclass(frozen=True)
class Reading:
    """One attribute, read from codes of unseen images."""

    attribute: str
    area: Estimate
    positives: int
    """Among the tested images."""


def read_attribute(
    name: str,
    codes: Float[np.ndarray, "n d"],
    labels: Float[np.ndarray, " n"],
    test_codes: Float[np.ndarray, "m d"],
    test_labels: Float[np.ndarray, " m"],
    seed: int = 0,
) -> Reading:
    """AUROC, on test images, of the logistic regression that attribute directions use (see `diffae.linear`).

    Args:
        name: of the attribute.
        codes, labels: of the images to fit; labels 0, 1 or NaN (unknown, left out).
        test_codes, test_labels: of other images.
        seed: of the bootstrap.
    Raises:
        DataError: fewer than 5 examples of a class.
    """
    x, y = _known(name, codes, labels)
    x_test, y_test = _known(name, test_codes, test_labels)
    mean, std = x.mean(axis=0), x.std(axis=0)
    std = np.where(std > 0, std, 1.0)
    plane, _ = fit_plane((x - mean) / std, y, binary=True)
    area = auroc(plane.read((x_test - mean) / std), y_test == 1, seed)
    return Reading(name, area, int((y_test == 1).sum()))


def _known(name: str, codes: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known = ~np.isnan(labels)
    positives = int((labels[known] == 1).sum())
    if min(positives, int(known.sum()) - positives) < LEAST_OF_CLASS:
        counts = f"{positives} positives and {int(known.sum()) - positives} negatives"
        raise DataError(
            f"attribute {name!r} has {counts}: at least {LEAST_OF_CLASS} of each are needed; label more images"
        )
    return codes[known].astype(np.float64), labels[known]


def macro_average(readings: list[Reading]) -> float:
    """Plain mean of the areas."""
    return float(np.mean([reading.area.value for reading in readings]))


def weighted_average(readings: list[Reading]) -> float:
    """Mean of the areas, each weighted by its number of positives, as the paper weighs them."""
    return float(np.average([r.area.value for r in readings], weights=[r.positives for r in readings]))
