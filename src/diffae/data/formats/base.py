"""What the image formats share: decoded pictures, arrays of planes, the protocol of a format, and the limits.

Samples keep the type of their file: uint8 [0, 255], uint16 [0, 65535], or another type, whose range a window defines.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np
from jaxtyping import Real
from PIL import Image

from diffae.config import SampleType
from diffae.data.formats.metadata import ImageMetadata
from diffae.errors import ConfigError, DataError

MAX_FILE_BYTES = 2**30  # of whatever is in memory at once: a file, a chunk, a compressed volume; half of it: one image
MAX_IMAGES = 2**24  # of one file
MAX_OPEN_FILES = 4  # of many images
_EXPANDS = 8000  # how many times its size zlib and LZMA make of data at most, about
_SAMPLES = get_args(SampleType)


class Picture(NamedTuple):
    """A decoded image, upright."""

    pixels: Real[np.ndarray, "h w c"]
    """Samples of one of the types in `diffae.config.SampleType`."""
    bands: str
    """Meaning of the channels: "L", "LA", "RGB", "RGBA", or "" where they are not colours."""


def from_array(array: np.ndarray) -> Picture:
    """Make a picture of an array (h, w) or (h, w, c): one channel is gray, three are RGB; booleans become 0 and 255.

    Raises:
        DataError: another type of samples or number of dimensions.
    """
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    native = array.dtype.newbyteorder("=")
    if native.name not in _SAMPLES:
        raise DataError(f"samples are {array.dtype}, they must be one of {', '.join(_SAMPLES)}; convert them")
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise DataError(f"array has shape {array.shape}, an image is (h, w) or (h, w, channels); reshape it")
    pixels = (array[..., None] if array.ndim == 2 else array).astype(native, copy=False)
    return Picture(pixels, {1: "L", 3: "RGB"}.get(pixels.shape[2], ""))


@dataclass(frozen=True)
class Planes:
    """An open array of images: Y and X are rows and columns, C and S are channels, every other axis counts images."""

    axes: str
    """One letter for each dimension."""
    shape: tuple[int, ...]
    read: Callable[[tuple[int | slice, ...]], np.ndarray]
    """Reads part of the array, given an index or slice(None) for each dimension."""
    bands: str = ""
    """Meaning of the channels where they are colours: "RGB" or "RGBA"."""
    close: Callable[[], object] = lambda: None
    sample_bytes: int = 1

    def counted(self, channels: int) -> list[int]:
        """Axes that count images; unnamed pages (Q or I in tifffile) are channels if there are `channels` of them."""
        axes = [axis for axis, letter in enumerate(self.axes) if letter not in "YXCS"]
        unnamed = len(axes) == 1 and self.axes[axes[0]] in "QI" and self.shape[axes[0]] == channels
        return [] if unnamed else axes

    def picture(self, places: dict[int, int]) -> Picture:
        """The image at these positions {axis: index} of the axes that count images.

        Raises:
            DataError: it has too many pixels, or samples of a type that is not supported.
        """
        rest = [axis for axis in range(len(self.axes)) if axis not in places]
        letters, sizes = [self.axes[axis] for axis in rest], [self.shape[axis] for axis in rest]
        rows, columns = letters.index("Y"), letters.index("X")
        check_limit(sizes[rows] * sizes[columns], "pixels")
        check_limit(math.prod(sizes) * self.sample_bytes, "bytes in an image")
        pixels = self.read(tuple(places.get(axis, slice(None)) for axis in range(len(self.axes))))
        channels = [axis for axis, letter in enumerate(letters) if letter not in "YX"]
        pixels = np.transpose(pixels, (rows, columns, *channels))
        picture = from_array(pixels.reshape(*pixels.shape[:2], -1))
        bands = self.bands if len(self.bands) == picture.pixels.shape[2] else ""
        return picture if picture.bands == "L" else picture._replace(bands=bands)


class Format(Protocol):
    """A family of files that may hold many images: one class in its own file, with an entry in `stacks.FORMATS`."""

    suffixes: tuple[str, ...]
    named_arrays: bool = False
    """Whether a file may hold several arrays, each with a name."""
    writable: bool = False
    """Whether there is a method `write`."""

    def matches(self, path: Path) -> bool:
        """Whether this family reads the file."""
        return path.name.lower().endswith(self.suffixes) and path.is_file()

    def open(self, path: Path, inner: str) -> Planes:
        """Open the array called `inner`, or the only one if that is "". May raise anything on a damaged file."""
        ...

    def metadata(self, path: Path, index: int, planes: Planes) -> ImageMetadata | None:
        """What the file says about its image number `index`, or None; `planes` is the file, opened."""
        return None

    def write(self, path: Path, pixels: Real[np.ndarray, "h w c"], metadata: ImageMetadata | None) -> None:
        """Write one image, with the metadata that the format can hold."""
        raise DataError(f"{path.suffix} files cannot be written; use .tif or .npy")


def library(name: str, extra: str, what: str) -> Any:
    """Import a module of an optional library; `what` is named in the error.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        needed = f"{name.partition('.')[0]}, which is not installed; pip install 'diffae[{extra}]'"
        raise ConfigError(f"{what}: reading it needs {needed}") from None


def check_limit(count: float, unit: Literal["pixels", "bytes", "bytes in an image", "images"]) -> None:
    """Raise DataError for more than the limit of what a file declares; call it before anything is allocated."""
    limits = {"pixels": Image.MAX_IMAGE_PIXELS or math.inf, "images": MAX_IMAGES, "bytes": MAX_FILE_BYTES}
    limit = limits.get(unit, MAX_FILE_BYTES // 2)  # an image is copied once or twice when it is fitted
    if count > limit:
        trusted = ", or in Python, if you trust it, set PIL.Image.MAX_IMAGE_PIXELS" if unit == "pixels" else ""
        raise DataError(
            f"has more than the limit of {limit} {unit} (a decompression bomb?); make it smaller first{trusted}"
        )


def check_inflated(data: bytes, most: int, decompressor: Any) -> None:
    """Raise DataError if compressed data expand to more than `most` bytes, without holding them.

    Args:
        data: one stream of zlib, gzip or LZMA.
        most: bytes.
        decompressor: an object as `zlib.decompressobj` makes.
    """
    if len(data) * _EXPANDS <= most:
        return
    done = 0
    while data and done <= most and not decompressor.eof:
        part = decompressor.decompress(data, 2**20)
        done, data = done + len(part), getattr(decompressor, "unconsumed_tail", b"")
    if done > most:
        raise DataError(f"expands to more than the {most} bytes that are declared (a decompression bomb?); replace it")


def rescaled(stored: np.ndarray, slope: float, intercept: float, span: tuple[int, int]) -> np.ndarray:
    """slope * stored + intercept, as integers where that is exact, otherwise as float32.

    span: least and largest possible stored value, so that all images of a file get the same type.
    """
    if (slope, intercept) == (1, 0):
        return stored
    if stored.dtype.kind == "f" or not (slope.is_integer() and intercept.is_integer()):
        return (stored * np.float64(slope) + intercept).astype(np.float32)
    ends = [slope * end + intercept for end in span]
    dtype = np.int16 if min(ends) >= -(2**15) and max(ends) < 2**15 else np.int32
    return (stored.astype(np.int64) * int(slope) + int(intercept)).astype(dtype)
