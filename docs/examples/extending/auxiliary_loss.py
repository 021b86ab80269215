"""An auxiliary loss: a linear map of z_sem predicts a thumbnail of the image, that is, where which colours are."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from diffae import ModelConfig
from diffae.training.auxiliary_losses.base import AuxiliaryBatch, AuxiliaryLoss, prediction_error


class ThumbnailLoss(AuxiliaryLoss):
    """Mean squared error of the predicted thumbnail. Its layer is used in training only and is not saved."""

    def __init__(self, model: ModelConfig, side: int) -> None:
        super().__init__()
        self.side = side
        self.linear = nn.Linear(model.z_sem_channels, model.image_channels * side**2)

    def forward(self, z_sem: Tensor, batch: AuxiliaryBatch) -> Tensor:
        thumbnails = F.adaptive_avg_pool2d(batch.images, self.side).flatten(1)
        return prediction_error(self.linear(z_sem), thumbnails)


@dataclass(frozen=True)
class ThumbnailConfig:
    """Settings of the loss."""

    weight: float = 1.0
    """Of this loss, beside that of the decoder."""
    side: int = 4
    """Of the thumbnail in pixels."""

    def build(self, model: ModelConfig, feature_channels: int) -> AuxiliaryLoss:
        return ThumbnailLoss(model, self.side)
