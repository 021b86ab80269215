"""The pair mode: a code of two consecutive states, exact by algebra at one network call per step in either direction.

Zhang, Lewis & Kleijn, "Exact Diffusion Inversion via Bi-directional Integration Approximation" (BDIA, 2023), with
gamma = 1. From the states at levels u > t, and eps_hat at x_t alone,

    x_s = down(x_t) + x_u - up(x_t),

where down and up are DDIM steps from t to s and to u with that one eps_hat. The same line solved for x_u encodes. Two
states are known at either end, so nothing is implicit, and rounding is neither amplified nor damped on the way: with
gamma < 1, or with the weights of O-BELM (Wang et al. 2024), decoding damps what encoding amplifies, and x_T grows far
beyond unit variance (docs/inversion.md has the figures).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from diffae.diffusion.solvers import PredictNoise, Watch, coefficients, step, x0_hat
from diffae.diffusion.timesteps import require_rising
from diffae.errors import ConfigError


def _through(x_t: Tensor, beyond: Tensor, eps_hat: Tensor, alpha_bar: tuple[float, float, float]) -> Tensor:
    """From x_t and the state on one side of it to the state on the other; alpha_bar of t, of `beyond`, and of that."""
    here, known, wanted = alpha_bar
    return step(x_t, eps_hat, here, wanted, clip=False) + beyond - step(x_t, eps_hat, here, known, clip=False)


def encode_pair(
    predict_noise: PredictNoise, x_0: Tensor, levels: Sequence[int], alpha_bar: np.ndarray
) -> tuple[Tensor, Tensor]:
    """x_0 to (x_T, the state one step below it), in one network call per step.

    The first step up is the explicit one: `decode_pair` returns to x_0 from whatever it arrives at.

    Raises:
        ConfigError: fewer than 2 steps, or levels that do not rise from 0.
    """
    _require_pair(levels, alpha_bar)
    a, b = coefficients(alpha_bar[levels[1]], alpha_bar[0])
    below, x = x_0, (x_0 - b * predict_noise(x_0, levels[1])) / a
    for s, t, u in zip(levels, levels[1:], levels[2:], strict=False):
        eps_hat = predict_noise(x, t)
        below, x = x, _through(x, below, eps_hat, (alpha_bar[t], alpha_bar[s], alpha_bar[u]))
    return x, below


def decode_pair(
    predict_noise: PredictNoise,
    x_T: Tensor,
    x_below: Tensor,
    levels: Sequence[int],
    alpha_bar: np.ndarray,
    *,
    watch: Watch | None = None,
) -> Tensor:
    """The two states at the top of the grid to x_0: a call per step but the first, which the pair holds already.

    Raises:
        ConfigError: fewer than 2 steps, or levels that do not rise from 0.
    """
    _require_pair(levels, alpha_bar)
    above, x = x_T, x_below
    down = levels[::-1]
    for u, t, s in zip(down, down[1:], down[2:], strict=False):
        eps_hat = predict_noise(x, t)
        if watch:
            watch(t, x0_hat(x, eps_hat, alpha_bar[t]))
        above, x = x, _through(x, above, eps_hat, (alpha_bar[t], alpha_bar[u], alpha_bar[s]))
    return x


def _require_pair(levels: Sequence[int], alpha_bar: np.ndarray) -> None:
    require_rising(levels, len(alpha_bar) - 1)
    if len(levels) < 3:
        raise ConfigError("steps is 1: the pair mode needs at least 2, since its code is two consecutive states")
