"""An encoder whose z_sem is a trained map of a pretrained network's features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffae.errors import CheckpointError
from diffae.networks.foundation.network import FrozenNetwork
from diffae.networks.foundation.settings import FoundationConfig
from diffae.networks.settings import Shape


class FoundationEncoder(nn.Module):
    """Images, or features that were computed before, -> z_sem.

    Raises:
        ConfigError, CheckpointError, DataError: see `FoundationConfig.read`; or other weights than `config.key` states.
    """

    def __init__(self, config: FoundationConfig, shape: Shape) -> None:
        super().__init__()
        self.network = FrozenNetwork.open(config.source)
        if config.key not in ("", self.network.key):
            was = f"has weights {self.network.key}, and the model was trained with {config.key}"
            raise CheckpointError(f"encoder {config.source} {was}: put those there, or train again")
        features = config.features or self.network.size_for(shape)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.zeros(features))  # until the features of the training images are known
        self.mean: Tensor
        self.scale: Tensor
        size = config.z_sem_channels - config.learnt_channels
        layers: list[nn.Module] = [nn.Linear(config.hidden or features, size)]
        if config.hidden:
            layers = [nn.Linear(features, config.hidden), nn.SiLU(), *layers]
        self.head = nn.Sequential(*layers)
        self.learnt = config.learnt.build(shape) if config.learnt else None

    @property
    def standardised(self) -> bool:
        """Whether mean and scale are those of some images."""
        return bool(self.scale.any())

    def standardise(self, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> None:
        """Bring features of this mean and standard deviation to zero mean and unit variance; constant ones to zero."""
        spread = torch.as_tensor(std, dtype=torch.float64)
        scale = torch.where(spread > 1e-6 * spread.max(), 1 / spread, 0.0)
        self.mean.copy_(torch.as_tensor(mean))
        self.scale.copy_(scale)

    def forward(
        self, images: Float[Tensor, "b c h w"], features: Float[Tensor, "b k"] | None = None
    ) -> Float[Tensor, "b d"]:
        """z_sem of images in [-1, 1], whose features may be given."""
        seen: Tensor = self.network(images) if features is None else features
        z_sem = self.head((seen.to(self.mean.dtype) - self.mean) * self.scale)
        return z_sem if self.learnt is None else torch.cat([z_sem, self.learnt(images)], dim=1)
