"""Noise schedules: alpha_bar over the levels 0..T, in float64.

x_t = sqrt(alpha_bar[t]) x_0 + sqrt(1 - alpha_bar[t]) eps, with alpha_bar[0] = 1 the clean image.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from diffae.config import DiffusionConfig

Array = np.ndarray


def linear(levels: int) -> Float64[Array, " levels"]:
    """Betas rising linearly from 1e-4 to 0.02 at T = 1000, scaled for other T (Ho et al. 2020)."""
    scale = 1000 / levels
    return np.linspace(scale * 1e-4, scale * 0.02, levels)


def cosine(levels: int) -> Float64[Array, " levels"]:
    """Betas of alpha_bar(t) = cos^2((t/T + 0.008) / 1.008 * pi/2), at most 0.999 (Nichol & Dhariwal 2021, Eq. 17)."""
    fraction = np.arange(levels + 1) / levels
    alpha_bar = np.cos((fraction + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999)


def constant(levels: int) -> Float64[Array, " levels"]:
    """Beta = 0.008 at T = 1000, scaled for other T: the latent prior's schedule (paper Table 6)."""
    return np.full(levels, 0.008 * 1000 / levels)


def alpha_bar_of(config: DiffusionConfig) -> Float64[Array, " T_plus_1"]:
    """The signal level alpha_bar[t] for t = 0..T."""
    betas = {"linear": linear, "cosine": cosine, "constant": constant}[config.schedule](config.levels)
    return np.concatenate([[1.0], np.cumprod(1 - np.minimum(betas, 0.999))])
