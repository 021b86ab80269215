"""The networks while more is asked of z_sem than Eq. 6 asks: a contrast, orientations, a teacher's lessons."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffae.config import NetworkConfig, TrainingConfig
from diffae.networks.autoencoder import AutoencoderNetworks
from diffae.training.auxiliary_losses.contrastive import contrastive_loss
from diffae.training.auxiliary_losses.hog import VARIANCE, oriented_gradients


class GuidedNetworks(nn.Module):
    """The networks with what further losses on z_sem need in training, and nothing later.

    Args:
        autoencoder: with an encoder.
        network: its settings.
        weights: those of the further losses, `contrast`, `orientations` and `teaching`.
        taught: numbers of a teacher's vector; 0 without a teacher.
    """

    def __init__(
        self, autoencoder: AutoencoderNetworks, network: NetworkConfig, weights: TrainingConfig, taught: int
    ) -> None:
        super().__init__()
        self.autoencoder, self.weights = autoencoder, weights
        z_sem = network.z_sem_channels
        hidden, out = 2 * z_sem, max(z_sem // 2, 1)
        self.projection = self.sketch = self.retelling = None
        if weights.contrast:
            self.projection = nn.Sequential(nn.Linear(z_sem, hidden), nn.SiLU(), nn.Linear(hidden, out))
        if weights.orientations:
            blank = torch.zeros(1, network.image_channels, network.image_size, network.image_size)
            self.sketch = nn.Linear(z_sem, oriented_gradients(blank).shape[1])
        if taught:
            self.retelling = nn.Linear(z_sem, taught)

    def forward(
        self,
        x_t: Float[Tensor, "b c h w"],
        time: Int[Tensor, " b"],
        x_0: Float[Tensor, "b c h w"],
        other_view: Float[Tensor, "b c h w"] | None,
        lesson: Float[Tensor, "b d"] | None,
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, ""]]:
        """The UNet's output given z_sem of x_0, as of `AutoencoderNetworks`, and the further losses, weighted.

        Args:
            x_t, time, x_0: as of `AutoencoderNetworks`.
            other_view: of x_0, where images are contrasted.
            lesson: a teacher's vectors of x_0, of unit variance.
        """
        assert self.autoencoder.encoder is not None
        views = [x_0] if other_view is None else [x_0, other_view]
        z_sem = self.autoencoder.encoder(torch.cat(views))
        further = torch.zeros((), device=z_sem.device)
        if self.projection is not None:
            further = further + self.weights.contrast * contrastive_loss(*self.projection(z_sem).chunk(2))
        if self.sketch is not None:
            told = oriented_gradients(x_0)
            further = further + self.weights.orientations * _error(self.sketch(z_sem), told) / VARIANCE
        if self.retelling is not None:
            assert lesson is not None
            further = further + self.weights.teaching * _error(self.retelling(z_sem), lesson)
        return self.autoencoder.unet(x_t, time, z_sem[: len(x_0)]), further


def _error(told: Float[Tensor, "n d"], true: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """Mean squared error of what z_sem tells of images; that of their other views is to tell the same."""
    return F.mse_loss(told.float(), true.repeat(len(told) // len(true), 1))
