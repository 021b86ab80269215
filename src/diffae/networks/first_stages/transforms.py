"""First stages without weights: orthonormal transforms, from which images come back unchanged."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class SpaceToDepth(nn.Module):
    """Blocks of factor x factor pixels <-> channels."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def encode(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Latents (b, c factor^2, h / factor, w / factor)."""
        return F.pixel_unshuffle(images, self.factor)

    def decode(self, latents: Float[Tensor, "b c2 h2 w2"]) -> Float[Tensor, "b c h w"]:
        """Images, exactly those that were encoded."""
        return F.pixel_shuffle(latents, self.factor)


class Haar(nn.Module):
    """Haar wavelets, of as many levels as the factor has halvings.

    A level transforms the averages of the one before, and moves the coarser channels before the finer ones.
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.levels = factor.bit_length() - 1

    def encode(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Latents: averages, then differences from coarse to fine, those of finer levels as blocks in the channels."""
        average, details = images, list[Tensor]()
        for level in range(self.levels):
            average, detail = _split(average)
            details.insert(0, F.pixel_unshuffle(detail, 2 ** (self.levels - 1 - level)))
        return torch.cat([average, *details], dim=1)

    def decode(self, latents: Float[Tensor, "b c2 h2 w2"]) -> Float[Tensor, "b c h w"]:
        """Images, those that were encoded up to rounding."""
        channels = latents.shape[1] // 4**self.levels
        average, used = latents[:, :channels], channels
        for level in range(self.levels):
            count = 3 * channels * 4**level
            detail = F.pixel_shuffle(latents[:, used : used + count], 2**level)
            average, used = _join(average, detail), used + count
        return average


def _split(x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c h2 w2"], Float[Tensor, "b c3 h2 w2"]]:
    """Sums of the pixels of 2 x 2 blocks, and their differences across, down and diagonally, all halved."""
    a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
    details = [(a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2]
    return (a + b + c + d) / 2, torch.cat(details, dim=1)


def _join(average: Float[Tensor, "b c h w"], detail: Float[Tensor, "b c3 h w"]) -> Float[Tensor, "b c h2 w2"]:
    """The inverse of `_split`."""
    across, down, diagonal = detail.chunk(3, dim=1)
    s, a, d, q = average / 2, across / 2, down / 2, diagonal / 2
    pixels = torch.stack([s + a + d + q, s - a + d - q, s + a - d - q, s - a - d + q], dim=2)  # (b, c, 4, h, w)
    return F.pixel_shuffle(pixels.flatten(1, 2), 2)
