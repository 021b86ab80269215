"""An encoder: a small residual network, trained together with the decoder, or read from a file and frozen."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from safetensors.torch import load_model
from torch import Tensor, nn

from diffae.networks.settings import Shape


class Downsample(nn.Module):
    """Halves the feature map: a strided convolution, then a residual one."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, out_channels, 4, stride=2, padding=1)
        self.norm = nn.GroupNorm(8, out_channels)
        self.conv = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.down(x)
        return h + self.conv(F.silu(self.norm(h)))


class ConvEncoder(nn.Module):
    """Images (b, c, h, w) in [-1, 1] -> z_sem (b, d)."""

    def __init__(self, config: ConvEncoderConfig, shape: Shape) -> None:
        super().__init__()
        widths = (shape[0], *(config.width * 2**level for level in range(config.levels)))
        self.stages = nn.Sequential(*map(Downsample, widths[:-1], widths[1:]))
        self.out = nn.Linear(widths[-1], config.z_sem_channels)
        if config.weights is not None:
            load_model(self, config.weights)
        self.frozen = config.weights is not None
        """Frozen modules are not trained, averaged or saved: they are built again from their settings."""

    def forward(self, images: Tensor) -> Tensor:
        return self.out(F.silu(self.stages(images)).mean(dim=(2, 3)))


@dataclass(frozen=True)
class ConvEncoderConfig:
    """Settings of the encoder."""

    z_sem_channels: int = 512
    width: int = 64
    levels: int = 4
    weights: str | None = None
    """A .safetensors file of a trained `ConvEncoder`, which is then used as it is."""

    def build(self, shape: Shape) -> nn.Module:
        return ConvEncoder(self, shape)
