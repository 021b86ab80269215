"""JPEG, PNG, WebP, BMP, GIF, AVIF and ordinary TIFF, by Pillow; of animations the first picture.

Colour profiles are not applied.
"""

from __future__ import annotations

import math
import sys
import threading
import warnings
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Real
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from diffae.data.formats.base import Picture, check_limit
from diffae.data.formats.metadata import CENTIMETRE, INCH, ImageMetadata, centre_square
from diffae.errors import DataError

PNG_CHANNELS = {"uint8": (1, 3, 4), "uint16": (1,)}
"""Types of samples, and the numbers of channels of each that Pillow writes to a PNG."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
READ_ONLY = (".gif", ".avif")
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", *(("AVIF",) if find_spec("PIL.AvifImagePlugin") else ()))
_ORIENTATION = 0x0112  # the EXIF tag
_PNG_TAGS = {"Software": 305, "Author": 315, "Copyright": 33432}  # TIFF's numbers for keywords of PNG
_TURNING = ("XML:com.adobe.xmp", "Raw profile type")  # texts that may state an orientation: the image is upright now

# What Pillow's modes become; with transparency, L becomes LA and RGB becomes RGBA.
_BANDS = {"1": "L", "L": "L", "LA": "LA", "La": "LA", "PA": "RGBA", "RGBA": "RGBA", "RGBa": "RGBA"}
_BANDS |= dict.fromkeys(("P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"), "RGB")
_TURNS = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
_UPRIGHT = {orientation: Image.Transpose[name] for orientation, name in enumerate(_TURNS, 2)}  # by EXIF orientation

# Warning filters are global to the process, so threads open files one at a time (only headers are read).
_OPEN_LOCK = threading.Lock()


def metadata(path: Path) -> ImageMetadata:
    """Resolution and texts of a 16-bit PNG; the type and shape of others, which are written as 8-bit PNG."""
    image: Any  # Any: Pillow's type of an image has no texts
    with Image.open(path, formats=_FORMATS) as image:
        shape = (image.height, image.width)
        deep = ";16" in _rawmode(image) or image.mode.startswith("I")
        if image.format != "PNG" or not deep:
            return ImageMetadata("png", "uint8", shape)
        texts = {name: str(text) for name, text in image.text.items() if not name.startswith(_TURNING)}
        dpi = image.info.get("dpi", ())
    return ImageMetadata(
        "png",
        "uint16",
        shape,
        resolution=(dpi[0] / 2.54, dpi[1] / 2.54) if dpi and all(dpi) else None,
        description=texts.get("Description", ""),  # this and the tags for colour, which is written as TIFF
        texts=tuple((code, texts[name]) for name, code in _PNG_TAGS.items() if name in texts),
        chunks=tuple(texts.items()),
    )


def write(path: Path, pixels: Real[np.ndarray, "h w c"], metadata: ImageMetadata | None) -> None:
    """Write one image; DataError where the format cannot hold these pixels."""
    png, channels = path.suffix == ".png", pixels.shape[2]
    if channels not in PNG_CHANNELS.get(pixels.dtype.name, ()) or (pixels.dtype == np.uint16 and not png):
        what = f"{pixels.dtype} with {channels} channels"
        raise DataError(f"cannot write {what} to a {path.suffix} file: it holds less; use .tif or .npy")
    settings: dict[str, Any] = {"quality": 95}  # of JPEG and WebP; the others are lossless
    if png and metadata is not None:
        settings["pnginfo"] = PngInfo()
        for name, text in metadata.chunks:
            settings["pnginfo"].add_text(name, text)
        inches = {INCH: 1, CENTIMETRE: 2.54}.get(metadata.unit)
        if metadata.resolution and inches:
            settings["dpi"] = tuple(inches * pixels for pixels in metadata.resolution)
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(path, **settings)


def read_picture(data: bytes, square: int | None = None) -> Picture:
    """Decode the bytes of one image; for `square` see `files.read_picture`."""
    with _open(data) as image:
        rawmode = _rawmode(image)
        deep = ";16" in rawmode and not image.mode.startswith("I")
        _check_size(image, 2 if deep else 1)
        if deep:
            return _read_16bit_colour(data, rawmode)
        if square is not None and image.format in ("JPEG", "MPO"):  # MPO: JPEG files of some phones
            image.draft("", (2 * square, 2 * square))  # to no less than this
        return from_pillow(image, square)


def from_pillow(image: Image.Image, square: int | None = None) -> Picture:
    """Make an upright picture of a Pillow image: palettes and CMYK become RGB, alpha stays.

    Args:
        image: may be read lazily; it is not changed.
        square: if given, opaque 8-bit images are reduced to the largest centred square of this side here: faster than
            `diffae.data.fitting`, which gives the same pixels but needs an array of the whole image.
    Raises:
        DataError: a mode that is not supported, or too many pixels.
    """
    _check_size(image)
    image.load()  # TIFF is turned by Pillow itself, and has no orientation from here on
    turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        pixels = np.asarray(image if turn is None else image.transpose(turn))
        pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
        if image.mode == "I" and pixels.min() >= 0 and pixels.max() <= 65535:  # how Pillow holds some 16-bit files
            pixels = pixels.astype(np.uint16)
        return Picture(pixels[..., None], "L")
    bands = _BANDS.get(image.mode)
    if bands is None:
        raise DataError(f"pixels are of Pillow's mode {image.mode!r}, which is not read; convert them to 8 or 16 bits")
    if "transparency" in image.info:
        bands = {"L": "LA", "RGB": "RGBA"}.get(bands, bands)
    plain = image if image.mode == bands else image.convert(bands)
    plain = plain if turn is None else plain.transpose(turn)
    if square is not None and bands in ("L", "RGB"):
        top, left, side = centre_square(plain.height, plain.width)
        plain = lanczos(plain.crop((left, top, left + side, top + side)), square)
    pixels = np.asarray(plain)
    return Picture(pixels[..., None] if pixels.ndim == 2 else pixels, bands)


def _check_size(image: Image.Image, octets: int = 1) -> None:
    """Raise DataError for too many pixels, or bytes of samples; `octets` is how many of each Pillow does not show."""
    check_limit(image.width * image.height, "pixels")
    octets *= {"I": 4, "F": 4}.get(image.mode, 2 if image.mode.startswith("I;16") else 1)
    check_limit(image.width * image.height * len(image.getbands()) * octets, "bytes in an image")


def lanczos(image: Image.Image, size: int) -> Image.Image:
    """Scale a square image, antialiased."""
    # reducing_gap: large images are averaged over whole boxes first, down to no less than 3 times the target size
    return image.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0)


def _open(data: bytes) -> Any:  # Any: `tile`, which 16-bit colour needs, is not in Pillow's type of an image
    with _OPEN_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about damaged headers, which matter only if decoding fails, and about size
        try:
            return Image.open(BytesIO(data), formats=("TIFF", *_FORMATS))
        except Image.DecompressionBombError:  # more than twice the limit
            check_limit(math.inf, "pixels")
            raise


def _rawmode(image: Any) -> str:
    """How the samples lie in the file, in Pillow's terms, for instance "RGB;16B"."""
    args = image.tile[0][3] if image.tile else ""
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _read_16bit_colour(data: bytes, rawmode: str) -> Picture:
    """Decode 16-bit RGB, RGBA or gray with alpha. Pillow keeps one byte of each sample, so decode once for each byte.

    Given the wrong byte order, Pillow returns the low bytes instead of the high ones.
    """
    layout, _, order = rawmode.partition(";16")
    if rawmode == "LA;16B":  # four bytes per pixel, as in 8-bit RGBA: all in one go
        octets = _load_as(data, "RGBA").pixels.astype(np.uint16)
        return Picture(octets[..., 0::2] << 8 | octets[..., 1::2], "LA")
    if layout not in ("RGB", "RGBA", "RGBX"):
        raise DataError(f"is a 16-bit image of layout {layout}, which is not read; save it as 16-bit RGB")
    if order == "N":
        order = "L" if sys.byteorder == "little" else "B"
    high, bands = _load_as(data, rawmode)
    pixels = high.astype(np.uint16)
    pixels <<= 8  # in place, as large images need
    pixels |= _load_as(data, f"{layout};16{'B' if order == 'L' else 'L'}").pixels
    return Picture(pixels, bands)


def _load_as(data: bytes, rawmode: str) -> Picture:
    image = _open(data)
    codec, box, offset, args = image.tile[0]
    image.info.pop("transparency", None)  # of 16 bits: it would be compared with bytes
    args = (rawmode, *args[1:]) if isinstance(args, tuple) else rawmode
    image.tile = [type(image.tile[0])(codec, box, offset, args)]
    return from_pillow(image)
