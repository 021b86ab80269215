"""A first stage: the cosine transform of blocks, as in JPEG. Low frequencies stand in the first channels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffae.errors import require
from diffae.networks.settings import Shape


def cosines(n: int) -> Tensor:
    """The orthonormal discrete cosine transform (DCT-II) of n numbers, as a matrix (n, n)."""
    frequency, place = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n) + 0.5
    matrix = torch.cos(torch.pi / n * frequency * place) * (2 / n) ** 0.5
    return torch.cat([matrix[:1] / 2**0.5, matrix[1:]])


class BlockCosines(nn.Module):
    """Transforms each block of pixels into channels. The matrix is orthogonal, so that noise N(0, I) stays N(0, I)."""

    def __init__(self, block: int) -> None:
        super().__init__()
        self.block = block
        self.register_buffer("matrix", torch.kron(cosines(block), cosines(block)), persistent=False)
        self.matrix: Tensor

    def encode(self, images: Tensor) -> Tensor:
        """(b, c, h, w) in [-1, 1] -> latents (b, c block^2, h / block, w / block), channels of a frequency together."""
        pixels = F.pixel_unshuffle(images, self.block).unflatten(1, (-1, self.block**2))  # (b, c, block^2, h', w')
        return torch.einsum("fp,bcphw->bfchw", self.matrix.to(images.dtype), pixels).flatten(1, 2)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> images."""
        frequencies = latents.unflatten(1, (self.block**2, -1))
        pixels = torch.einsum("fp,bfchw->bcphw", self.matrix.to(latents.dtype), frequencies)
        return F.pixel_shuffle(pixels.flatten(1, 2), self.block)


@dataclass(frozen=True)
class BlockCosinesConfig:
    """Settings of the first stage."""

    block: int = 2
    """Side of a block in pixels."""

    def check(self, shape: Shape) -> None:
        require(shape[1] % self.block == 0, "block", self.block, f"must divide the side of the images, {shape[1]}")

    def latent_shape(self, shape: Shape) -> Shape:
        c, h, w = shape
        return c * self.block**2, h // self.block, w // self.block

    def build(self, shape: Shape) -> nn.Module:
        return BlockCosines(self.block)
