"""Linear probes: logistic and ridge regression on vectors, with their score on held-out vectors.

Throughout, x is (n, d) of about zero mean and unit variance, and y is (n,), 0 and 1 or numbers, without NaN. The
regressions are scikit-learn's, with classes weighted equally.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

LEAST_OF_CLASS = 5
"""Fewest examples of 0 and of 1 to fit, to choose the regularisation and to test."""
LEAST_NUMBERS = 10
"""Fewest known numbers."""

_PENALTIES = np.logspace(-2, 4, 7)  # weight of half the squared norm against the sum of the losses
_RIDGE_PENALTIES = np.logspace(-1, 5, 7)
_FOLDS = 3
_CHOSEN_ON = 2500  # examples per class on which the regularisation is chosen; twice as many numbers
_HELD_OUT = 0.2
RESAMPLES = 1000
"""Bootstrap resamples behind an interval."""
_Z = 1.959964  # standard normal quantile of a 95 % interval

Row = Float[np.ndarray, " n"]
Rows = Float[np.ndarray, "n d"]


@dataclass(frozen=True)
class Plane:
    """A linear function: the logit of y = 1, or the value of a number."""

    weight: Float[np.ndarray, " d"]
    intercept: float

    def read(self, x: Rows) -> Row:
        """weight · x + intercept."""
        return x @ self.weight + self.intercept


@dataclass(frozen=True)
class Score:
    """How well a probe predicts held-out examples."""

    measure: Literal["AUROC", "R2"]
    value: float
    low: float
    """Of the 95 % confidence interval."""
    high: float
    held_out: int
    """Examples it was measured on."""


def fit_plane(x: Rows, y: Row, *, binary: bool) -> tuple[Plane, Score]:
    """The probe fitted to all examples, and the score on a fifth of them of one fitted without that fifth.

    The regularisation is chosen by cross-validation outside the fifth: by log-loss with classes weighted equally, so
    that logits are calibrated for equally frequent classes, or by squared error.
    """
    rng = np.random.default_rng(0)
    held = _hold_out(y, rng, binary=binary)
    if binary:
        penalty = _choose_penalty(x[~held], y[~held], rng)
        trial, final = fit_binary(x[~held], y[~held], penalty), fit_binary(x, y, penalty)
        return final, auroc(trial.read(x[held]), y[held])
    penalty = _choose_ridge_penalty(x[~held], y[~held], rng)
    trial, final = fit_number(x[~held], y[~held], penalty), fit_number(x, y, penalty)
    return final, r_squared(trial.read(x[held]), y[held])


def fit_binary(x: Rows, y: Row, penalty: float) -> Plane:
    """Logistic regression with classes weighted equally, by Newton's method.

    The total weight is twice the harmonic mean of the class sizes, so that a penalty has the same meaning at any ratio
    of classes.
    """
    from sklearn.linear_model import LogisticRegression

    ones = int(y.sum())
    zeros = len(y) - ones
    mean = 2 * ones * zeros / len(y)
    weights = {0.0: mean / zeros, 1.0: mean / ones}
    model = LogisticRegression(C=1 / penalty, class_weight=weights, solver="newton-cholesky").fit(x, y)
    return Plane(model.coef_[0], float(model.intercept_[0]))


def fit_number(x: Rows, y: Row, penalty: float) -> Plane:
    """Ridge regression."""
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=penalty).fit(x, y)
    return Plane(model.coef_, float(model.intercept_))


def auroc(logits: Row, y: Row, z: float = _Z) -> Score:
    """Area under the ROC curve with its 95 % interval (Newcombe 2006, method 5), of positive width even at 0 and 1.

    `z` is the standard normal quantile of another interval.
    """
    from scipy.optimize import brentq
    from sklearn.metrics import roc_auc_score

    area = float(roc_auc_score(y, logits))
    ones = y.sum()
    pairs, others = ones * (len(y) - ones), len(y) / 2 - 1

    def beyond(sign: float) -> Callable[[float], float]:
        """Distance of the observed area from the end of the interval that a true area would give."""

        def function(true: float) -> float:
            spread = 1 + others * ((1 - true) / (2 - true) + true / (1 + true))
            return true + sign * z * (true * (1 - true) * spread / pairs) ** 0.5 - area

        return function

    inside = (1e-9, 1 - 1e-9)  # at 0 and 1 themselves the spread vanishes
    low = brentq(beyond(+1), 0, min(area, inside[1])) if area > 0 else 0.0
    high = brentq(beyond(-1), max(area, inside[0]), 1) if area < 1 else 1.0
    assert isinstance(low, float)
    assert isinstance(high, float)
    return Score("AUROC", area, low, high, len(y))


def r_squared(values: Row, y: Row) -> Score:
    """Coefficient of determination, with its 95 % interval by bootstrap."""

    def explained(rows: Int[np.ndarray, "k n"]) -> Float[np.ndarray, " k"]:
        return np.array([_explained(values[row], y[row]) for row in rows])

    return Score("R2", _explained(values, y), *bootstrap_interval(explained, len(y)), len(y))


def bootstrap_interval(
    statistic: Callable[[Int[np.ndarray, "k n"]], Float[np.ndarray, " k"]], count: int, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a statistic of images, widened for few of them.

    The percentiles are those of Student's t, and of a deviation with n - 1 in place of n: without it, the interval of a
    mean of a dozen images misses it twice as often as it should (Hesterberg 2015, "expanded percentile interval").

    Args:
        statistic: maps k resamples, each the rows of `count` images drawn with replacement, to k values; NaN where it
            is undefined, which is left out.
        count: images; of a single one the interval is empty.
        seed: of the resampling.
    """
    from scipy.stats import DegenerateDataWarning, bootstrap, norm, t

    if count == 1:
        value = float(statistic(np.zeros((1, 1), np.int64))[0])
        return value, value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # scipy's own interval is NaN where a resample is
        drawn = bootstrap(
            (np.arange(count),), lambda rows, axis: statistic(rows), n_resamples=RESAMPLES, vectorized=True,
            method="percentile", rng=np.random.default_rng(seed),
        ).bootstrap_distribution  # fmt: skip
    tail = 100 * norm.cdf((count / (count - 1)) ** 0.5 * t.ppf(0.025, count - 1))
    low, high = np.nanpercentile(drawn, (tail, 100 - tail))
    return float(low), float(high)


