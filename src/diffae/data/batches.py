"""Endless training batches.

Batch number k depends on (seed, k) alone: a run resumes at any step without replaying, and several processes together
see exactly what one process sees.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64, Integer, UInt
from torch import Tensor

from diffae.data.image_set import ImageSet
from diffae.data.stored_views import StoredViews
from diffae.errors import ConfigError, DataError

_AHEAD = 2  # batches read in advance
_ORDER, _FLIP = 0, 1  # purposes of random streams


class Batch(NamedTuple):
    """One process's part of a global batch."""

    images: UInt[Tensor, "b c h w"]
    """uint8 or uint16, contiguous, on the CPU; `diffae.data.images.to_float` converts them to [-1, 1] on any device."""
    rows: Int64[np.ndarray, " b"]
    """Positions in the global batch, 0..batch_size - 1: take the same rows of noise drawn for the global batch."""
    indices: Int64[np.ndarray, " b"]
    """Indices in the ImageSet."""
    stored: Mapping[str, Float[Tensor, "b ..."]] = MappingProxyType({})
    """What was computed of these images before, mirrored or not, by name."""


class BatchStream:
    """Shuffled batches without end.

    Each epoch is a permutation of `indices` drawn from (seed, epoch). The concatenated epochs are cut into batches, so
    a batch may run over into the next epoch, or through several if there are few images.

    Args:
        images: a `Pack`, a `DatasetImages`, or any other ImageSet.
        indices: those to draw from, for instance `images.split()[0]`.
        batch_size: images of the global batch, over all processes.
        seed: not negative.
        flip: mirror each image left to right with probability 1/2.
        rank, world_size: this process takes rows rank, rank + world_size, rank + 2 world_size, ... of each batch.
        stored: what else to read with the images, by name.
    Raises:
        ConfigError: an invalid batch size, seed, rank or world size.
        DataError: no indices.
    """

    def __init__(
        self,
        images: ImageSet,
        indices: Integer[np.ndarray, " n"],
        batch_size: int,
        seed: int,
        flip: bool,
        rank: int = 0,
        world_size: int = 1,
        stored: Mapping[str, StoredViews] = MappingProxyType({}),
    ) -> None:
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank is {rank} of {world_size}, it must be 0..world_size - 1; check the launcher")
        if batch_size < 1 or batch_size % world_size:
            rule = f"must be a positive multiple of the {world_size} processes"
            raise ConfigError(
                f"batch_size is {batch_size}, it {rule}; use {world_size * max(batch_size // world_size, 1)}"
            )
        if seed < 0:
            raise ConfigError(f"seed is {seed}, it must not be negative; use 0")
        if len(indices) == 0:
            raise DataError("no images to draw batches from, at least one is needed; hold fewer out or add some")
        self.images = images
        self.indices = indices
        self.batch_size = batch_size
        self.seed = seed
        self.flip = flip
        self.stored = stored
        self.rows = np.arange(rank, batch_size, world_size)
        self._orders: dict[int, Int64[np.ndarray, " n"]] = {}

    def batch(self, k: int) -> Batch:
        """This process's part of batch number k, counted from 0."""
        # positions in the endless sequence of epochs; Python integers, which do not overflow
        epochs, places = np.divmod(k * self.batch_size + self.rows, len(self.indices))
        indices = np.empty(len(self.rows), np.int64)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            indices[here] = self.indices[self._order(epoch)[places[here]]]
        images = self.images.fetch(indices)
        mirrored = np.zeros(len(indices), bool)
        if self.flip:
            mirrored = self._random(_FLIP, k).random(self.batch_size)[self.rows] < 0.5
            images[mirrored] = images[mirrored, :, ::-1]
        stored = {name: _pinned(views.fetch(indices, mirrored)) for name, views in self.stored.items()}
        x = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        return Batch(_pinned(x), self.rows, indices, stored)

    def iterate(self, start: int) -> Generator[Batch]:
        """Batches start, start + 1, ..., read ahead by a thread that ends when the iterator is closed or fails."""
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
            ahead = deque(pool.submit(self.batch, start + offset) for offset in range(_AHEAD))
            k = start + _AHEAD
            try:
                while True:
                    batch = ahead.popleft().result()
                    ahead.append(pool.submit(self.batch, k))
                    k += 1
                    yield batch
            finally:
                for future in ahead:
                    future.cancel()

    def _order(self, epoch: int) -> Int64[np.ndarray, " n"]:
        order = self._orders.get(epoch)
        if order is None:
            order = self._random(_ORDER, epoch).permutation(len(self.indices))
            latest = list(self._orders.items())[-1:]
            self._orders = dict([*latest, (epoch, order)])  # two epochs at most; a new dict, for threads that read
        return order

    def _random(self, purpose: int, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, purpose, number])


def _pinned(x: Tensor) -> Tensor:
    """A tensor whose copy to a GPU, if there is one, does not wait for it."""
    return x.pin_memory() if torch.cuda.is_available() else x
