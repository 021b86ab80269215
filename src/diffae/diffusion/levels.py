"""Which noise levels a training batch is given."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from diffae.config import LevelSampling

MIDDLE = (-0.7, 0.9)
"""Mean and standard deviation of the logit of t / T: half of the levels lie below T / 3, nine tenths in 0.1..0.7 T."""


def draw_levels(how: LevelSampling, top: int, count: int, generator: torch.Generator) -> Int[Tensor, " count"]:
    """Levels t, 1..top, for the images of a batch, on the generator's device.

    "uniform": t ~ U{1..top}, independently (paper Eq. 6). "middle": t / top is logit-normal (Esser et al. 2024,
    Section 3.1) for three images of four, uniform for the fourth, so that no level is forgotten.
    """
    device = generator.device
    t = torch.randint(1, top + 1, (count,), generator=generator, device=device)
    if how == "uniform":
        return t
    mean, std = MIDDLE
    fraction = torch.sigmoid(mean + std * torch.randn(count, generator=generator, device=device))
    middle = (fraction * top).long().clamp(max=top - 1) + 1
    return torch.where(torch.rand(count, generator=generator, device=device) < 0.75, middle, t)
