"""Image files to upright pixel arrays: the formats, their bit depths and their damage.

JPEG, PNG, WebP, TIFF and BMP are read by Pillow, TIFF of any type and number of channels by tifffile, .npy by numpy.
Samples keep their type: uint8 [0, 255], uint16 [0, 65535], or others, whose range only a window of values can tell.
Colour profiles are not applied. Files of many images are read by `diffae.data.formats.stacks`.
"""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
from jaxtyping import Real
from PIL import Image

from diffae.config import SampleType
from diffae.errors import DataError

CHANNEL_AXES, UNNAMED_AXES = "CS", "QI"  # tifffile's letters; unnamed: of pages whose meaning the file does not say
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".npy")
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")
_ORIENTATION = 0x0112  # the EXIF tag
_ASIDE = 1 | 4  # bits of TIFF's NewSubfileType: a smaller version of another page, a mask
_SAMPLES = get_args(SampleType)
# What tifffile logs of a file that is cut short.
_CUT_SHORT = ("invalid page offset", "invalid offset to", "corrupted file", "corrupted tag list")

# What Pillow's modes become; with transparency, L becomes LA and RGB becomes RGBA.
_BANDS = {
    **{"1": "L", "L": "L", "LA": "LA", "La": "LA"},
    **{"P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBX": "RGB", "RGBA": "RGBA", "RGBa": "RGBA"},
    **{"CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB"},
}

# Warning filters belong to the whole process, so threads that open files take turns (only headers are read).
_OPEN_LOCK = threading.Lock()


class Picture(NamedTuple):
    """A decoded image, upright."""

    pixels: Real[np.ndarray, "h w c"]
    """Of the file's own type of samples, one of `diffae.config.SampleType`."""
    bands: str
    """What the channels are: "L", "LA", "RGB", "RGBA", or "" where they have no meaning as colours."""


def read_picture(data: bytes, name: str, channels: int = 3, square: int | None = None) -> Picture:
    """Decode the bytes of one image file.

    Args:
        data: the file's content.
        name: what error messages call it.
        channels: how many channels the caller wants; it decides how TIFF files of several channels are read.
        square: the side to which the largest centred square will be scaled. A JPEG is then decoded at no less than
            twice that, which is several times faster for photographs, and 8-bit samples are scaled by Pillow, which
            spares a copy of the whole. None returns every pixel.
    Raises:
        DataError: not an image, damaged, too many pixels, or samples of a type that is not read.
    """
    try:
        if data[:6] == b"\x93NUMPY":
            return from_array(np.load(BytesIO(data), allow_pickle=False))
        if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return _read_tiff(data, channels)
        return _read_with_pillow(data, square)
    except DataError as error:
        raise DataError(f"image {name}: {error}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"image {name}: {_too_many_pixels()}") from None
    except Image.UnidentifiedImageError:
        rule = "is not a JPEG, PNG, WebP, TIFF, BMP or npy image"
        raise DataError(f"image {name}: {rule}; remove it or save it as one of these") from None
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        raise DataError(f"image {name}: is damaged or truncated ({error}); replace or remove it") from error


def from_array(array: np.ndarray) -> Picture:
    """(h, w) or (h, w, c) of any type of samples as a picture: 1 channel is gray, 3 are RGB, others have no colours.

    Truth values become 0 and 255.

    Raises:
        DataError: another type or number of dimensions.
    """
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    if array.dtype.newbyteorder("=").name not in _SAMPLES:
        raise DataError(f"samples are {array.dtype}, they must be one of {', '.join(_SAMPLES)}; convert them")
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise DataError(f"array has shape {array.shape}, an image is (h, w) or (h, w, channels); reshape it")
    pixels = array[..., None] if array.ndim == 2 else array
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    return Picture(pixels, {1: "L", 3: "RGB"}.get(pixels.shape[2], ""))


def from_pillow(image: Image.Image, square: int | None = None) -> Picture:
    """A Pillow image as an upright picture: EXIF orientation applied, palettes and CMYK made RGB, alpha kept.

    square: see `read_picture`; images that must be turned, or have transparency or more than 8 bits, are left whole.

    Raises:
        DataError: a mode that is not read, or too many pixels.
    """
    check_pixels(image.width * image.height)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        pixels = np.asarray(image)
        pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
        if image.mode == "I" and pixels.min() >= 0 and pixels.max() <= 65535:  # Pillow's way to hold 16 bits
            pixels = pixels.astype(np.uint16)
        return _upright(Picture(pixels[..., None], "L"), image)
    bands = _BANDS.get(image.mode)
    if bands is None:
        raise DataError(f"pixels are of Pillow's mode {image.mode!r}, which is not read; convert them to 8 or 16 bits")
    if "transparency" in image.info:
        bands = {"L": "LA", "RGB": "RGBA"}.get(bands, bands)
    plain = image if image.mode == bands else image.convert(bands)
    if square is not None and bands in ("L", "RGB") and _orientation(image) == 1:
        top, left, side = centre_square(image.height, image.width)
        plain = lanczos(plain.crop((left, top, left + side, top + side)), square)
    pixels = np.asarray(plain)
    return _upright(Picture(pixels[..., None] if pixels.ndim == 2 else pixels, bands), image)


def centre_square(height: int, width: int) -> tuple[int, int, int]:
    """Top, left and side of the largest centred square."""
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side


def lanczos(image: Image.Image, size: int) -> Image.Image:
    """A square image scaled to another size, antialiased."""
    # reducing_gap: large images are first averaged over whole boxes, to no less than 3 times the wanted size
    return image.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0)


