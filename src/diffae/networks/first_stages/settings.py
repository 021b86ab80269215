"""Settings of the first stages. Nothing here imports torch; `build()` does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from diffae.errors import ConfigError, require
from diffae.networks.settings import Shape

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class SpaceToDepthConfig:
    """Blocks of pixels become channels: a permutation, so that nothing is lost and N(0, I) remains N(0, I)."""

    kind: ClassVar[str] = "space_to_depth"

    factor: int = 2
    """Side of a block in pixels, at least 2: the latents' sides are this many times smaller."""

    def __post_init__(self) -> None:
        require(self.factor >= 2, "factor", self.factor, "must be at least 2")

    def check(self, shape: Shape) -> None:
        """Raise `ConfigError` unless blocks tile images of this shape."""
        _require_divisible(shape, self.factor)

    def latent_shape(self, shape: Shape) -> Shape:
        """(c factor^2, h / factor, w / factor)."""
        return _deeper(shape, self.factor)

    def build(self, shape: Shape) -> nn.Module:
        """The transform; it has no parameters."""
        from diffae.networks.first_stages.transforms import SpaceToDepth

        return SpaceToDepth(self.factor)


@dataclass(frozen=True)
class HaarConfig:
    """Orthonormal Haar wavelets: averages and differences of neighbours become channels. Nothing is lost, and N(0, I)
    remains N(0, I)."""

    kind: ClassVar[str] = "haar"

    factor: int = 2
    """How many times smaller the latents' sides are: a power of 2, at least 2; one level of wavelets for each 2."""

    def __post_init__(self) -> None:
        rule = "must be a power of 2, at least 2"
        require(self.factor >= 2 and self.factor & (self.factor - 1) == 0, "factor", self.factor, rule)

    def check(self, shape: Shape) -> None:
        """Raise `ConfigError` unless images of this shape can be halved as often."""
        _require_divisible(shape, self.factor)

    def latent_shape(self, shape: Shape) -> Shape:
        """(c factor^2, h / factor, w / factor)."""
        return _deeper(shape, self.factor)

    def build(self, shape: Shape) -> nn.Module:
        """The transform; it has no parameters."""
        from diffae.networks.first_stages.transforms import Haar

        return Haar(self.factor)


@dataclass(frozen=True)
class DiffusersConfig:
    """A pretrained image autoencoder of the diffusers library, which stays as it is. `read` fills in the facts."""

    kind: ClassVar[str] = "diffusers"

    source: str
    """Its folder, or its id on the Hugging Face Hub."""
    key: str = ""
    """A hash of its settings and weights: another version is refused. Empty for any."""
    image_channels: int = 3
    """Channels of the images it takes."""
    latent_channels: int = 4
    """Channels of its latents."""
    factor: int = 8
    """How many times smaller the latents' sides are."""
    mean: tuple[float, ...] = ()
    """Of each channel of its latents over the training images, which is subtracted. Empty: measured in training."""
    std: tuple[float, ...] = ()
    """Standard deviation of each channel, by which latents are divided. Empty: measured in training."""

    def __post_init__(self) -> None:
        for name in ("image_channels", "latent_channels", "factor"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1")
        for name in ("mean", "std"):
            values, rule = getattr(self, name), f"must have a number for each of {self.latent_channels} channels"
            require(len(values) in (0, self.latent_channels), name, values, rule)
        require(len(self.mean) == len(self.std), "std", self.std, "must be given together with mean")
        positive = all(math.isfinite(value) and value > 0 for value in self.std)
        require(positive, "std", self.std, "must be positive")

    @classmethod
    def read(cls, source: str, shape: Shape) -> DiffusersConfig:
        """Settings for an autoencoder and images of this shape, which it encodes and decodes once.

        Args:
            source: its folder, or its id on the Hub.
            shape: (c, h, w) of the images.

        Raises:
            ConfigError: diffusers is not installed, or the autoencoder takes other channels or sizes.
            CheckpointError: there is no such autoencoder, it is damaged, or of a class that is not supported.
        """
        from diffae.networks.first_stages.pretrained import facts_of

        return cls(source, **facts_of(source, shape))

    def check(self, shape: Shape) -> None:
        """Raise `ConfigError` for images of other channels, or whose sides the factor does not divide."""
        rule = f"must be {self.image_channels}, the channels of the first stage {self.source}"
        require(shape[0] == self.image_channels, "image_channels", shape[0], rule)
        _require_divisible(shape, self.factor)

    def latent_shape(self, shape: Shape) -> Shape:
        """(latent_channels, h / factor, w / factor)."""
        return self.latent_channels, shape[1] // self.factor, shape[2] // self.factor

    def build(self, shape: Shape) -> nn.Module:
        """The autoencoder with its weights, from its folder or the Hub."""
        from diffae.networks.first_stages.pretrained import Autoencoder

        return Autoencoder(self)


def first_stage_of(text: str, shape: Shape) -> SpaceToDepthConfig | HaarConfig | DiffusersConfig:
    """The first stage that a text names: space-to-depth:N, haar:N, or diffusers:PATH_OR_HUB_ID.

    Args:
        text: as on the command line.
        shape: (c, h, w) of the images.

    Raises:
        ConfigError: another text, a number that is not allowed, or images that the first stage does not take.
        CheckpointError: an autoencoder that cannot be read.
    """
    kind, _, value = text.partition(":")
    if kind == "diffusers" and value:
        return DiffusersConfig.read(value, shape)
    if kind in ("space-to-depth", "haar") and value.isdecimal():
        return (HaarConfig if kind == "haar" else SpaceToDepthConfig)(int(value))
    rule = "must be space-to-depth:N, haar:N, or diffusers:SOURCE with a folder or Hub id, for instance haar:4"
    raise ConfigError(f"first_stage is {text!r}: {rule}")


def _require_divisible(shape: Shape, factor: int) -> None:
    for side in shape[1:]:
        rule = f"must be divisible by {factor}, the factor of the first stage"
        require(side % factor == 0, "image_size", side, rule)


def _deeper(shape: Shape, factor: int) -> Shape:
    return shape[0] * factor**2, shape[1] // factor, shape[2] // factor
