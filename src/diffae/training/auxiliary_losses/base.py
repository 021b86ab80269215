"""Further losses on z_sem in training, beside that of Eq. 6 (docs/recipe.md)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffae.model import DiffusionModule
from diffae.training.settings import TrainingConfig


class AuxiliaryBatch(NamedTuple):
    """What an auxiliary loss may look at besides z_sem."""

    images: Float[Tensor, "b c h w"]
    """In [-1, 1]."""
    features: Float[Tensor, "b k"] | None
    """Another network's features of the images, of zero mean and unit variance; None where none are distilled."""


class AuxiliaryLoss(nn.Module):
    """A loss on z_sem, with the layers it needs in training only. Subclass it (docs/extending.md)."""

    needs_view = False
    """Whether a second view of every image, cropped and recoloured, is encoded for it."""

    def forward(self, z_sem: Float[Tensor, "n d"], batch: AuxiliaryBatch) -> Float[Tensor, ""]:
        """The loss, before it is weighted.

        Args:
            z_sem: of the b images, followed by those of their second views where any loss needs them: n is b or 2b.
            batch: the images.
        """
        raise NotImplementedError


def prediction_error(predicted: Float[Tensor, "n k"], target: Float[Tensor, "b k"]) -> Float[Tensor, ""]:
    """Mean squared error; predictions of second views, which come after the others, have the same targets."""
    return F.mse_loss(predicted.float(), target.repeat(len(predicted) // len(target), 1))


class ModelWithLosses(nn.Module):
    """A model together with its auxiliary losses, as it is trained.

    Args:
        model: with an encoder.
        config: names the losses and their weights.
        feature_channels: size of the features to distil; 0 without.
    """

    def __init__(self, model: DiffusionModule, config: TrainingConfig, feature_channels: int) -> None:
        super().__init__()
        self.model = model
        self.weights = [loss.weight for loss in config.auxiliary_losses]
        self.losses = nn.ModuleList(loss.build(model.config, feature_channels) for loss in config.auxiliary_losses)

    @property
    def needs_view(self) -> bool:
        """Whether any loss needs a second view."""
        return any(loss.needs_view for loss in self.losses)

    def forward(
        self,
        x_t: Float[Tensor, "b c h w"],
        time: Int[Tensor, " b"],
        batch: AuxiliaryBatch,
        seen: Float[Tensor, "b k H W"],
        other_view: Float[Tensor, "b k H W"] | None,
        features: Float[Tensor, "b f"] | None = None,
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, ""]]:
        """The decoder's output, as of `DiffusionModule`, and the sum of the weighted auxiliary losses."""
        z_sem = self.model.call_encoder(seen if other_view is None else torch.cat([seen, other_view]), features)
        total = torch.zeros((), device=z_sem.device)
        for weight, loss in zip(self.weights, self.losses, strict=True):
            total = total + weight * loss(z_sem, batch)
        return self.model.call_decoder(x_t, time, z_sem[: len(seen)]), total