def _explained(values: Row, y: Row) -> float:
    """R²; 0 where y does not vary."""
    total = np.square(y - y.mean()).sum()
    return float(1 - np.square(y - values).sum() / total) if total > 0 else 0.0


def _hold_out(y: Row, rng: np.random.Generator, *, binary: bool) -> Bool[np.ndarray, " n"]:
    """A fifth of the examples of each class, at least two."""
    held = np.zeros(len(y), bool)
    for rows in _classes(y, binary=binary):
        held[rng.permutation(rows)[: max(2, round(_HELD_OUT * len(rows)))]] = True
    return held


def _classes(y: Row, *, binary: bool) -> list[np.ndarray]:
    return [np.flatnonzero(y == value) for value in (0, 1)] if binary else [np.arange(len(y))]


def _some(y: Row, rng: np.random.Generator, *, binary: bool) -> np.ndarray:
    """Rows to choose the regularisation on, shuffled."""
    limit = _CHOSEN_ON if binary else 2 * _CHOSEN_ON
    return rng.permutation(np.concatenate([rng.permutation(rows)[:limit] for rows in _classes(y, binary=binary)]))


def _choose_penalty(x: Rows, y: Row, rng: np.random.Generator) -> float:
    from sklearn.model_selection import StratifiedKFold

    rows = _some(y, rng, binary=True)
    x, y = x[rows], y[rows]
    folds = list(StratifiedKFold(min(_FOLDS, int(min(y.sum(), len(y) - y.sum())))).split(x, y))
    losses = [
        np.mean([_log_loss(fit_binary(x[fit], y[fit], penalty).read(x[test]), y[test]) for fit, test in folds])
        for penalty in _PENALTIES
    ]
    return float(_PENALTIES[np.argmin(losses)])


def _log_loss(logits: Row, y: Row) -> float:
    """Mean over both classes of the mean within the class."""
    return float(np.logaddexp(0, -logits[y == 1]).mean() + np.logaddexp(0, logits[y == 0]).mean()) / 2


def _choose_ridge_penalty(x: Rows, y: Row, rng: np.random.Generator) -> float:
    """By leave-one-out cross-validation, which ridge regression has in closed form."""
    from sklearn.linear_model import RidgeCV

    rows = _some(y, rng, binary=False)
    model = RidgeCV(_RIDGE_PENALTIES).fit(x[rows], y[rows])
    assert isinstance(model.alpha_, float)  # an array only for several y
    return model.alpha_


def require_fitted(estimator: object, learned: str) -> None:
    """Raise scikit-learn's `NotFittedError` unless an estimator has the attribute that fitting sets."""
    if not hasattr(estimator, learned):
        from sklearn.exceptions import NotFittedError  # slow to import

        raise NotFittedError(f"this {type(estimator).__name__} is not fitted: call `fit`, or load a fitted one")
