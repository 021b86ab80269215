"""Settings of an encoder with a pretrained network. Nothing here imports torch; `build()` does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from diffae.errors import require
from diffae.networks.settings import Shape, UNetEncoderConfig

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class FoundationConfig:
    """A pretrained network, which stays as it is, and a trained map of its features to z_sem; see `read`.

    Its features are computed once for each training image, and its mirror image, not in the steps of training.
    """

    kind: ClassVar[str] = "foundation"

    source: str
    """timm:NAME, hf:NAME (a model of transformers), FILE.onnx or torchscript:FILE. Behind the name of a file may stand
    its range, @unit (the default), @symmetric or @imagenet, and its size, as in "net.onnx@imagenet@224"."""
    z_sem_channels: int = 512
    """Size of z_sem."""
    features: int = 0
    """Size of the network's feature vector; 0 until it is read."""
    key: str = ""
    """A hash of its weights: other weights are refused. Empty for any."""
    hidden: int = 0
    """Width of a hidden layer of the map; 0 for a linear map."""
    learnt: UNetEncoderConfig | None = None
    """An encoder that is trained from the start, whose z_sem is appended: for what the pretrained network ignores."""

    def __post_init__(self) -> None:
        require(self.features >= 0, "features", self.features, "must not be negative")
        require(self.hidden >= 0, "hidden", self.hidden, "must be 0 (a linear map) or more")
        rule = f"must be more than the {self.learnt_channels} that are learnt from the start"
        require(self.z_sem_channels > self.learnt_channels, "z_sem_channels", self.z_sem_channels, rule)

    @classmethod
    def read(
        cls, source: str, shape: Shape, z_sem_channels: int = 512, learnt: UNetEncoderConfig | None = None
    ) -> FoundationConfig:
        """Settings for a network and images of this shape, one of which is sent through it.

        Args:
            source: see the field.
            shape: (c, h, w) of the images.
            z_sem_channels: size of z_sem, those that `learnt` adds included.
            learnt: see the field.

        Raises:
            ConfigError: a library that it needs is not installed, or a source of another form.
            CheckpointError: there is no such model, or it cannot be read.
            DataError: a file that is no network, or takes or gives something else.
        """
        from diffae.networks.foundation.network import FrozenNetwork

        _require_rgb(shape)
        network = FrozenNetwork.open(source)
        return cls(source, z_sem_channels, network.size_for(shape), network.key, learnt=learnt)

    @property
    def learnt_channels(self) -> int:
        """Numbers of z_sem that do not depend on the pretrained network."""
        return self.learnt.z_sem_channels if self.learnt else 0

    def check(self, shape: Shape) -> None:
        """Raise `ConfigError` unless images are grey or RGB, and as the learnt part takes them."""
        _require_rgb(shape)
        if self.learnt is not None:
            self.learnt.check(shape)

    def build(self, shape: Shape) -> nn.Module:
        """The encoder, with the pretrained weights from where they are."""
        from diffae.networks.foundation.encoder import FoundationEncoder

        return FoundationEncoder(self, shape)


def _require_rgb(shape: Shape) -> None:
    require(shape[0] in (1, 3), "image_channels", shape[0], "must be 1 or 3 for a pretrained network")
