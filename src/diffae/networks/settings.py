"""Settings of the networks. Nothing here imports torch; `build()` does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

from diffae.errors import require, require_choice

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, int, int]
"""(c, h, w) of one image or of its latents."""

Pooling = Literal["average", "flatten"]
Upsampling = Literal["first", "last"]


@runtime_checkable
class DecoderConfig(Protocol):
    """Settings of a decoder: a frozen dataclass with `build`. Any part may also have `check(shape)`, called early."""

    def build(self, shape: Shape, z_sem_channels: int) -> nn.Module:
        """A module called as `decoder(x_t, time, z_sem)`: (b, c, h, w), (b,) in 0..T-1, (b, d) or None -> (b, c, h, w).

        Args:
            shape: of one x_t.
            z_sem_channels: d; 0 for a decoder without z_sem.
        """
        ...


@runtime_checkable
class EncoderConfig(Protocol):
    """Settings of a semantic encoder: a frozen dataclass with `z_sem_channels` and `build`."""

    @property
    def z_sem_channels(self) -> int:
        """Size of z_sem, at least 1."""
        ...

    def build(self, shape: Shape) -> nn.Module:
        """A module called as `encoder(images)`: (b, c, h, w) in [-1, 1] -> (b, d)."""
        ...


@runtime_checkable
class FirstStageConfig(Protocol):
    """Settings of a first stage: images <-> the latents that are diffused."""

    def latent_shape(self, shape: Shape) -> Shape:
        """Shape of the latents of an image of this shape."""
        ...

    def build(self, shape: Shape) -> nn.Module:
        """A module with `encode(images) -> latents` and `decode(latents) -> images`, images in [-1, 1].

        Latents should have about zero mean and unit variance, like images.
        """
        ...


@dataclass(frozen=True)
class UNetConfig:
    """The conditional UNet of the paper (Table 5, Fig. 7)."""

    kind: ClassVar[str] = "unet"

    model_channels: int = 64
    """Width of the first level ("base channels")."""
    channel_mult: tuple[int, ...] = (1, 2, 4, 8)
    """Width of each level as a multiple of `model_channels`; the feature map is halved between levels."""
    res_blocks: int = 2
    """Residual blocks per level."""
    attention_resolutions: tuple[int, ...] = (16,)
    """Sizes in pixels of the feature maps that get self-attention."""
    heads: int = 1
    """Attention heads."""
    time_channels: int = 512
    """Width of the embedding of the level t."""
    dropout: float = 0.1
    """Dropout inside the residual blocks, 0 to 1."""
    upsampling: Upsampling = "first"
    """Where a block that doubles the feature map does so: before its convolutions (paper), or after them ("last"),
    which saves three quarters of their work (docs/recipe.md)."""
    z_map_channels: int = 0
    """Channels of a feature map that z_sem is unfolded to at the bottleneck; 0 for none, as in the paper."""
    patch_size: int = 1
    """The network sees patches of n x n pixels as one position with n * n times the channels; 1 for pixels (paper)."""
    norm_groups: int = 32
    """Groups of channels that are normalised together, where it divides them (paper: 32)."""

    def __post_init__(self) -> None:
        _check_widths(self.model_channels, self.channel_mult, self.heads)
        require(self.res_blocks >= 1, "res_blocks", self.res_blocks, "must be at least 1")
        require(self.model_channels % 2 == 0, "model_channels", self.model_channels, "must be even")
        require(self.time_channels >= 1, "time_channels", self.time_channels, "must be at least 1")
        require(self.patch_size >= 1, "patch_size", self.patch_size, "must be at least 1")
        require(self.norm_groups >= 1, "norm_groups", self.norm_groups, "must be at least 1")
        require(self.z_map_channels >= 0, "z_map_channels", self.z_map_channels, "must be 0 (none) or more")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "must lie in [0, 1)")
        require_choice("upsampling", self.upsampling, Upsampling)

    def check(self, shape: Shape) -> None:
        """Raise `ConfigError` unless images of this shape can be halved between all levels."""
        _check_halvings(shape, self.channel_mult, self.patch_size)

    def build(self, shape: Shape, z_sem_channels: int) -> nn.Module:
        """The network, with new weights."""
        from diffae.networks.unet import UNet

        return UNet(self, shape, z_sem_channels)


@dataclass(frozen=True)
class UNetEncoderConfig:
    """The semantic encoder of the paper: the contracting half of a UNet (Section 3.2, Table 5)."""

    kind: ClassVar[str] = "unet_encoder"

    z_sem_channels: int = 512
    """Size of z_sem."""
    model_channels: int = 64
    """Width of the first level ("base channels")."""
    channel_mult: tuple[int, ...] = (1, 2, 4, 8, 8)
    """Width of each level as a multiple of `model_channels`."""
    res_blocks: int = 2
    """Residual blocks per level."""
    attention_resolutions: tuple[int, ...] = (16,)
    """Sizes in pixels of the feature maps that get self-attention."""
    heads: int = 1
    """Attention heads."""
    pooling: Pooling = "average"
    """What z_sem is a linear map of: the average of the last feature map over its positions (paper), or the whole map
    ("flatten"), which keeps where things are (docs/recipe.md)."""
    patch_size: int = 1
    """The network sees patches of n x n pixels as one position with n * n times the channels; 1 for pixels (paper)."""
    norm_groups: int = 32
    """Groups of channels that are normalised together, where it divides them (paper: 32)."""

    def __post_init__(self) -> None:
        require(self.z_sem_channels >= 1, "z_sem_channels", self.z_sem_channels, "must be at least 1")
        _check_widths(self.model_channels, self.channel_mult, self.heads)
        require(self.res_blocks >= 1, "res_blocks", self.res_blocks, "must be at least 1")
        require(self.patch_size >= 1, "patch_size", self.patch_size, "must be at least 1")
        require(self.norm_groups >= 1, "norm_groups", self.norm_groups, "must be at least 1")
        require_choice("pooling", self.pooling, Pooling)

    def check(self, shape: Shape) -> None:
        """Raise `ConfigError` unless images of this shape can be halved between all levels."""
        _check_halvings(shape, self.channel_mult, self.patch_size)

    def build(self, shape: Shape) -> nn.Module:
        """The network, with new weights."""
        from diffae.networks.encoders import SemanticEncoder

        return SemanticEncoder(self, shape)


def _check_widths(model_channels: int, channel_mult: tuple[int, ...], heads: int) -> None:
    require(model_channels >= 1, "model_channels", model_channels, "must be at least 1")
    require(heads >= 1, "heads", heads, "must be at least 1")
    require(len(channel_mult) >= 1, "channel_mult", channel_mult, "needs at least one level")
    for mult in channel_mult:
        require(mult >= 1, "channel_mult", channel_mult, "every multiplier must be at least 1")
        width = mult * model_channels
        require(width % heads == 0, "heads", heads, f"must divide every level's width, here {width}")


def patched(shape: Shape, patch_size: int) -> Shape:
    """(c, h, w) of images whose patches are positions."""
    c, h, w = shape
    return c * patch_size**2, h // patch_size, w // patch_size


def _check_halvings(shape: Shape, channel_mult: tuple[int, ...], patch_size: int) -> None:
    halvings = len(channel_mult) - 1
    unit = patch_size * 2**halvings
    patches = f" its patches of {patch_size} x {patch_size} pixels" if patch_size > 1 else " it"
    for side in shape[1:]:
        rule = f"must be divisible by {unit}, because the network halves{patches} {halvings} times"
        require(side % unit == 0, "image_size", side, rule)
