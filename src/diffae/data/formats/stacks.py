"""Files of many images, read one image at a time.

Image number k of such a file is called FILE/k, an array inside an HDF5 file or Zarr store FILE/ARRAY. To add a format,
write a class for `diffae.data.formats.base.Format` and add it to `FORMATS`.
"""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np

from diffae.data.formats.arrays import Hdf5, Zarr
from diffae.data.formats.base import MAX_OPEN_FILES, Format, Picture, Planes, check_limit
from diffae.data.formats.dicom import Dicom
from diffae.data.formats.metadata import ImageMetadata
from diffae.data.formats.nifti import Nifti
from diffae.data.formats.tiff import Tiff
from diffae.errors import ConfigError, DataError, reading

FORMATS: tuple[Format, ...] = (Tiff(), Dicom(), Nifti(), Hdf5(), Zarr())
STACK_SUFFIXES = tuple(suffix for form in FORMATS for suffix in form.suffixes)
TIFF = Tiff.suffixes

# The libraries keep positions, caches and global locks of their own: one thread reads at a time.
_READING = threading.RLock()
_OPEN: OrderedDict[tuple, Planes] = OrderedDict()


class Stack:
    """The images of one file or array. It is opened on use, so it can be pickled and used in several processes."""

    def __init__(self, file: Path, inner: str, channels: int) -> None:
        """Open the array `inner` of a file ("": the only or default one); raises as `find_stack` does."""
        self.file = file
        self._inner = inner
        with _READING:
            planes = self._planes()
        self._counted = planes.counted(channels)
        self._sizes = tuple(planes.shape[axis] for axis in self._counted)
        try:
            check_limit(math.prod(self._sizes), "images")
        except DataError as error:
            raise DataError(f"images {file}: {error}") from None

    def __len__(self) -> int:
        return math.prod(self._sizes)

    def _planes(self) -> Planes:
        """The array, opened or still open; a file that has changed is opened again."""
        facts = self.file.stat()
        # The process is part of the key, because an open file must not be shared with a forked one.
        key = (str(self.file), self._inner, os.getpid(), facts.st_mtime_ns, facts.st_size)
        if key not in _OPEN:
            _OPEN[key] = _open(self.file, self._inner)
        _OPEN.move_to_end(key)
        while len(_OPEN) > MAX_OPEN_FILES:
            _OPEN.popitem(last=False)[1].close()
        return _OPEN[key]

    def picture(self, index: int) -> Picture:
        """Image number `index`.

        Raises:
            DataError: it is damaged, too large, or there is no image of that number.
        """
        if not 0 <= index < len(self):
            raise DataError(f"image {self.file}/{index}: its images are 0..{len(self) - 1}; name one of these")
        places = map(int, np.unravel_index(index, self._sizes)) if self._counted else ()
        what = f"image {self.file}/{index}:"
        with reading(what, "replace or remove it", damage="is damaged or cannot be decoded"), _READING:
            try:
                return self._planes().picture(dict(zip(self._counted, places, strict=True)))
            except (DataError, ConfigError) as error:
                raise DataError(f"{what} {error}") from None

    def metadata(self, index: int) -> ImageMetadata | None:
        """What the file says about image number `index`; it may raise anything on a damaged file."""
        with _READING:
            return next(filter(lambda form: form.matches(self.file), FORMATS)).metadata(
                self.file, index, self._planes()
            )


def is_stack(path: Path) -> bool:
    """Whether a path is that of a file, or of a Zarr store, that may hold many images."""
    return any(form.matches(path) for form in FORMATS)


def find_stack(path: str | Path, channels: int) -> tuple[Stack, int | None] | None:
    """The stack that FILE, FILE/ARRAY, FILE/k or FILE/ARRAY/k names, and k; None for any other path.

    Args:
        path: what to open.
        channels: as many unnamed pages of a TIFF as this are the channels of one image.
    Raises:
        DataError: the file cannot be opened, has no such array, or declares too many images.
        ConfigError: the library that reads it is not installed.
    """
    path = Path(path)
    files = [file for file in (path, *path.parents) if is_stack(file)]
    if not files:
        return None
    file = files[-1]
    inner = path.relative_to(file).as_posix().removeprefix(".")
    outer, _, last = inner.rpartition("/")
    try:
        return Stack(file, inner, channels), None
    except DataError:
        if not last.isdecimal():
            raise
    return Stack(file, outer, channels), int(last)  # no array has that name


def _open(path: Path, inner: str) -> Planes:
    form = next(form for form in FORMATS if form.matches(path))
    if inner and not form.named_arrays:
        raise DataError(f"images {path}: has no {inner}; name an image of it by its number")
    suffix = next((suffix for suffix in form.suffixes if path.name.lower().endswith(suffix)), form.suffixes[0])
    with reading(f"images {path}:", "make it again", damage=f"is damaged or not a {suffix} file"):
        try:
            planes = form.open(path, inner)
        except DataError as error:
            raise DataError(f"images {path}: {error}") from None
    if len(planes.axes) != len(planes.shape) or min(planes.shape, default=0) < 0:
        raise DataError(
            f"images {path}: has shape {planes.shape} of axes {planes.axes}, they must agree; make it again"
        )
    if not {"Y", "X"} <= set(planes.axes) or 0 in planes.shape:
        raise DataError(f"images {path}: has axes {planes.axes} of {planes.shape}, it must hold images; convert it")
    return planes
