"""The vectors that a feature network gives of all images of a pack, made once and kept with it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from diffae.checkpoint import written_beside
from diffae.data.images import to_tensor
from diffae.data.pack import Pack, locked
from diffae.evaluation.features import FeatureNetwork

_BLOCK = 512  # images read at once


def vectors_file(pack: Pack, network: FeatureNetwork, tell: Callable[[int], None] = lambda _: None) -> Path:
    """A .npy file, in the pack's folder, with the network's vector of each image, float32 (n, d), in the pack's order.

    It is made where it is not there yet, by one process at a time.

    Args:
        pack: images that the network can see, gray or RGB.
        network: one that gives vectors.
        tell: given how many images are done, now and then.
    Raises:
        DataError: the network cannot see the images, or gives no vectors.
        TrainingError: the disk is full, or the pack's folder cannot be written.
    """
    key = hashlib.blake2b(network.key.encode(), digest_size=6).hexdigest()
    path = pack.path / f"vectors-{key}.npy"
    with locked(pack.path.parent):
        if path.exists():
            return path
        with written_beside(path) as temporary, temporary.open("wb") as file:
            for start in range(0, len(pack), _BLOCK):
                rows = np.arange(start, min(start + _BLOCK, len(pack)))
                found = network.vectors(to_tensor(pack.fetch(rows)))
                if start == 0:
                    shape = (len(pack), found.shape[1])
                    facts = {"descr": "<f4", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(file, facts)
                file.write(found.astype("<f4").tobytes())
                tell(start + len(rows))
    return path
