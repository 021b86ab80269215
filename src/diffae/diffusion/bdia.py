"""BDIA: a code of two consecutive states, exact by algebra at one network call per step in either direction.

Zhang, Lewis & Kleijn, "Exact Diffusion Inversion via Bi-directional Integration Approximation" (2023), with gamma = 1.
From the states at levels u > t, and eps_hat at x_t alone,

    x_s = down(x_t) + x_u - up(x_t),

where down and up are DDIM steps from t to s and to u with that one eps_hat. Solved for x_u, the same equation encodes.
Both ends have two known states, so nothing is implicit, and rounding errors are neither amplified nor damped: with
gamma < 1, or with the weights of O-BELM (Wang et al. 2024), decoding damps what encoding amplifies, and x_T grows far
beyond unit variance (docs/inversion.md has the figures).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from diffae.diffusion.inversion import Encoded, PredictNoiseOf, all_rows, one_call_per_step
from diffae.diffusion.solvers import DDIM, PredictNoise, StepCallback, coefficients, step, x0_hat
from diffae.diffusion.timesteps import require_rising
from diffae.errors import ConfigError


@dataclass(frozen=True)
class BDIA:
    """Encodes to (x_T, the state one step below it), and decodes that pair."""

    inverts: ClassVar[type] = DDIM
    needs_float32: ClassVar[bool] = True

    def encode(
        self,
        predict_noise: PredictNoiseOf,
        x_0: Tensor,
        levels: Sequence[int],
        alpha_bar: np.ndarray,
        *,
        clip: bool = False,
    ) -> Encoded:
        """x_0 to the pair, in one network call per step. The first step is explicit: `decode` inverts it anyway.

        Raises:
            ConfigError: fewer than 2 steps, or levels that do not rise from 0.
        """
        assert not clip, "clipped steps have no inverse; Sampling refuses them"
        _require_pair(levels, alpha_bar)
        predict = all_rows(predict_noise, x_0)
        a, b = coefficients(alpha_bar[levels[1]], alpha_bar[0])
        below, x = x_0, (x_0 - b * predict(x_0, levels[1])) / a
        for s, t, u in zip(levels, levels[1:], levels[2:], strict=False):
            eps_hat = predict(x, t)
            below, x = x, _through(x, below, eps_hat, (alpha_bar[t], alpha_bar[s], alpha_bar[u]))
        return Encoded(x, one_call_per_step(x_0, levels), x_below=below)

    def decode(
        self,
        predict_noise: PredictNoise,
        states: tuple[Tensor, Tensor],
        levels: Sequence[int],
        alpha_bar: np.ndarray,
        *,
        callback: StepCallback | None = None,
    ) -> Tensor:
        """(x_T, the state below it) to x_0: one call per step but the first, whose result the pair holds already.

        Raises:
            ConfigError: fewer than 2 steps, or levels that do not rise from 0.
        """
        _require_pair(levels, alpha_bar)
        above, x = states
        down = levels[::-1]
        for u, t, s in zip(down, down[1:], down[2:], strict=False):
            eps_hat = predict_noise(x, t)
            if callback:
                callback(t, x0_hat(x, eps_hat, alpha_bar[t]))
            above, x = x, _through(x, above, eps_hat, (alpha_bar[t], alpha_bar[u], alpha_bar[s]))
        return x


def _through(x_t: Tensor, beyond: Tensor, eps_hat: Tensor, alpha_bar: tuple[float, float, float]) -> Tensor:
    """From x_t and the state on one side of it to the state on the other; alpha_bar of t, of `beyond`, and of that."""
    here, known, wanted = alpha_bar
    return step(x_t, eps_hat, here, wanted, clip=False) + beyond - step(x_t, eps_hat, here, known, clip=False)


def _require_pair(levels: Sequence[int], alpha_bar: np.ndarray) -> None:
    require_rising(levels, len(alpha_bar) - 1)
    if len(levels) < 3:
        raise ConfigError("steps is 1: BDIA needs at least 2, since its code is two consecutive states")