def _read_with_pillow(data: bytes, square: int | None = None) -> Picture:
    with _open(data) as image:
        check_pixels(image.width * image.height)
        rawmode = _rawmode(image)
        if ";16" in rawmode and not image.mode.startswith("I"):
            return _read_16bit_colour(data, rawmode)
        if square is not None and image.format in ("JPEG", "MPO"):  # MPO: JPEG files of some telephones
            image.draft("", (2 * square, 2 * square))
        image.load()
        return from_pillow(image, square)


def _open(data: bytes) -> Any:  # Any: `tile`, which 16-bit colour needs, is not in Pillow's type of an image
    with _OPEN_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks on damaged headers; decoding says whether they matter
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return Image.open(BytesIO(data), formats=_FORMATS)


def check_pixels(count: int) -> None:
    """Raise `DataError` where an image promises more pixels than Pillow's limit."""
    if Image.MAX_IMAGE_PIXELS is not None and count > Image.MAX_IMAGE_PIXELS:
        raise DataError(_too_many_pixels())


def _too_many_pixels() -> str:
    rule = f"has more than the limit of {Image.MAX_IMAGE_PIXELS} pixels (a decompression bomb?)"
    return f"{rule}; make it smaller first, or in Python, if you trust it, set PIL.Image.MAX_IMAGE_PIXELS"


def _rawmode(image: Any) -> str:
    """How the samples lie in the file, in Pillow's words, for instance "RGB;16B"."""
    if not image.tile:
        return ""
    args = image.tile[0][3]
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def deep_png(path: Path) -> tuple[int, int] | None:
    """Height and width of a PNG of 16 bits per sample; None of others."""
    with Image.open(path, formats=("PNG",)) as image:
        deep = ";16" in _rawmode(image) or image.mode.startswith("I")
        return (image.height, image.width) if deep else None


def _read_16bit_colour(data: bytes, rawmode: str) -> Picture:
    """16-bit RGB, RGBA or gray with alpha. Pillow keeps one byte of each sample, so the file is decoded once for each.

    Told that the samples lie the other way round, Pillow returns the low bytes instead of the high ones.
    """
    layout, _, order = rawmode.partition(";16")
    if rawmode == "LA;16B":  # four bytes per pixel, as 8-bit RGBA has: all of them in one go
        image = _load_as(data, "RGBA")
        octets = np.asarray(image).astype(np.uint16)
        return _upright(Picture(octets[..., 0::2] << 8 | octets[..., 1::2], "LA"), image)
    if layout not in ("RGB", "RGBA", "RGBX"):
        raise DataError(f"is a 16-bit image of layout {layout}, which is not read; save it as 16-bit RGB")
    if order == "N":
        order = "L" if sys.byteorder == "little" else "B"
    high = _load_as(data, rawmode)
    low = _load_as(data, f"{layout};16{'B' if order == 'L' else 'L'}")
    pixels = np.asarray(high).astype(np.uint16) << 8 | np.asarray(low)
    return _upright(Picture(pixels, high.mode), high)


