"""Noise schedules, alpha_bar over the levels 0..T in float64, and which levels training draws.

x_t = sqrt(alpha_bar[t]) x_0 + sqrt(1 - alpha_bar[t]) eps, with alpha_bar[0] = 1 the clean image.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float64, Int
from torch import Tensor

from diffae.diffusion.settings import DiffusionConfig, LevelSampling

Array = np.ndarray

MIDDLE = (-0.7, 0.9)
"""Mean and standard deviation of the logit of t / T: half of the levels lie below T / 3, nine tenths in 0.1..0.7 T."""


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


def draw_levels(how: LevelSampling, top: int, count: int, generator: torch.Generator) -> Int[Tensor, " count"]:
    """Levels t, 1..top, for the images of a training batch, on the generator's device.

    "uniform": t ~ U{1..top}, independently (paper Eq. 6). "middle": t / top is logit-normal (Esser et al. 2024,
    Section 3.1) for three images of four and uniform for the fourth, so that every level is trained.
    """
    device = generator.device
    t = torch.randint(1, top + 1, (count,), generator=generator, device=device)
    if how == "uniform":
        return t
    mean, std = MIDDLE
    fraction = torch.sigmoid(mean + std * torch.randn(count, generator=generator, device=device))
    middle = (fraction * top).long().clamp(max=top - 1) + 1
    return torch.where(torch.rand(count, generator=generator, device=device) < 0.75, middle, t)
