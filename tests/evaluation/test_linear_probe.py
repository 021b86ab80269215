"""Linear probes: codes that hold an attribute, and codes that do not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from diffae.errors import DataError
from diffae.evaluation.linear_probe import (
    PaperDirections,
    ProbeResult,
    fit_adam,
    lead,
    macro_average,
    probe_attribute,
    probeable,
    weighted_average,
)
from diffae.evaluation.statistics import Estimate, auroc


def codes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(count, 5)) * [1, 10, 0.1, 1, 1] + 3
    return z, (z[:, 2] + 0.02 * rng.normal(size=count) > 3).astype(float)


def test_a_probe_finds_an_attribute_in_the_code_and_is_at_chance_otherwise() -> None:
    (x, y), (x_test, y_test) = codes(300, 0), codes(300, 1)
    x[:, 4] = 7  # a constant component is harmless
    assert probe_attribute("a", x, y, x_test, y_test).area.value > 0.97
    luck = probe_attribute("b", x, np.random.default_rng(2).integers(0, 2, 300).astype(float), x_test, y_test)
    assert luck.area.value < 0.7
    assert luck.positives == int(y_test.sum())


def test_unknown_labels_are_left_out() -> None:
    (x, y), (x_test, y_test) = codes(300, 0), codes(100, 1)
    whole = probe_attribute("a", x[:200], y[:200], x_test[:80], y_test[:80])
    y[200:], y_test[80:] = np.nan, np.nan
    assert probe_attribute("a", x, y, x_test, y_test).area == whole.area


def test_too_few_examples_are_refused() -> None:
    x, y = codes(50, 0)
    with pytest.raises(DataError, match=r"'hat' has 2 positives and 48 negatives: at least 5"):
        probe_attribute("hat", x, (np.arange(50) < 2).astype(float), x, y)


def test_averages_are_weighted_by_positives_or_not_at_all() -> None:
    nothing = np.zeros(0)
    probes = [
        ProbeResult("a", Estimate(0.9, 0, 1, 10), 1, nothing, nothing),
        ProbeResult("b", Estimate(0.5, 0, 1, 10), 3, nothing, nothing),
    ]
    assert macro_average(probes) == pytest.approx(0.7)
    assert weighted_average(probes) == pytest.approx(0.6)


def test_the_interval_of_a_lead_mostly_covers_the_true_lead() -> None:
    """Two probes of the same 200 images, with common noise, whose true areas differ by 0.0996."""
    rng = np.random.default_rng(5)
    inside = 0
    for trial in range(40):
        labels = np.arange(200) % 2.0
        common = rng.normal(size=200)
        read = [
            strength * labels + 0.8 * common + 0.6 * rng.normal(size=200) for strength in (1.5, 1.0)
        ]  # of unit variance within a class: areas Phi(strength / sqrt(2))
        ours, theirs = (ProbeResult("a", auroc(logits, labels == 1), 100, logits, labels) for logits in read)
        found = lead([ours], [theirs], trial)
        assert found.value == pytest.approx(ours.area.value - theirs.area.value)
        inside += found.low < norm.cdf(1.5 / 2**0.5) - norm.cdf(1 / 2**0.5) < found.high
    assert inside >= 34  # of 40; 38 are expected


def test_attributes_with_too_few_examples_are_left_out() -> None:
    some, few = np.arange(20) % 2.0, (np.arange(20) < 2).astype(float)
    assert probeable({"a": some, "b": few, "c": some}, {"a": some, "b": some, "c": few}) == ["a"]


def test_the_papers_classifier_converges_to_the_maximum_of_the_likelihood() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3))
    y = (x @ [1.0, -0.5, 0.0] + rng.logistic(size=400) > 0).astype(float)
    plane, exact = fit_adam(x, y), LogisticRegression(C=np.inf).fit(x, y)
    np.testing.assert_allclose(plane.weight, exact.coef_[0], atol=0.03)
    assert plane.intercept == pytest.approx(exact.intercept_[0], abs=0.03)


def test_directions_of_the_papers_classifier_reach_the_median_of_images_with_the_attribute() -> None:
    z, y = codes(300, 0)
    y[:30] = np.nan
    fitted = PaperDirections().fit(z, {"hat": y})
    plane = fit_adam(fitted.normalise(z)[30:], y[30:])
    np.testing.assert_allclose(fitted.weights_[0], plane.weight, rtol=1e-6)
    assert fitted.medians_[0] == pytest.approx(np.median(fitted.read(z)[y == 1]))