def _load_as(data: bytes, rawmode: str) -> Any:
    image = _open(data)
    codec, box, offset, args = image.tile[0]
    args = (rawmode, *args[1:]) if isinstance(args, tuple) else rawmode
    image.tile = [type(image.tile[0])(codec, box, offset, args)]
    image.load()
    return image


def _upright(picture: Picture, image: Image.Image) -> Picture:
    """Turn and mirror as the EXIF orientation 1..8 says (Pillow has done so already for TIFF)."""
    pixels = picture.pixels
    orientation = _orientation(image)
    if orientation in (5, 6, 7, 8):  # stored on its side
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return picture._replace(pixels=pixels)


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(_ORIENTATION, 1)


def _read_tiff(data: bytes, channels: int) -> Picture:
    """Ordinary pictures by Pillow (it knows more compressions), stacks and many channels by tifffile."""
    import tifffile

    with hearing_tifffile(), tifffile.TiffFile(BytesIO(data)) as file:
        page: Any = file.pages[0]
        alpha = page.samplesperpixel == 4 and tuple(page.extrasamples) in ((1,), (2,))
        ordinary = len(file.pages) == 1 and page.samplesperpixel <= 4 and page.dtype in (np.uint8, np.uint16, bool)
        if ordinary and (channels in (1, 3) or (channels == 4 and alpha)):
            try:
                return _read_with_pillow(data)
            except Image.UnidentifiedImageError:  # an unusual combination of samples
                pass
        return _read_with_tifffile(only_series(file), channels, alpha)


@contextmanager
def hearing_tifffile() -> Iterator[None]:
    """While a TIFF is opened: an error where tifffile only logs that it is cut short; other remarks are not shown.

    Raises:
        ValueError: pages are missing.
    """
    here, heard = threading.get_ident(), []

    def hear(record: logging.LogRecord) -> bool:
        if threading.get_ident() != here:
            return True
        heard.append(record.getMessage())
        return False

    logger = logging.getLogger("tifffile")
    logger.addFilter(hear)
    try:
        yield
    finally:
        logger.removeFilter(hear)
        for text in heard:
            if any(sign in text for sign in _CUT_SHORT):  # whatever else is wrong follows from it
                raise ValueError(text.rpartition("> ")[2])


def only_series(file: Any) -> Any:
    """The pages of a TIFF that are alike. Thumbnails, smaller levels and masks do not count.

    Args:
        file: a tifffile.TiffFile.
    Raises:
        DataError: there are pages of several sizes or types.
    """
    first, *others = file.series
    more = [series for series in others if not (series.keyframe.is_subifd or series.keyframe.subfiletype & _ASIDE)]
    if more:
        kinds = " and ".join(f"{series.dtype} of {tuple(series.shape)}" for series in (first, *more[:2]))
        rule = "they must be alike in one file; save each kind in a file of its own"
        raise DataError(f"holds {1 + len(more)} kinds of pages ({kinds}{', ...' if len(more) > 2 else ''}), {rule}")
    return first


def _read_with_tifffile(series: Any, channels: int, alpha: bool) -> Picture:
    """One plane of any number of channels, which may lie before or after the rows and columns, or on pages."""
    check_pixels(int(np.prod(series.shape)) // max(channels, 4))
    others = [axis for axis, letter in enumerate(series.axes) if letter not in "YX"]
    if len(others) > 1 or "Y" not in series.axes or "X" not in series.axes:
        raise DataError(f"has axes {series.axes}, one plane of channels is read; name one of its images, FILE/0")
    for axis in others:
        letter, count = series.axes[axis], series.shape[axis]
        if letter not in CHANNEL_AXES and not (letter in UNNAMED_AXES and count == channels):
            rule = "inside an archive one file is one image"
            raise DataError(f"holds {count} images (axes {series.axes}), {rule}; unpack it and give the folder")
    try:
        array = series.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        raise DataError("its compression is not read for this layout; save it uncompressed or with deflate") from None
    picture = from_array(np.transpose(array, (series.axes.index("Y"), series.axes.index("X"), *others)))
    colours = series.keyframe.photometric == 2  # RGB
    bands = "RGBA" if colours and alpha and array.dtype.kind == "u" else picture.bands
    return picture._replace(bands=bands if colours or bands == "L" else "")
