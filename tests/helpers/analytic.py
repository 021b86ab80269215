"""Data whose diffusion is known in closed form: a mixture of Gaussians."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


class Mixture:
    """Equal parts N(mean_k, std^2 I). At level t, x_t is a mixture of N(sqrt(alpha_bar) mean_k, variance I), with
    variance = alpha_bar std^2 + 1 - alpha_bar, and eps = -sqrt(1 - alpha_bar) times the gradient of its log density.

    Args:
        means: (k, ...), shaped as the images.
        std: standard deviation of every part; 0 for points.
        alpha_bar: (T + 1,), the schedule.
    """

    def __init__(self, means: Tensor, std: float, alpha_bar: np.ndarray) -> None:
        self.means, self.std, self.alpha_bar = means, std, alpha_bar
        self.calls: list[tuple[int, int]] = []
        """(level, images) of every call so far."""

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw images."""
        which = torch.randint(len(self.means), (count,), generator=generator)
        noise = torch.randn((count, *self.means.shape[1:]), generator=generator, dtype=self.means.dtype)
        return self.means[which] + self.std * noise

    def eps(self, x: Tensor, t: int, rows: Tensor | None = None) -> Tensor:
        """The expected noise in x (b, ...) at level t, which a perfect network predicts."""
        self.calls.append((t, len(x)))
        signal, variance = self.at(t)
        away = x.flatten(1)[:, None] - signal * self.means.flatten(1)
        share = torch.softmax(-away.square().sum(2) / (2 * variance), dim=1)
        away = (share[..., None] * away).sum(1).view_as(x)
        return math.sqrt(1 - float(self.alpha_bar[t])) / variance * away

    def at(self, t: int) -> tuple[float, float]:
        """sqrt(alpha_bar_t), and the variance of each part of x_t."""
        alpha_bar = float(self.alpha_bar[t])
        return math.sqrt(alpha_bar), alpha_bar * self.std**2 + 1 - alpha_bar

    def flow(self, x: Tensor, t: int, s: int) -> Tensor:
        """The exact solution of the ODE from level t to s for a single part: (x - mean) / deviation is constant."""
        assert len(self.means) == 1
        (signal_t, variance_t), (signal_s, variance_s) = self.at(t), self.at(s)
        return signal_s * self.means + math.sqrt(variance_s / variance_t) * (x - signal_t * self.means)


def mixture(
    alpha_bar: np.ndarray, parts: int = 5, std: float = 0.5, dtype: torch.dtype = torch.float64, seed: int = 0
) -> Mixture:
    """A mixture of 2x3x3 images with means drawn from [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.rand((parts, 2, 3, 3), generator=generator, dtype=torch.float64) * 2 - 1
    return Mixture(means.to(dtype), std, alpha_bar)


def normal(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    """N(0, I) from a seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
