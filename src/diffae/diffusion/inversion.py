"""Inversions of DDIM at one network call per step: the textbook's and the published code's. Neither is exact.

A DDIM step x_s = a x_t + b eps_hat(x_t, t) has x_t on both sides when solved for it. These put a known state in its
place; `exact_inversion` solves it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffae.diffusion.solvers import DDIM, clipped, coefficients, step
from diffae.diffusion.timesteps import require_rising

PredictNoiseOf = Callable[[Tensor, int, Tensor], Tensor]
"""(x, t, rows): the rows say which images of the batch x holds, so that finished ones cost nothing."""


@dataclass
class Encoded:
    """A stochastic code, and how it was found."""

    x_T: Tensor
    """As x_0."""
    calls: Int[Tensor, " b"]
    """Network calls spent on each image."""
    residual: Float[Tensor, " b"] | None = None
    """Of exact inversion: the largest error over the steps, as far as it reaches the image: root mean square, images in
    [-1, 1]. An estimate, since the last update of a step is not evaluated."""
    x_below: Tensor | None = None
    """Of BDIA: the state one step below x_T."""


def one_call_per_step(x_0: Tensor, levels: Sequence[int]) -> Int[Tensor, " b"]:
    """The number of calls of an inversion that spends one on every step."""
    return torch.full((len(x_0),), len(levels) - 1, device=x_0.device)


def all_rows(predict_noise: PredictNoiseOf, x_0: Tensor) -> Callable[[Tensor, int], Tensor]:
    """`predict_noise` for the whole batch at once."""
    rows = torch.arange(len(x_0), device=x_0.device)
    return lambda x, t: predict_noise(x, t, rows)


@dataclass(frozen=True)
class ExplicitInversion:
    """Textbook reverse DDIM (Eq. 8): eps_hat is taken at the known end of every step.

    Level 0, the clean image, is given to the network as level 1, the lowest it knows.
    """

    inverts: ClassVar[type] = DDIM
    needs_float32: ClassVar[bool] = False

    def encode(
        self,
        predict_noise: PredictNoiseOf,
        x_0: Tensor,
        levels: Sequence[int],
        alpha_bar: np.ndarray,
        *,
        clip: bool = False,
    ) -> Encoded:
        """x_0 to about the x_T that decodes to it, on the decoder's own levels."""
        require_rising(levels, len(alpha_bar) - 1)
        predict, x = all_rows(predict_noise, x_0), x_0
        for s, t in pairwise(levels):
            eps_hat = predict(x, max(s, 1))
            if clip and s > 0:
                x_hat, eps_hat = clipped(x, eps_hat, alpha_bar[s])
                x = math.sqrt(alpha_bar[t]) * x_hat + math.sqrt(1 - alpha_bar[t]) * eps_hat
            else:
                a, b = coefficients(alpha_bar[t], alpha_bar[s])
                x = (x - b * eps_hat) / a
        return Encoded(x, one_call_per_step(x_0, levels))


@dataclass(frozen=True)
class OfficialInversion:
    """The published reverse DDIM, for the published numbers.

    It treats x_0 as being at the first level above 0, and alpha_bar as 0 beyond the last, so that every step is
    shifted by one against the decoder's.
    """

    inverts: ClassVar[type] = DDIM
    needs_float32: ClassVar[bool] = False

    def encode(
        self,
        predict_noise: PredictNoiseOf,
        x_0: Tensor,
        levels: Sequence[int],
        alpha_bar: np.ndarray,
        *,
        clip: bool = True,
    ) -> Encoded:
        """x_0 to the published stochastic code."""
        require_rising(levels, len(alpha_bar) - 1)
        predict, x = all_rows(predict_noise, x_0), x_0
        alpha_bar_next = [*(alpha_bar[t] for t in levels[2:]), 0.0]
        for t, following in zip(levels[1:], alpha_bar_next, strict=True):
            x = step(x, predict(x, t), alpha_bar[t], following, clip)
        return Encoded(x, one_call_per_step(x_0, levels))
