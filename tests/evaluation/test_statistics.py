"""Estimates and their intervals against closed forms and independent implementations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from diffae.errors import DataError
from diffae.evaluation.statistics import Estimate, areas, auroc, jackknife, mean
from diffae.latent.probes import RESAMPLES, bootstrap_interval


def test_the_interval_of_a_mean_is_that_of_the_central_limit_theorem() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = mean(values)
    assert (found.value, found.count) == (pytest.approx(values.mean()), 400)
    half = 1.96 * values.std() / 20
    assert (found.value - found.low, found.high - found.value) == pytest.approx((half, half), rel=0.1)


@pytest.mark.parametrize("values", [np.zeros(0), np.array([1.0, np.nan]), np.array([1.0, np.inf])])
def test_a_mean_of_no_values_or_of_values_that_are_not_finite_is_refused(values: np.ndarray) -> None:
    with pytest.raises(DataError, match="mean needs"):
        mean(values)


def test_the_mean_of_one_value_has_an_empty_interval() -> None:
    assert mean(np.array([0.25])) == Estimate(0.25, 0.25, 0.25, 1)


def test_undefined_resamples_are_left_out_of_an_interval() -> None:
    def statistic(rows: np.ndarray) -> np.ndarray:
        assert rows.shape == (RESAMPLES, 50)
        means = rows.mean(axis=1)
        return np.where(means < 24, np.nan, means)

    low, high = bootstrap_interval(statistic, 50)
    assert 24 <= low < high < 35


def test_auroc_is_that_of_scikit_learn_ties_included() -> None:
    rng = np.random.default_rng(1)
    positive = rng.random(200) < 0.3
    scores = np.round(rng.normal(size=200) + positive, 1)
    assert auroc(scores, positive).value == pytest.approx(roc_auc_score(positive, scores))


def test_areas_are_those_of_scikit_learn_ties_repeats_and_unknowns_included() -> None:
    rng = np.random.default_rng(4)
    labels = (rng.random(90) < 0.4).astype(float)
    labels[rng.random(90) < 0.2] = np.nan
    scores, rows = np.round(rng.normal(size=90), 1), rng.integers(0, 90, (5, 90))
    for found, chosen in zip(areas(scores, labels, rows), rows, strict=True):
        known = chosen[~np.isnan(labels[chosen])]
        assert found == pytest.approx(roc_auc_score(labels[known], scores[known]))


def test_auroc_that_is_perfect_has_an_interval() -> None:
    found = auroc(np.arange(10.0), np.arange(10) >= 5)
    assert (found.value, found.high) == (1, 1)
    assert 0.5 < found.low < 0.95


def test_a_bound_within_the_interval_is_neither_above_nor_below() -> None:
    found = Estimate(0.5, 0.4, 0.6, 9)
    assert [found.above(bound) for bound in (0.3, 0.5, 0.7)] == [True, None, False]


def test_auroc_of_two_gaussians_mostly_lies_within_its_interval() -> None:
    rng = np.random.default_rng(2)
    inside = 0
    for _ in range(60):
        scores = np.concatenate([rng.normal(1, 1, 80), rng.normal(0, 1, 80)])
        found = auroc(scores, np.arange(160) < 80)
        inside += found.low < norm.cdf(1 / 2**0.5) < found.high
    assert inside >= 52  # of 60; 57 are expected


def test_auroc_of_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="3 positives and 0 negatives"):
        auroc(np.zeros(3), np.ones(3))


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(3).normal(size=(1000, 1))
    found = jackknife(lambda x: float(x.mean()), [values])
    errors = [jackknife(lambda x: float(x.mean()), [values], seed).high - found.value for seed in range(20)]
    assert np.mean(errors) == pytest.approx(2.262 * values.std() / 1000**0.5, rel=0.15)  # t, 9 degrees of freedom


def test_the_jackknife_refuses_fewer_rows_than_groups() -> None:
    with pytest.raises(DataError, match="at least 10"):
        jackknife(lambda x: 0.0, [np.zeros((9, 1))])
