"""A decoder: the diffusion transformer (Peebles & Xie, "Scalable diffusion models with transformers", ICCV 2023).

Shapes: b images, n patches of p x p pixels, w = width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffae.errors import require
from diffae.networks.layers import TimeEmbedding, zeroed
from diffae.networks.settings import Shape


class Modulation(nn.Sequential):
    """The embedding of t and z_sem (b, w) -> `count` shifts, scales or gates (b, 1, w); all start at zero."""

    optimizer_group = "adam"  # if the rest is trained by Muon

    def __init__(self, width: int, count: int) -> None:
        super().__init__(nn.SiLU(), zeroed(nn.Linear(width, count * width)), nn.Unflatten(1, (count, 1, width)))


class Block(nn.Module):
    """Self-attention and an MLP, each modulated by t and z_sem; starts as the identity (adaLN-zero)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = Modulation(width, 6)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition).unbind(1)
        h = h + gate1 * self.attention(self.norm(h) * (1 + scale1) + shift1)
        return h + gate2 * self.mlp(self.norm(h) * (1 + scale2) + shift2)

    def attention(self, h: Tensor) -> Tensor:
        q, k, v = self.qkv(h).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class DiT(nn.Module):
    """Predicts eps or v (as `DiffusionConfig.prediction` says) from x_t, the time index and z_sem."""

    def __init__(self, config: DiTConfig, shape: Shape, z_sem_channels: int) -> None:
        super().__init__()
        self.patch = config.patch_size
        self.patchify = nn.Conv2d(shape[0], config.width, self.patch, stride=self.patch)
        self.position = nn.Parameter(0.02 * torch.randn(shape[1] * shape[2] // self.patch**2, config.width))
        self.time = TimeEmbedding(256, config.width)
        self.z_sem = nn.Linear(z_sem_channels, config.width) if z_sem_channels else None
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, elementwise_affine=False)
        self.modulation = Modulation(config.width, 2)
        self.out = zeroed(nn.Linear(config.width, shape[0] * self.patch**2))

    def forward(self, x_t: Tensor, time: Tensor, z_sem: Tensor | None) -> Tensor:
        """x_t (b, c, h, w), time index (b,) in 0..T-1, z_sem (b, d) or None -> (b, c, h, w)."""
        condition = self.time(time)
        if self.z_sem is not None:
            condition = condition + self.z_sem(z_sem)
        h = self.patchify(x_t).flatten(2).transpose(1, 2) + self.position  # (b, n, w)
        for block in self.blocks:
            h = block(h, condition)
        shift, scale = self.modulation(condition).unbind(1)
        patches = self.out(self.norm(h) * (1 + scale) + shift)  # (b, n, c p p)
        return F.fold(patches.transpose(1, 2), x_t.shape[2:], self.patch, stride=self.patch)


@dataclass(frozen=True)
class DiTConfig:
    """Settings; the defaults are DiT-S/4."""

    patch_size: int = 4
    width: int = 384
    depth: int = 12
    heads: int = 6

    def check(self, shape: Shape) -> None:
        require(shape[1] % self.patch_size == 0, "patch_size", self.patch_size, f"must divide the side, {shape[1]}")
        require(self.width % self.heads == 0, "heads", self.heads, f"must divide the width, {self.width}")

    def build(self, shape: Shape, z_sem_channels: int) -> nn.Module:
        return DiT(self, shape, z_sem_channels)
