"""What a network gives of each image of a pack, and of its mirror image: computed once, read by index in training."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from diffae.data.arrays import ArrayFile
from diffae.data.feature_cache import Callback, write_rows
from diffae.data.locks import locked
from diffae.data.pack import Pack
from diffae.distributed import alone
from diffae.errors import DataError

_BLOCK = 256
"""Rows read at once."""

Compute = Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b ..."]]
"""What is stored, of images in [-1, 1] on the CPU."""


class Moments(NamedTuple):
    """Of each channel, float64."""

    mean: Float[Tensor, " c"]
    std: Float[Tensor, " c"]


class StoredViews:
    """Rows of one file for the images, and of another for their mirror images.

    Args:
        plain: a .npy file (n, ...) of floating-point numbers, in the order of the pack.
        mirrored: the same of the images mirrored left to right; None if they are not needed.
    """

    def __init__(self, plain: Path, mirrored: Path | None = None) -> None:
        self._plain = ArrayFile(plain)
        self._mirrored = None if mirrored is None else ArrayFile(mirrored)

    def fetch(self, indices: Integer[np.ndarray, " b"], mirrored: Bool[np.ndarray, " b"]) -> Float[Tensor, "b ..."]:
        """The rows of these images, or where `mirrored` is true of their mirror images; float32 on the CPU."""
        rows = self._plain.fetch(indices[~mirrored])
        found = np.empty((len(indices), *rows.shape[1:]), np.float32)
        found[~mirrored] = rows
        if mirrored.any():
            assert self._mirrored is not None
            found[mirrored] = self._mirrored.fetch(indices[mirrored])
        return torch.from_numpy(found)

    def moments(self, indices: Integer[np.ndarray, " n"]) -> Moments:
        """Mean and standard deviation of each channel, the axis after the first, over these images."""
        count, total, squares = 0, np.zeros(()), np.zeros(())
        for start in range(0, len(indices), _BLOCK):
            x = self._plain.fetch(indices[start : start + _BLOCK]).astype(np.float64)
            x = np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])
            count, total, squares = count + len(x), total + x.sum(axis=0), squares + np.square(x).sum(axis=0)
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - np.square(mean), 0))
        return Moments(torch.as_tensor(mean), torch.as_tensor(std))


def store_views(
    pack: Pack, key: str, compute: Compute, *, mirrored: bool, progress: Callback | None = None
) -> StoredViews:
    """Compute what is to be stored of all images, unless it is there, in float16 beside the pack's images.

    Args:
        pack: the images.
        key: identifies the network and its version; another key is another file.
        compute: the network.
        mirrored: also of the mirror images.
        progress: called with the number of images done so far, for each file that is made.
    Raises:
        DataError: numbers that are not finite in float16.
        TrainingError: the disk is full, or the pack's folder cannot be written.
    """
    digest = hashlib.blake2b(key.encode(), digest_size=6).hexdigest()
    names = [f"views-{digest}.npy", f"views-{digest}-mirrored.npy"]
    paths = [pack.path / name for name in names[: 2 if mirrored else 1]]
    for path, flip in zip(paths, (False, True), strict=False):
        if not path.is_file():
            with locked(pack.path.parent), alone():  # each node may have a pack of its own
                write_rows(path, pack, np.arange(len(pack)), _halved(compute, flip), progress)
    return StoredViews(*paths)


def _halved(compute: Compute, flip: bool) -> Callable[[Tensor], np.ndarray]:
    def encode(images: Tensor) -> np.ndarray:
        half = compute(images.flip(3) if flip else images).half().cpu()
        if not bool(torch.isfinite(half).all()):
            raise DataError("what is to be stored is not finite in float16: the network may not suit these images")
        return half.numpy()

    return encode
