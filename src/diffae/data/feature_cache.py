"""Vectors of the images of a pack, made once and read from disk: z_sem, and the features of other networks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float, Float32, Integer
from torch import Tensor

from diffae.checkpoint import written_beside
from diffae.data.arrays import write_chunks
from diffae.data.images import to_tensor
from diffae.data.locks import locked
from diffae.data.pack import Pack
from diffae.data.pack.writer import IMAGES
from diffae.distributed import alone, barrier, broadcast, divided, is_main
from diffae.errors import DataError
from diffae.workers import team_size

_BATCH = 256  # images read at once; a network may take them in smaller parts

Callback = Callable[[int], None]
"""Called with the number of images done so far."""


class SemanticEncoder(Protocol):
    """A model that encodes images, such as `diffae.DiffusionAutoencoder`."""

    @property
    def image_shape(self) -> tuple[int, int, int]: ...
    def fingerprint(self) -> str: ...
    def encode_semantic(self, images: Tensor) -> Tensor: ...


class VectorNetwork(Protocol):
    """A network that gives a vector (b, d) for each image, such as `diffae.evaluation.features.FeatureNetwork`."""

    @property
    def key(self) -> str: ...
    def vectors(self, images: Tensor) -> np.ndarray: ...


def encode_pack(
    model: SemanticEncoder,
    pack: Pack,
    rows: Integer[np.ndarray, " n"],
    folder: str | Path,
    progress: Callback | None = None,
) -> Float32[np.ndarray, "n d"]:
    """Return z_sem of some images of a pack, encoded the first time and then read from a cache.

    The file is named by a hash of the model's fingerprint, the pack and the rows, and may be deleted at any time.
    Processes that ask for the same file wait for the one that makes it; those of one job share the work (all must call
    this), and see the same folder.

    Args:
        model: with the averaged (EMA) weights, as read from a run folder.
        pack: images of the model's size and channels.
        rows: which of them, 0..len(pack) - 1, in the order wanted.
        folder: where the file is kept, for instance RUN/cache; made if needed.
        progress: called with the number of images encoded so far, unless the file exists.
    Returns:
        A read-only memory map of `folder/z_sem-KEY.npy`, (n, d) float32.
    Raises:
        DataError: no rows, images of another size or number of channels, or a folder that cannot be made or locked.
        ConfigError: a model without an encoder.
        TrainingError: the disk is full, or the file cannot be written.
    """
    channels, size, _ = model.image_shape
    if (pack.channels, pack.size) != (channels, size):
        made = f"the model is made for {channels} x {size}; build the pack for this model"
        raise DataError(f"images are {pack.channels} x {pack.size} pixels: {made}")
    if not len(rows):
        raise DataError("no images to encode: at least one is needed; name some rows of the pack")
    digest = hashlib.sha256(f"{model.fingerprint()} {_key(pack)}".encode())
    digest.update(np.ascontiguousarray(rows, dtype=np.int64).tobytes())
    path = Path(folder) / f"z_sem-{digest.hexdigest()[:16]}.npy"
    if broadcast(not path.is_file()):
        with locked(path.parent) if is_main() else nullcontext():
            write_rows(path, pack, rows, lambda x: model.encode_semantic(x).float().cpu().numpy(), progress)
        barrier()
    return np.load(path, mmap_mode="r")


def vectors_file(pack: Pack, network: VectorNetwork, progress: Callback | None = None) -> Path:
    """Return a .npy file in the pack's folder with the network's vector of each image, written if needed.

    Args:
        pack: images that the network takes, gray or RGB.
        network: gives the vectors.
        progress: called with the number of images done so far, unless the file exists.
    Returns:
        The file: (n, d) float32, in the order of the pack.
    Raises:
        DataError: the network does not take such images, or gives no vectors.
        TrainingError: the disk is full, or the pack's folder cannot be written.
    """
    path = pack.path / f"vectors-{hashlib.blake2b(network.key.encode(), digest_size=6).hexdigest()}.npy"
    with locked(pack.path.parent), alone():  # each node may have a pack of its own
        write_rows(path, pack, np.arange(len(pack)), lambda x: network.vectors(x).astype("<f4"), progress)
    return path


def write_rows(
    path: Path,
    pack: Pack,
    rows: Integer[np.ndarray, " n"],
    encode: Callable[[Float[Tensor, "b c h w"]], np.ndarray],
    progress: Callback | None,
) -> None:
    """Write encode(images) of these rows, unless another process has meanwhile."""

    def chunks() -> Iterator[np.ndarray]:
        batch, done = _BATCH * team_size(), 0
        for found in divided(
            range(0, len(rows), batch), lambda at: encode(to_tensor(pack.fetch(rows[at : at + batch])))
        ):
            yield found
            done += len(found)
            if progress:
                progress(done)

    if broadcast(path.is_file()):
        return
    if not is_main():
        list(chunks())  # which the first process writes
        return
    with written_beside(path) as temporary:
        write_chunks(temporary, chunks())


def _key(pack: Pack) -> str:
    """Identifies the images of a pack; by path, size and time of its file if it has no key of its own."""
    facts = (pack.path / IMAGES).stat()
    return pack.index["key"] or f"{pack.path.resolve()} {facts.st_size} {facts.st_mtime_ns}"
