"""The networks while more is asked of z_sem than Eq. 6 asks: a contrast between images, a teacher's lessons."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffae.networks.autoencoder import AutoencoderNetworks
from diffae.training.contrast import contrastive_loss


class GuidedNetworks(nn.Module):
    """The networks with what further losses on z_sem need in training, and nothing later.

    Args:
        autoencoder: with an encoder.
        z_sem_channels: numbers of z_sem.
        contrasted: whether images are contrasted, for which z_sem is projected.
        taught: numbers of a teacher's vector, which a linear function of z_sem tells; 0 without a teacher.
    """

    def __init__(self, autoencoder: AutoencoderNetworks, z_sem_channels: int, *, contrasted: bool, taught: int) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        hidden, out = 2 * z_sem_channels, max(z_sem_channels // 2, 1)
        self.projection = (
            nn.Sequential(nn.Linear(z_sem_channels, hidden), nn.SiLU(), nn.Linear(hidden, out)) if contrasted else None
        )
        self.retelling = nn.Linear(z_sem_channels, taught) if taught else None

    def forward(
        self,
        x_t: Float[Tensor, "b c h w"],
        time: Int[Tensor, " b"],
        x_0: Float[Tensor, "b c h w"],
        other_view: Float[Tensor, "b c h w"] | None,
        lesson: Float[Tensor, "b d"] | None,
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, ""], Float[Tensor, ""]]:
        """The UNet's output given z_sem of x_0, as of `AutoencoderNetworks`, and the further losses.

        Args:
            x_t, time, x_0: as of `AutoencoderNetworks`.
            other_view: of x_0, where images are contrasted.
            lesson: a teacher's vectors of x_0, of unit variance; z_sem of the other views is to tell them as well.
        Returns:
            The output; the contrast of x_0 with its view; the mean squared error of the lesson, 1 where nothing of it
            is told. 0 for a loss that is not asked for.
        """
        assert self.autoencoder.encoder is not None
        views = [x_0] if other_view is None else [x_0, other_view]
        z_sem = self.autoencoder.encoder(torch.cat(views))
        contrast = error = torch.zeros((), device=z_sem.device)
        if self.projection is not None:
            contrast = contrastive_loss(*self.projection(z_sem).chunk(2))
        if self.retelling is not None:
            assert lesson is not None
            error = F.mse_loss(self.retelling(z_sem).float(), lesson.repeat(len(views), 1))
        return self.autoencoder.unet(x_t, time, z_sem[: len(x_0)]), contrast, error
