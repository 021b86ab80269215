"""Solvers of the decoder's ODE as plain functions: DDIM (paper Eq. 1 of Section 2) and DPM-Solver++(2M) for few steps;
textbook reverse DDIM (Eq. 8), and the published reverse.

`predict_noise(x, t)` takes a batch (b, ...) and one level t for all of it. Levels rise from 0 (see `grids`); decoding
runs down them, encoding up. Coefficients are Python floats from a float64 schedule, so that no step waits for a device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from torch import Tensor

from diffae.diffusion.timesteps import require_rising

PredictNoise = Callable[[Tensor, int], Tensor]
Watch = Callable[[int, Tensor], None]


def x0_hat(x_t: Tensor, eps_hat: Tensor, alpha_bar_t: float) -> Tensor:
    """Eq. 5: the clean image that eps_hat implies."""
    return (x_t - math.sqrt(1 - alpha_bar_t) * eps_hat) / math.sqrt(alpha_bar_t)


def clipped(x_t: Tensor, eps_hat: Tensor, alpha_bar_t: float) -> tuple[Tensor, Tensor]:
    """x0_hat clamped to [-1, 1], and the eps that leads from it to x_t: the published code's order."""
    x_0 = x0_hat(x_t, eps_hat, alpha_bar_t).clamp(-1, 1)
    return x_0, (x_t - math.sqrt(alpha_bar_t) * x_0) / math.sqrt(1 - alpha_bar_t)


def coefficients(alpha_bar_t: float, alpha_bar_s: float) -> tuple[float, float]:
    """a and b of one DDIM step x_s = a x_t + b eps_hat(x_t, t), from t to s: Eq. 5 put into Eq. 1."""
    a = math.sqrt(alpha_bar_s / alpha_bar_t)
    return a, math.sqrt(1 - alpha_bar_s) - a * math.sqrt(1 - alpha_bar_t)


def step(x_t: Tensor, eps_hat: Tensor, alpha_bar_t: float, alpha_bar_s: float, clip: bool) -> Tensor:
    """One deterministic DDIM step: x_s = sqrt(alpha_bar_s) x0_hat + sqrt(1 - alpha_bar_s) eps_hat."""
    if clip:
        x_0, eps_hat = clipped(x_t, eps_hat, alpha_bar_t)
        return math.sqrt(alpha_bar_s) * x_0 + math.sqrt(1 - alpha_bar_s) * eps_hat
    a, b = coefficients(alpha_bar_t, alpha_bar_s)
    return a * x_t + b * eps_hat


def decode(
    predict_noise: PredictNoise,
    x_T: Tensor,
    levels: Sequence[int],
    alpha_bar: np.ndarray,
    *,
    clip: bool = False,
    watch: Watch | None = None,
) -> Tensor:
    """x_T, at the highest level, to x_0: one network call per step. `watch(t, x0_hat)` sees the path (Fig. 6)."""
    require_rising(levels, len(alpha_bar) - 1)
    x = x_T
    for t, s in zip(levels[:0:-1], levels[-2::-1], strict=True):
        eps_hat = predict_noise(x, t)
        if watch:
            watch(t, x0_hat(x, eps_hat, alpha_bar[t]))
        x = step(x, eps_hat, alpha_bar[t], alpha_bar[s], clip)
    return x


def decode_2m(
    predict_noise: PredictNoise,
    x_T: Tensor,
    levels: Sequence[int],
    alpha_bar: np.ndarray,
    *,
    clip: bool = False,
    watch: Watch | None = None,
) -> Tensor:
    """As `decode`, by DPM-Solver++(2M) (Lu et al. 2022, Algorithm 2): of second order, one network call per step too.

    In half the logarithm of the signal-to-noise ratio, lambda = log(sqrt(alpha_bar) / sqrt(1 - alpha_bar)), a step of
    length h takes x0_hat to go on changing as it did over the step before. The first step and the last, whose
    h is infinite, are DDIM's.
    """
    require_rising(levels, len(alpha_bar) - 1)
    x, x_hat_above, lambda_above = x_T, None, math.nan
    for t, s in zip(levels[:0:-1], levels[-2::-1], strict=True):
        eps_hat = predict_noise(x, t)
        if watch:
            watch(t, x0_hat(x, eps_hat, alpha_bar[t]))
        x_hat = clipped(x, eps_hat, alpha_bar[t])[0] if clip else x0_hat(x, eps_hat, alpha_bar[t])
        if s == 0:
            return x_hat
        noise_t, noise_s = math.sqrt(1 - alpha_bar[t]), math.sqrt(1 - alpha_bar[s])
        lambda_t, lambda_s = (math.log(alpha_bar[level] / (1 - alpha_bar[level])) / 2 for level in (t, s))
        h = lambda_s - lambda_t
        slope = 0.0 if x_hat_above is None else (x_hat - x_hat_above) * (h / (2 * (lambda_t - lambda_above)))
        x = noise_s / noise_t * x - math.sqrt(alpha_bar[s]) * math.expm1(-h) * (x_hat + slope)
        x_hat_above, lambda_above = x_hat, lambda_t
    return x


def encode_explicit(
    predict_noise: PredictNoise, x_0: Tensor, levels: Sequence[int], alpha_bar: np.ndarray, *, clip: bool = False
) -> Tensor:
    """Textbook reverse DDIM on the decoder's own grid (Eq. 8): eps_hat is taken at the known end of every step.

    Level 0, the clean image, is read by the network as level 1, the lowest it knows.
    """
    require_rising(levels, len(alpha_bar) - 1)
    x = x_0
    for s, t in pairwise(levels):
        eps_hat = predict_noise(x, max(s, 1))
        if clip and s > 0:
            x_hat, eps_hat = clipped(x, eps_hat, alpha_bar[s])
            x = math.sqrt(alpha_bar[t]) * x_hat + math.sqrt(1 - alpha_bar[t]) * eps_hat
        else:
            a, b = coefficients(alpha_bar[t], alpha_bar[s])
            x = (x - b * eps_hat) / a
    return x


def encode_official(
    predict_noise: PredictNoise, x_0: Tensor, levels: Sequence[int], alpha_bar: np.ndarray, *, clip: bool = True
) -> Tensor:
    """The published reverse DDIM, for the published numbers.

    It takes x_0 to be at the grid's first level above 0, and alpha_bar to be 0 beyond the last, so that every step is
    shifted by one against the decoder's.
    """
    require_rising(levels, len(alpha_bar) - 1)
    x = x_0
    alpha_bar_next = [*(alpha_bar[t] for t in levels[2:]), 0.0]
    for t, following in zip(levels[1:], alpha_bar_next, strict=True):
        x = step(x, predict_noise(x, t), alpha_bar[t], following, clip)
    return x
