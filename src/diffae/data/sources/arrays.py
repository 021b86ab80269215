"""Images in arrays: .npy and .npz files, and packs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from jaxtyping import Real

from diffae.data.arrays import ArrayFile, RowNames, read_array
from diffae.data.fitting import restore_window
from diffae.data.formats.base import MAX_FILE_BYTES, from_array
from diffae.data.images import ImageSpec, fit_picture
from diffae.data.pack import Pack, is_pack
from diffae.data.pack.writer import IMAGES
from diffae.data.sources.base import Labelled, ListedSource, Source, stamp
from diffae.errors import DataError, reading


def find(path: Path, channels: int) -> Source | None:
    """The rows of a .npy file, of the array "images" of an .npz, or else its first, or of a pack with its labels."""
    suffix = path.suffix.lower() if path.is_file() else ""
    if suffix == ".npy":
        return ArraySource(path, ArrayFile(path))
    if suffix == ".npz":
        return ArraySource(path, _unpack(path))
    if not is_pack(path):
        return None
    pack = Pack.open(path)
    labels = pack.labels
    return PackSource(pack) if labels is None else Labelled(PackSource(pack), labels)


class ArraySource(ListedSource):
    """Rows of an array (n, h, w) or (n, h, w, c), on disk or in memory."""

    def __init__(self, path: Path, rows: ArrayFile | np.ndarray) -> None:
        if len(rows.shape) not in (3, 4):
            raise DataError(f"images {path}: has shape {rows.shape}, it must be (n, h, w) or (n, h, w, c); reshape it")
        super().__init__(path, RowNames(range(len(rows))))
        self._rows = rows

    def read(self, index: int, spec: ImageSpec) -> Real[np.ndarray, "h w c"]:
        return fit_picture(from_array(self._rows[index]), self.names[index], spec)

    def fingerprint(self) -> Iterator[tuple]:
        """Name, size and modification time of the file."""
        yield self.path.name, *stamp(self.path)


class PackSource(ListedSource):
    """The images of a pack. If it was made with a window, the original values are restored."""

    def __init__(self, pack: Pack) -> None:
        super().__init__(pack.path, pack.names)
        self._pack = pack

    def read(self, index: int, spec: ImageSpec) -> Real[np.ndarray, "h w c"]:
        row = self._pack.fetch(np.array([index]))[0]
        if self._pack.window is not None:
            row = restore_window(row, self._pack.window, self._pack.samples)
        return fit_picture(from_array(row), self.names[index], spec)

    def fingerprint(self) -> Iterator[tuple]:
        """Name of the pack, size and modification time of its file of images."""
        yield self.path.name, *stamp(self.path / IMAGES)


def _unpack(path: Path) -> np.ndarray:
    with reading(f"images {path}:", "make it again", damage="is not a complete .npz"), ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        if not names:
            raise DataError(f"images {path}: holds no array; save one with numpy.savez(path, images=array)")
        member = archive.getinfo("images.npy" if "images.npy" in names else names[0])
        if member.file_size > MAX_FILE_BYTES:
            what = f"{member.filename} has {member.file_size} bytes, the limit is {MAX_FILE_BYTES}"
            raise DataError(f"images {path}: {what}; save it as a .npy file, which is read row by row")
        with archive.open(member) as file:
            return read_array(file, member.file_size)
