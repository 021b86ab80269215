"""Parts of a model as a user's own module would define them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffae.config import ModelConfig, UNetConfig
from diffae.networks.settings import Shape
from diffae.training.auxiliary_losses.base import AuxiliaryBatch, AuxiliaryLoss

NOT_A_CLASS = 5


class Thin(nn.Module):
    """One convolution, modulated by z_sem."""

    def __init__(self, channels: int, z_sem_channels: int, extra: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels + extra, 3, padding=1)
        self.z = nn.Linear(z_sem_channels, channels + extra) if z_sem_channels else None

    def forward(self, x_t: Tensor, time: Tensor, z_sem: Tensor | None) -> Tensor:
        h = self.conv(x_t)
        return h if self.z is None or z_sem is None else h * self.z(z_sem)[..., None, None]


@dataclass(frozen=True)
class ThinConfig:
    """A decoder; `extra` channels too many in its output are a mistake."""

    extra: int = 0

    def build(self, shape: Shape, z_sem_channels: int) -> nn.Module:
        return Thin(shape[0], z_sem_channels, self.extra)


@dataclass(frozen=True)
class WiderUNetConfig(UNetConfig):
    """A UNet of twice the width."""

    def build(self, shape: Shape, z_sem_channels: int) -> nn.Module:
        return UNetConfig(2 * self.model_channels, self.channel_mult).build(shape, z_sem_channels)


@dataclass(frozen=True)
class MeanConfig:
    """An encoder: a linear map of the mean colour; `extra` numbers too many are a mistake."""

    z_sem_channels: int = 4
    extra: int = 0

    def build(self, shape: Shape) -> nn.Module:
        size = shape[0], self.z_sem_channels + self.extra
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(*size))


class FrozenEncoder(nn.Module):
    """A pretrained encoder that is not trained, averaged or saved, and counts its calls in a buffer."""

    frozen = True

    def __init__(self, shape: Shape, z_sem_channels: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(z_sem_channels, shape[0], generator=generator), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3)) @ self.weight.T


@dataclass(frozen=True)
class FrozenConfig:
    """An encoder that is not trained."""

    z_sem_channels: int = 4

    def build(self, shape: Shape) -> nn.Module:
        return FrozenEncoder(shape, self.z_sem_channels)


class Halves(nn.Module):
    """Latents of half the side: the pixels of each 2x2 block become channels."""

    def encode(self, images: Tensor) -> Tensor:
        return nn.functional.pixel_unshuffle(images, 2)

    def decode(self, latents: Tensor) -> Tensor:
        return nn.functional.pixel_shuffle(latents, 2)


@dataclass(frozen=True)
class HalvesConfig:
    """A first stage without loss."""

    def latent_shape(self, shape: Shape) -> Shape:
        return 4 * shape[0], shape[1] // 2, shape[2] // 2

    def build(self, shape: Shape) -> nn.Module:
        return Halves()


class SizeLoss(AuxiliaryLoss):
    """The mean square of z_sem."""

    def forward(self, z_sem: Tensor, batch: AuxiliaryBatch) -> Tensor:
        return z_sem.square().mean()


@dataclass(frozen=True)
class SizeLossConfig:
    """A user's own auxiliary loss."""

    weight: float = 0.5

    def build(self, model: ModelConfig, feature_channels: int) -> AuxiliaryLoss:
        return SizeLoss()


class Outer:
    """Holds a part whose class is not at the top level of the module."""

    @dataclass(frozen=True)
    class Inner(ThinConfig):
        """Cannot be imported by its name."""
