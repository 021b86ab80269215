"""Linear probes: the fit is the optimum, and its score is measured on held-out examples."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm
from sklearn.metrics import r2_score

from diffae.latent.probes import auroc, fit_binary, fit_number, fit_plane, r_squared


def planted(n: int = 400, d: int = 6, noise: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, the score of each row (a plane through 0 with noise), and the plane's unit weight."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    weight = rng.standard_normal(d)
    weight /= np.linalg.norm(weight)
    return x, x @ weight + noise * rng.standard_normal(n), weight


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


# ---------------------------------------------------------------------- fitting


@pytest.mark.parametrize("penalty", [0.1, 30.0])
def test_logistic_regression_minimises_its_loss(penalty: float) -> None:
    x, score, _ = planted(120)
    y = (score > 0.8).astype(float)
    ones, zeros = y.sum(), (1 - y).sum()
    harmonic = 2 / (1 / ones + 1 / zeros)
    weights = np.where(y == 1, harmonic / ones, harmonic / zeros)

    def loss(parameters: np.ndarray) -> float:
        logits = x @ parameters[:-1] + parameters[-1]
        losses = np.logaddexp(0, np.where(y == 1, -logits, logits))
        return float(weights @ losses + penalty / 2 * parameters[:-1] @ parameters[:-1])

    best = minimize(loss, np.zeros(7), method="BFGS", options={"gtol": 1e-6}).x
    plane = fit_binary(x, y, penalty)
    np.testing.assert_allclose([*plane.weight, plane.intercept], best, atol=2e-3)


def test_ridge_regression_is_the_closed_form() -> None:
    x, y, _ = planted(80)
    centred = x - x.mean(axis=0)
    weight = np.linalg.solve(centred.T @ centred + 7 * np.eye(6), centred.T @ (y - y.mean()))
    plane = fit_number(x, y, 7)
    np.testing.assert_allclose(plane.weight, weight, rtol=1e-6)
    np.testing.assert_allclose(plane.read(x).mean(), y.mean(), rtol=1e-6)


@pytest.mark.parametrize("binary", [True, False])
def test_a_planted_plane_is_found(binary: bool) -> None:
    x, score, weight = planted(2000, noise=0.5)
    plane, result = fit_plane(x, (score > 0).astype(float) if binary else score, binary=binary)
    assert cosine(plane.weight, weight) > 0.98
    assert result.held_out == 400
    # AUROC of score > 0 by its mean, for a correlation of 1 / sqrt(1 + noise^2), and R² = 1 / (1 + noise^2)
    expected = 0.928 if binary else 0.8
    assert result.low < expected < result.high
    assert result.high - result.low < 0.08


def test_logits_are_those_of_equally_frequent_classes() -> None:
    rng = np.random.default_rng(3)
    y = np.repeat([0.0, 1.0], (4000, 200))
    x = rng.standard_normal((4200, 1)) + y[:, None]  # the true logit for equal frequencies is x - 1/2
    plane, _ = fit_plane(x, y, binary=True)
    np.testing.assert_allclose([plane.weight[0], plane.intercept], [1, -0.5], atol=0.2)


def test_noise_scores_as_noise_although_it_can_be_memorised() -> None:
    rng = np.random.default_rng(1)
    y = np.arange(100) % 2.0
    areas = []
    for _ in range(6):
        x = rng.standard_normal((100, 150))
        plane, result = fit_plane(x, y, binary=True)
        areas.append(result.value)
        assert auroc(plane.read(x), y).value > 0.85  # on the examples it was fitted to
    assert np.mean(areas) == pytest.approx(0.5, abs=0.16)  # 3 standard deviations
    _, number = fit_plane(rng.standard_normal((100, 150)), rng.standard_normal(100), binary=False)
    assert number.value < 0.2


def test_five_examples_are_enough() -> None:
    x, _, _ = planted(60)
    y = np.zeros(60)
    y[:5] = 1
    _, result = fit_plane(x, y, binary=True)
    assert result.held_out == 2 + 11
    assert result.low < result.value < result.high or result.value in (0, 1)
    assert result.high - result.low > 0.3  # the interval shows how little is known


# ---------------------------------------------------------------------- scores


def delong_deviation(logits: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Area and its standard deviation by DeLong et al. 1988, from all pairs."""
    ones, zeros = logits[y == 1], logits[y == 0]
    wins = (ones[:, None] > zeros).astype(float) + 0.5 * (ones[:, None] == zeros)
    variance = wins.mean(axis=1).var(ddof=1) / len(ones) + wins.mean(axis=0).var(ddof=1) / len(zeros)
    return float(wins.mean()), float(variance**0.5)


def test_the_interval_of_the_area_is_about_delongs() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0.0, 1.0], (600, 300))
    logits = np.round(rng.standard_normal(900) + y, 1)  # with ties
    score = auroc(logits, y)
    area, deviation = delong_deviation(logits, y)
    assert score.value == pytest.approx(area)
    assert score.high - score.low == pytest.approx(2 * 1.96 * deviation, rel=0.15)


def test_the_interval_of_the_area_has_its_coverage() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0.0, 1.0], (40, 15))
    truth = norm.cdf(1.5 / 2**0.5)
    scores = [auroc(rng.standard_normal(55) + 1.5 * y, y) for _ in range(150)]
    inside = np.mean([score.low < truth < score.high for score in scores])
    assert 0.89 < inside < 1


def test_the_interval_of_a_perfect_area_is_not_a_point() -> None:
    perfect, opposite = (auroc(sign * np.arange(10.0), np.repeat([0.0, 1.0], 5)) for sign in (1, -1))
    assert (perfect.value, perfect.high) == (1, 1)
    assert 0.4 < perfect.low < 0.9
    assert (opposite.value, opposite.low) == (0, 0)
    assert opposite.high == pytest.approx(1 - perfect.low)


def test_the_interval_of_r_squared_has_its_coverage() -> None:
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(25):
        values = rng.standard_normal(200)
        y = values + rng.standard_normal(200)
        score = r_squared(values, y)
        assert score.value == pytest.approx(r2_score(y, values))
        inside.append(score.low < 0.5 < score.high)
    assert np.mean(inside) > 0.8


def test_r_squared_of_constant_numbers_is_zero() -> None:
    assert r_squared(np.arange(4.0), np.ones(4)).value == 0
