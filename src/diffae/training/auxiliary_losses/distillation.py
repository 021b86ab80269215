"""What another network says of each image, as a lesson for z_sem (docs/recipe.md, "A teacher").

There are networks trained on far more images than anybody has of his own, which know what is alike in them. A linear
function of z_sem is asked to tell such a network's vector of the image: so z_sem knows it, too, beside what the decoder
needs, and the model needs neither that network nor that function later. Romero et al., "FitNets: hints for thin deep
nets" (ICLR 2015), teach hidden layers so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from diffae.data.rows import ArrayFile
from diffae.errors import DataError

_BLOCK = 4096
"""Vectors read at once."""


class Teacher:
    """Vectors of all images of a pack; each of their numbers is brought to zero mean and unit variance.

    Args:
        path: a .npy file of floating-point numbers (n, d), which stays on disk.
        count: images of the pack, n.
    Raises:
        DataError: another array, one with numbers that are not finite, or in which nothing differs between images.
    """

    def __init__(self, path: Path, count: int) -> None:
        self._rows = ArrayFile(path)
        shape, dtype = self._rows.shape, self._rows.dtype
        if len(shape) != 2 or len(self._rows) != count or dtype.kind != "f":
            rule = f"must be floating-point vectors of {count} images, ({count}, d)"
            raise DataError(f"vectors {path} are {dtype} of shape {shape}: they {rule}")
        self._mean = sum(block.sum(axis=0) for block in self._blocks()) / count
        std = np.sqrt(sum(np.square(block - self._mean).sum(axis=0) for block in self._blocks()) / count)
        if not np.isfinite(std).all() or not std.any():
            raise DataError(f"vectors {path} are not finite, or alike for all images: give a network that tells them")
        self._std = np.where(std > 1e-6 * std.max(), std, np.inf)  # what never differs is no lesson: 0 for all

    @property
    def size(self) -> int:
        """Numbers of a vector, d."""
        return self._rows.shape[1]

    def lesson(self, indices: Int64[np.ndarray, " b"]) -> Float[Tensor, "b d"]:
        """The vectors of these images of the pack, float32 on the CPU, of zero mean and unit variance over all."""
        return torch.from_numpy(((self._read(indices) - self._mean) / self._std).astype(np.float32))

    def _blocks(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self._rows), _BLOCK):
            yield self._read(np.arange(start, min(start + _BLOCK, len(self._rows))))

    def _read(self, indices: np.ndarray) -> np.ndarray:
        return self._rows.fetch(indices).astype(np.float64)
