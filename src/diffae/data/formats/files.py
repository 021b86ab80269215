"""Image files by their bytes or paths: decoding one image, reading its metadata, and writing it."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Real
from PIL import Image

from diffae.checkpoint import written_beside
from diffae.data.arrays import read_array
from diffae.data.formats import pictures
from diffae.data.formats.base import Picture, from_array
from diffae.data.formats.metadata import ImageMetadata
from diffae.data.formats.stacks import FORMATS, find_stack
from diffae.data.formats.tiff import read_tiff
from diffae.errors import DataError, reading

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".npy", *pictures.READ_ONLY)
"""Of files that `read_picture` decodes."""
_WRITERS: dict[str, Callable[[Path, np.ndarray, ImageMetadata | None], None]] = {
    **dict.fromkeys(pictures.SUFFIXES, pictures.write),
    ".npy": lambda path, pixels, _: np.save(path, pixels),
    **{suffix: form.write for form in FORMATS if form.writable for suffix in form.suffixes},
}


def read_picture(data: bytes, name: str, channels: int = 3, square: int | None = None) -> Picture:
    """Decode the bytes of one image file.

    Args:
        data: the file's content, whose first bytes decide how it is read.
        name: what error messages call it.
        channels: number of channels wanted, which decides how a TIFF of several channels is read.
        square: side to which the largest centred square will be scaled. JPEG is then decoded at no less than twice that
            size, which is several times faster for photographs. None decodes every pixel.
    Raises:
        DataError: not an image, damaged, too many pixels, or samples of a type that is not supported.
    """
    with reading(f"image {name}:", "replace or remove it", damage="is damaged or truncated"):
        try:
            if data[:6] == b"\x93NUMPY":
                return from_array(read_array(BytesIO(data), len(data)))
            if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
                return read_tiff(data, channels)
            return pictures.read_picture(data, square)
        except DataError as error:
            raise DataError(f"image {name}: {error}") from None
        except Image.UnidentifiedImageError:
            rule = "is not a JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF or npy image"
            raise DataError(f"image {name}: {rule}; remove it or save it as one of these") from None


def metadata_of(path: str | Path) -> ImageMetadata | None:
    """Read what a file says about an image; None for arrays, files in archives, and what cannot be opened.

    Args:
        path: an image file, or FILE/k as in `diffae.data.formats.stacks`.
    """
    path = Path(path)
    try:
        if path.name.lower().endswith(pictures.SUFFIXES + pictures.READ_ONLY):
            return pictures.metadata(path) if path.is_file() else None  # opening a pipe would wait
        found = find_stack(path, 1)
        return found and found[0].metadata(found[1] or 0)
    except Exception:  # reading the pixels reports what is wrong
        return None


def suffix_for(channels: int, dtype: str, metadata: ImageMetadata | None = None) -> str:
    """Suffix of the file to write an image to: that of its source, or .png where it holds such samples, or .tif."""
    if metadata is not None and metadata.kind != "png":
        return ".nii.gz" if metadata.kind == "nifti" else ".tif"
    return ".png" if channels in pictures.PNG_CHANNELS.get(dtype, ()) else ".tif"


def write_image(path: str | Path, pixels: Real[np.ndarray, "h w *c"], metadata: ImageMetadata | None = None) -> None:
    """Write an image atomically, in the format that the suffix names.

    8-bit gray, RGB and RGBA fit into any format that holds them, 16-bit gray into PNG, everything else into TIFF, NIfTI
    or npy. `metadata` is written as far as the format can hold it.

    Raises:
        DataError: a suffix that is not supported, or a format that cannot hold these pixels.
        TrainingError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    suffix = next((suffix for suffix in _WRITERS if path.name.lower().endswith(suffix)), None)
    if suffix is None:
        raise DataError(f"cannot write {path.name}: the suffix must be one of {', '.join(_WRITERS)}; rename it")
    with written_beside(path) as temporary:
        try:
            _WRITERS[suffix](temporary, from_array(pixels).pixels, metadata)
        except OSError as error:
            if error.errno is not None:  # of the disk
                raise
            raise DataError(f"cannot write {path}: {error}; change the suffix") from None
