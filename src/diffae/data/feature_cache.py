"""z_sem of a whole set of images: encoded once, kept beside the run, read from disk as it is needed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Integer

from diffae.checkpoint import written_beside
from diffae.data.images import to_tensor
from diffae.data.pack import Pack, locked
from diffae.errors import DataError
from diffae.model import DiffusionAutoencoder

_BATCH = 256  # images read at once; the encoder takes them in parts of its own


def encode_pack(
    model: DiffusionAutoencoder,
    pack: Pack,
    rows: Integer[np.ndarray, " n"],
    folder: str | Path,
    progress: Callable[[int], None] | None = None,
) -> Float32[np.ndarray, "n d"]:
    """z_sem of these rows of a pack, in their order; encoded the first time, then found in the folder.

    The file is named by a hash of the model's fingerprint, of the pack and of the rows, so that none is taken for
    another's; the folder may be deleted at any time. Processes that ask at the same time wait for one of them.

    Args:
        model: encodes; as read from a run folder, with the averaged (EMA) weights.
        pack: images of the model's size and channels.
        rows: which of them, 0..len(pack) - 1.
        folder: where the file is kept, for instance RUN/cache; made if needed.
        progress: called with the number of images encoded so far, where there is something to encode.
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
    path = Path(folder) / f"z_sem-{_key(model, pack, rows)}.npy"
    if not path.is_file():
        with locked(path.parent):  # all of them would write the same temporary file
            if not path.is_file():  # another process may have made it meanwhile
                with written_beside(path) as temporary:
                    _encode(model, pack, rows, temporary, progress)
    return np.load(path, mmap_mode="r")


def _encode(
    model: DiffusionAutoencoder,
    pack: Pack,
    rows: Integer[np.ndarray, " n"],
    path: Path,
    progress: Callable[[int], None] | None,
) -> None:
    shape = (len(rows), model.config.network.z_sem_channels)
    with path.open("wb") as file:
        header = {"descr": np.dtype(np.float32).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(rows), _BATCH):
            z_sem = model.encode_semantic(to_tensor(pack.fetch(rows[start : start + _BATCH])))
            file.write(z_sem.float().cpu().numpy().tobytes())
            if progress:
                progress(min(start + _BATCH, len(rows)))


def _key(model: DiffusionAutoencoder, pack: Pack, rows: Integer[np.ndarray, " n"]) -> str:
    """A hash of all that decides what is in the file; a pack without a key is known by its file's size and time."""
    facts = (pack.path / "images.npy").stat()
    images = pack.index["key"] or f"{pack.path.resolve()} {facts.st_size} {facts.st_mtime_ns}"
    digest = hashlib.sha256(f"{model.fingerprint()} {images}".encode())
    digest.update(np.ascontiguousarray(rows, dtype=np.int64).tobytes())
    return digest.hexdigest()[:16]
