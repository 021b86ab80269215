"""A data source: IDX files, the format of MNIST."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from diffae.data.formats.base import from_array
from diffae.data.images import ImageSpec, fit_picture
from diffae.data.sources import Item, ListedSource
from diffae.data.sources.base import stamp
from diffae.errors import DataError


def read_idx(path: Path) -> np.ndarray:
    """The array in an IDX file of unsigned bytes, memory-mapped: two zeros, the type 8, the number of dimensions, the
    dimensions as big-endian int32, then the bytes."""
    with path.open("rb") as file:
        head = file.read(4)
    if head[:3] != b"\0\0\x08" or len(head) < 4:
        raise DataError(f"{path} is no IDX file of unsigned bytes: unpack it first if it is compressed")
    shape = np.fromfile(path, ">i4", head[3], offset=4)
    return np.memmap(path, np.uint8, "r", 4 + 4 * head[3], tuple(shape.tolist()))


class IDXSource(ListedSource):
    """Images (n, h, w) of one IDX file, with the classes (n,) in another."""

    columns = ("class",)

    def __init__(self, images: str | Path, classes: str | Path) -> None:
        self.path, self.classes_path = Path(images), Path(classes)
        self.images, self.classes = read_idx(self.path), read_idx(self.classes_path)
        if len(self.images) != len(self.classes):
            raise DataError(f"{images} has {len(self.images)} images, {classes} has {len(self.classes)} classes")
        super().__init__(self.path, [f"{index:08d}" for index in range(len(self.images))])

    def read(self, index: int, spec: ImageSpec) -> np.ndarray:
        return fit_picture(from_array(self.images[index]), self.names[index], spec)

    def items(self, start: int = 0) -> Iterator[Item]:
        for index, item in enumerate(super().items(start), start):
            yield item._replace(labels=(str(self.classes[index]),))

    def fingerprint(self) -> Iterator[tuple]:
        for path in (self.path, self.classes_path):
            yield path.name, *stamp(path)
