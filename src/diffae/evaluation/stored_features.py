"""Features of many images on disk, so that neither the images nor the features need fit into memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from torch import Tensor

from diffae.data.arrays import write_chunks
from diffae.evaluation.features import FeatureNetwork

Stored = Callable[[Iterable[Tensor]], tuple[np.ndarray, Tensor]]
"""Batches of images in [-1, 1] => the features of all, (n, d), in memory only where they are read; the first batch."""


@contextmanager
def stored_features(features: FeatureNetwork, folder: Path) -> Iterator[Stored]:
    """Yield a function from batches of images to their features, which are kept in a folder until the end."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as here:
        paths = (Path(here) / f"{number}.npy" for number in itertools.count())

        def see(batches: Iterable[Tensor]) -> tuple[np.ndarray, Tensor]:
            path, first = next(paths), []

            def vectors() -> Iterator[np.ndarray]:
                for x in batches:
                    first[:] = first or [x]
                    yield features.vectors(x)

            write_chunks(path, vectors())
            return np.load(path, mmap_mode="r"), first[0]

        yield see
