"""Linear probes: how well a linear classifier predicts binary attributes from codes (paper Table 8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import expit

from diffae.errors import DataError
from diffae.evaluation.statistics import Estimate, areas, auroc
from diffae.latent.attribute_labels import Target
from diffae.latent.attributes import Attribute, AttributeDirections
from diffae.latent.probes import LEAST_OF_CLASS, Plane, bootstrap_interval, fit_plane


@dataclass(frozen=True)
class ProbeResult:
    """A linear probe of one attribute, tested on unseen images."""

    attribute: str
    area: Estimate
    """Area under the ROC curve."""
    positives: int
    """Among the test images."""
    logits: Float[np.ndarray, " m"]
    labels: Float[np.ndarray, " m"]
    """Of all test images: 1, 0 or NaN (unknown)."""


_STEP, _MOST_STEPS = 1e-3, 10_000  # Adam's
_CHECKED, _CONVERGED = 100, 1e-5  # steps between checks; relative fall of the loss below which training ends
_SEPARATED = 1e-3  # loss below which it ends, too: where classes can be separated, no minimum exists


def fit_adam(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, " n"]) -> Plane:
    """The paper's classifier: logistic regression without a penalty, by Adam with a learning rate of 1e-3 (Appendix E).

    All examples make one batch. "Until convergence" is taken to mean that 100 steps lower the loss by less than a
    100,000th of it, that the loss is below 0.001, or that 10,000 steps were taken.

    Args:
        x: of zero mean and unit variance.
        y: 0 or 1.
    """
    n, d = x.shape
    inputs = np.column_stack([x, np.ones(n)]).astype(np.float32)
    weights, first, second = (np.zeros(d + 1, np.float32) for _ in range(3))
    before = np.inf
    for step in range(1, _MOST_STEPS + 1):
        logits = inputs @ weights
        if step % _CHECKED == 1:
            loss = float(np.mean(np.logaddexp(0, logits) - y * logits))
            if before - loss < _CONVERGED * before < np.inf or loss < _SEPARATED:
                break
            before = loss
        gradient = (expit(logits) - y).astype(np.float32) @ inputs / n
        first += 0.1 * (gradient - first)  # Adam's usual beta_1 = 0.9 and beta_2 = 0.999
        second += 0.001 * (gradient**2 - second)
        root = np.sqrt(second / (1 - 0.999**step)) + 1e-8
        weights -= _STEP * first / (1 - 0.9**step) / root
    return Plane(weights[:-1].astype(np.float64), float(weights[-1]))


class PaperDirections(AttributeDirections):
    """Attribute directions whose weight vectors are those of the paper's classifiers (`fit_adam`)."""

    @staticmethod
    def _fit_one(x: np.ndarray, target: Target) -> tuple[Plane, float, Attribute]:
        known = ~np.isnan(target.values)
        plane, median, attribute = AttributeDirections._fit_one(x, target)
        if target.binary:
            plane = fit_adam(x[known], target.values[known])
            median = float(np.median(plane.read(x[known][target.values[known] == 1])))
        return plane, median, attribute


def probe_attribute(
    name: str,
    codes: Float[np.ndarray, "n d"],
    labels: Float[np.ndarray, " n"],
    test_codes: Float[np.ndarray, "m d"],
    test_labels: Float[np.ndarray, " m"],
    *,
    published: bool = False,
) -> ProbeResult:
    """Fit the logistic regression of attribute directions (`diffae.latent.probes`), and test it on other images.

    Args:
        name: of the attribute.
        codes: of the images to fit.
        labels: theirs: 0, 1 or NaN (unknown, left out).
        test_codes: of other images.
        test_labels: theirs.
        published: fit the paper's classifier (`fit_adam`) instead.
    Raises:
        DataError: fewer than 5 examples of a class.
    """
    from sklearn.preprocessing import StandardScaler

    for values in (labels, test_labels):
        positives, negatives = _counts(values)
        if min(positives, negatives) < LEAST_OF_CLASS:
            rule = f"at least {LEAST_OF_CLASS} of each are needed; label more images"
            raise DataError(f"attribute {name!r} has {positives} positives and {negatives} negatives: {rule}")
    known, tested = ~np.isnan(labels), ~np.isnan(test_labels)
    scaler = StandardScaler()
    x = np.asarray(scaler.fit_transform(codes[known].astype(np.float64)))
    plane = fit_adam(x, labels[known]) if published else fit_plane(x, labels[known], binary=True)[0]
    logits = plane.read(np.asarray(scaler.transform(test_codes)))
    area = auroc(logits[tested], test_labels[tested] == 1)
    return ProbeResult(name, area, _counts(test_labels)[0], logits, test_labels)


def probeable(
    labels: Mapping[str, Float[np.ndarray, " n"]], test_labels: Mapping[str, Float[np.ndarray, " m"]]
) -> list[str]:
    """Attributes with enough examples of both classes to fit and to test a probe."""
    both = [name for name in labels if name in test_labels]
    return [name for name in both if min(*_counts(labels[name]), *_counts(test_labels[name])) >= LEAST_OF_CLASS]


def _counts(labels: np.ndarray) -> tuple[int, int]:
    """Positives and negatives."""
    return int((labels == 1).sum()), int((labels == 0).sum())


def macro_average(probes: list[ProbeResult]) -> float:
    """Unweighted mean of the areas."""
    return float(np.mean([probe.area.value for probe in probes]))


def weighted_average(probes: list[ProbeResult]) -> float:
    """Mean of the areas weighted by their numbers of positives, as in the paper."""
    return float(np.average([p.area.value for p in probes], weights=[p.positives for p in probes]))


def lead(probes: list[ProbeResult], others: list[ProbeResult], seed: int = 0) -> Estimate:
    """Difference between the weighted averages of two codes, with its paired bootstrap interval.

    Args:
        probes: of one code.
        others: of another code of the same images, for the same attributes in the same order.
        seed: of the resampling.
    """
    count, weights = len(probes[0].labels), [probe.positives for probe in probes]

    def difference(rows: np.ndarray) -> np.ndarray:
        pairs = zip(probes, others, strict=True)
        each = [areas(a.logits, a.labels, rows) - areas(b.logits, b.labels, rows) for a, b in pairs]
        return np.average(each, axis=0, weights=weights)

    value = weighted_average(probes) - weighted_average(others)
    return Estimate(value, *bootstrap_interval(difference, count, seed), count)
