"""A solver: Heun's method (Karras et al., "Elucidating the design space of diffusion models", 2022, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from diffae.diffusion.solvers import descending, step, x0_hat


@dataclass(frozen=True)
class Heun:
    """Second order at two network calls per step.

    In x / sqrt(alpha_bar) and sigma = sqrt(1 / alpha_bar - 1), the ODE is dx / dsigma = eps_hat, and a DDIM step is
    Euler's. Heun's method steps along the mean of eps_hat at both ends. The last step is DDIM's: level 0 has no eps.
    """

    def decode(
        self,
        predict_noise: Callable[[Tensor, int], Tensor],
        x_T: Tensor,
        levels: Sequence[int],
        alpha_bar: np.ndarray,
        *,
        clip: bool = False,
        callback: Callable[[int, Tensor], None] | None = None,
    ) -> Tensor:
        x = x_T
        for t, s in descending(levels, alpha_bar):
            eps_hat = predict_noise(x, t)
            if callback:
                callback(t, x0_hat(x, eps_hat, alpha_bar[t]))
            if s > 0:
                x_s = step(x, eps_hat, alpha_bar[t], alpha_bar[s], clip)
                eps_hat = (eps_hat + predict_noise(x_s, s)) / 2
            x = step(x, eps_hat, alpha_bar[t], alpha_bar[s], clip)
        return x
