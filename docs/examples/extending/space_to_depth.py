"""A first stage: space to depth. Fewer, wider positions make the decoder cheaper, and the round trip is exact."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from diffae.errors import require
from diffae.networks.settings import Shape


class SpaceToDepth(nn.Module):
    """Moves each block of pixels into the channels: a permutation, so that noise N(0, I) remains N(0, I)."""

    def __init__(self, block: int) -> None:
        super().__init__()
        self.block = block

    def encode(self, images: Tensor) -> Tensor:
        """(b, c, h, w) in [-1, 1] -> latents (b, c block^2, h / block, w / block)."""
        return F.pixel_unshuffle(images, self.block)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> images."""
        return F.pixel_shuffle(latents, self.block)


@dataclass(frozen=True)
class SpaceToDepthConfig:
    """Settings of the first stage."""

    block: int = 2
    """Side of a block in pixels."""

    def check(self, shape: Shape) -> None:
        require(shape[1] % self.block == 0, "block", self.block, f"must divide the side of the images, {shape[1]}")

    def latent_shape(self, shape: Shape) -> Shape:
        c, h, w = shape
        return c * self.block**2, h // self.block, w // self.block

    def build(self, shape: Shape) -> nn.Module:
        return SpaceToDepth(self.block)
