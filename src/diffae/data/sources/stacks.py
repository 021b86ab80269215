"""Images in one multi-page TIFF, HDF5, Zarr, NIfTI or DICOM file; see `diffae.data.formats.stacks`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Real

from diffae.data.arrays import RowNames
from diffae.data.formats.stacks import Stack, find_stack
from diffae.data.images import ImageSpec, fit_picture
from diffae.data.sources.base import ListedSource, stamp


def find(path: Path, channels: int) -> ListedSource | None:
    """The images of FILE or FILE/ARRAY, or the one image FILE/k or FILE/ARRAY/k."""
    found = find_stack(path, channels)
    return StackSource(path, *found) if found else None


class StackSource(ListedSource):
    """All images of one file, store or array, or one of them."""

    def __init__(self, path: Path, stack: Stack, index: int | None) -> None:
        self._stack = stack
        self._indices = range(len(stack)) if index is None else [index]
        super().__init__(path, RowNames(self._indices))

    def read(self, index: int, spec: ImageSpec) -> Real[np.ndarray, "h w c"]:
        return fit_picture(self._stack.picture(self._indices[index]), self.names[index], spec)

    def fingerprint(self) -> Iterator[tuple]:
        """Path inside, name, size and modification time of the file, or of each file of a store."""
        file = self._stack.file
        inner = self.path.relative_to(file).as_posix()
        for part in sorted(file.rglob("*")) if file.is_dir() else [file]:
            yield inner, part.name, *stamp(part)
