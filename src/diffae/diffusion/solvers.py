"""Solvers of the decoder's ODE: DDIM (paper Eq. 1) and DPM-Solver++(2M) for few steps.

`predict_noise(x, t)` takes a batch (b, ...) and one level t for all of it. Levels rise from 0 (see `timesteps`);
decoding runs down them. Coefficients are Python floats from a float64 schedule, so no step waits for a device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from diffae.diffusion.timesteps import require_rising

PredictNoise = Callable[[Tensor, int], Tensor]
StepCallback = Callable[[int, Tensor], None]
"""Called with (t, x0_hat before clipping) at every step of decoding (paper Fig. 6)."""


def x0_hat(x_t: Tensor, eps_hat: Tensor, alpha_bar_t: float) -> Tensor:
    """Eq. 5: the clean image that eps_hat implies."""
    return (x_t - math.sqrt(1 - alpha_bar_t) * eps_hat) / math.sqrt(alpha_bar_t)


def clipped(x_t: Tensor, eps_hat: Tensor, alpha_bar_t: float) -> tuple[Tensor, Tensor]:
    """x0_hat clamped to [-1, 1], and the eps that leads from it to x_t, as in the published code."""
    x_0 = x0_hat(x_t, eps_hat, alpha_bar_t).clamp(-1, 1)
    return x_0, (x_t - math.sqrt(alpha_bar_t) * x_0) / math.sqrt(1 - alpha_bar_t)


def coefficients(alpha_bar_t: float, alpha_bar_s: float) -> tuple[float, float]:
    """a and b of one DDIM step x_s = a x_t + b eps_hat(x_t, t), from t to s: Eq. 5 put into Eq. 1."""
    a = math.sqrt(alpha_bar_s / alpha_bar_t)
    return a, math.sqrt(1 - alpha_bar_s) - a * math.sqrt(1 - alpha_bar_t)


def step(x_t: Tensor, eps_hat: Tensor, alpha_bar_t: float, alpha_bar_s: float, clip: bool) -> Tensor:
    """Eq. 1, one deterministic DDIM step: x_s = sqrt(alpha_bar_s) x0_hat + sqrt(1 - alpha_bar_s) eps_hat."""
    if clip:
        x_0, eps_hat = clipped(x_t, eps_hat, alpha_bar_t)
        return math.sqrt(alpha_bar_s) * x_0 + math.sqrt(1 - alpha_bar_s) * eps_hat
    a, b = coefficients(alpha_bar_t, alpha_bar_s)
    return a * x_t + b * eps_hat


def descending(levels: Sequence[int], alpha_bar: np.ndarray) -> Iterator[tuple[int, int]]:
    """The steps (t, s) from the highest level down to 0.

    Raises:
        ConfigError: levels that do not rise from 0.
    """
    require_rising(levels, len(alpha_bar) - 1)
    return zip(levels[:0:-1], levels[-2::-1], strict=True)


@dataclass(frozen=True)
class DDIM:
    """Deterministic DDIM (Song et al. 2021; paper Eq. 1): one network call per step, each of which can be inverted."""

    def decode(
        self,
        predict_noise: PredictNoise,
        x_T: Tensor,
        levels: Sequence[int],
        alpha_bar: np.ndarray,
        *,
        clip: bool = False,
        callback: StepCallback | None = None,
    ) -> Tensor:
        """x_T, at the highest level, to x_0; see `Solver.decode`."""
        x = x_T
        for t, s in descending(levels, alpha_bar):
            eps_hat = predict_noise(x, t)
            if callback:
                callback(t, x0_hat(x, eps_hat, alpha_bar[t]))
            x = step(x, eps_hat, alpha_bar[t], alpha_bar[s], clip)
        return x


@dataclass(frozen=True)
class DPMSolverPP2M:
    """DPM-Solver++(2M) (Lu et al. 2022, Algorithm 2): second order at one network call per step; cannot be inverted.

    In half the log signal-to-noise ratio, lambda = log(sqrt(alpha_bar) / sqrt(1 - alpha_bar)), a step of length h
    extrapolates x0_hat linearly from the step before. The first step and the last, whose h is infinite, are DDIM's.
    """

    def decode(
        self,
        predict_noise: PredictNoise,
        x_T: Tensor,
        levels: Sequence[int],
        alpha_bar: np.ndarray,
        *,
        clip: bool = False,
        callback: StepCallback | None = None,
    ) -> Tensor:
        """x_T, at the highest level, to x_0; see `Solver.decode`."""
        x, x_hat_above, lambda_above = x_T, None, math.nan
        for t, s in descending(levels, alpha_bar):
            eps_hat = predict_noise(x, t)
            if callback:
                callback(t, x0_hat(x, eps_hat, alpha_bar[t]))
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
