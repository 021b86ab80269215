"""What does z_sem fix, and what does x_T change? Decoding one z_sem with many x_T (paper Figs. 3 and 10)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from diffae.config import Sampling
from diffae.data.images import to_unit
from diffae.errors import DataError
from diffae.model import DiffusionAutoencoder


@dataclass(frozen=True)
class Variation:
    """Images of n semantic codes, each decoded with `count` different x_T; in [-1, 1]."""

    images: Float[Tensor, "n count c h w"]

    @property
    def mean(self) -> Float[Tensor, "n c h w"]:
        """Mean over x_T, in [-1, 1]."""
        return self.images.mean(dim=1)

    @property
    def deviation(self) -> Float[Tensor, "n h w"]:
        """Standard deviation over x_T, mean over channels; images in [0, 1]."""
        return to_unit(self.images).std(dim=1, correction=0).mean(dim=1)


def variation(
    model: DiffusionAutoencoder,
    z_sem: Float[Tensor, "n d"],
    count: int,
    *,
    generator: torch.Generator,
    sampling: Sampling | None = None,
) -> Variation:
    """Decode each z_sem with `count` x_T drawn from N(0, I).

    Raises:
        DataError: fewer than 2 x_T, which have no deviation.
    """
    if count < 2:
        raise DataError(f"{count} variation: at least 2 are needed for a deviation")
    images = model.decode(z_sem=z_sem.repeat_interleave(count, 0), sampling=sampling, generator=generator).cpu()
    return Variation(images.unflatten(0, (len(z_sem), count)))


@dataclass(frozen=True)
class FixedShare:
    """Share of the variance between images that z_sem fixes, 0..1: the rest changes with x_T."""

    coarse: float
    """Of images averaged over squares of a quarter of their side, divided into 4 x 4."""
    fine: float
    """Of what that averaging takes away."""
    all: float
    """Of the pixels as they are."""


def fixed_share(variations: Variation) -> FixedShare:
    """1 - (variance over x_T of one z_sem) / (variance over both), by the law of total variance.

    The variance within uses the unbiased estimator, so that few x_T do not make it look small.

    Raises:
        DataError: fewer than 2 semantic codes.
    """
    images = to_unit(variations.images).double()
    n, count, _, height, width = images.shape
    if n < 2:
        raise DataError(f"{n} semantic code: at least 2 are needed to compare what differs between images")
    side = (max(height // 4, 1), max(width // 4, 1))
    coarse = F.avg_pool2d(images.flatten(0, 1), side, ceil_mode=True)
    smooth = F.interpolate(coarse, (height, width)).unflatten(0, (n, count))
    parts = {"coarse": smooth, "fine": images - smooth, "all": images}
    return FixedShare(**{name: _share(part) for name, part in parts.items()})


def _share(images: Float[Tensor, "n count c h w"]) -> float:
    within = images.var(dim=1).mean()
    count = images.shape[1]
    between = images.mean(dim=1).var(dim=0).mean() - within / count  # of the true means, noise of these taken off
    total = within + between.clamp(min=0)
    return float(1 - within / total) if total > 0 else 1.0
