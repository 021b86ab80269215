"""Distillation: a linear map of z_sem predicts the features that another network gives of the image (docs/recipe.md).

Networks trained on far more images than a user has know what is alike in them. Predicting their features brings that
into z_sem beside what the decoder needs; the model needs neither the network nor the map later. Romero et al.,
"FitNets: hints for thin deep nets" (ICLR 2015), train hidden layers in this way.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from diffae.config import ModelConfig
from diffae.data.arrays import ArrayFile
from diffae.errors import DataError
from diffae.training.auxiliary_losses.base import AuxiliaryBatch, AuxiliaryLoss, prediction_error

_BLOCK = 4096
"""Rows read at once."""


class TargetFeatures:
    """Features of all images of a pack, each standardised to zero mean and unit variance over the images.

    Args:
        path: a .npy file of floating-point numbers (n, k), which stays on disk.
        count: images of the pack, n.
    Raises:
        DataError: an array of another shape or type, not finite, or the same for all images.
    """

    def __init__(self, path: Path, count: int) -> None:
        self._rows = ArrayFile(path)
        shape, dtype = self._rows.shape, self._rows.dtype
        if len(shape) != 2 or len(self._rows) != count or dtype.kind != "f":
            rule = f"must be floating-point features of {count} images, ({count}, k)"
            raise DataError(f"features {path} are {dtype} of shape {shape}: they {rule}")
        self._mean = sum(block.sum(axis=0) for block in self._blocks()) / count
        std = np.sqrt(sum(np.square(block - self._mean).sum(axis=0) for block in self._blocks()) / count)
        if not np.isfinite(std).all() or not std.any():
            raise DataError(f"features {path} are not finite, or the same for all images: give another network")
        self._std = np.where(std > 1e-6 * std.max(), std, np.inf)  # constant features become 0

    @property
    def size(self) -> int:
        """k, the number of features."""
        return self._rows.shape[1]

    def of(self, indices: Int64[np.ndarray, " b"]) -> Float[Tensor, "b k"]:
        """Standardised features of these images of the pack, float32 on the CPU."""
        return torch.from_numpy(((self._read(indices) - self._mean) / self._std).astype(np.float32))

    def _blocks(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self._rows), _BLOCK):
            yield self._read(np.arange(start, min(start + _BLOCK, len(self._rows))))

    def _read(self, indices: np.ndarray) -> np.ndarray:
        return self._rows.fetch(indices).astype(np.float64)


class DistillationLoss(AuxiliaryLoss):
    """Mean squared error of a linear prediction of the features from z_sem."""

    def __init__(self, model: ModelConfig, feature_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(model.z_sem_channels, feature_channels)

    def forward(self, z_sem: Float[Tensor, "n d"], batch: AuxiliaryBatch) -> Float[Tensor, ""]:
        assert batch.features is not None
        return prediction_error(self.linear(z_sem), batch.features)
