"""Pictures in and out of the studio: uploads by the project's readers, PNG for the page, files in their own type."""

from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from diffae.data.formats.base import check_limit
from diffae.data.formats.stacks import STACK_SUFFIXES
from diffae.data.images import (
    SUFFIXES,
    ImageMetadata,
    as_batch,
    metadata_of,
    save_image,
    suffix_for,
    to_rgb,
    to_samples,
    to_uint8,
)
from diffae.errors import DataError, DiffaeError
from diffae.model import DiffusionAutoencoder

MOST_BYTES = 2**25
"""Of an upload."""
MOST_PIXELS = 2**26
"""Of an upload, as its header declares them."""
_SUFFIXES = tuple(sorted({*SUFFIXES, *STACK_SUFFIXES}, key=len, reverse=True))
_LONGEST_NAME = 120


def shown_name(name: str) -> str:
    """The last part of a name that a visitor gives, to be shown and saved by: no folders, no control characters."""
    last = PurePosixPath(name.replace("\\", "/")).name
    return "".join(letter for letter in last if letter.isprintable())[-_LONGEST_NAME:] or "picture"


def read_upload(
    data: bytes, name: str, model: DiffusionAutoencoder
) -> tuple[Float[Tensor, "1 c h w"], ImageMetadata | None]:
    """An uploaded file as an image for the model, and what the file says about it.

    Args:
        data: the file's content.
        name: as `shown_name` gives it; only its suffix, if it is one of a known format, is used to read the file.
        model: whose size, channels and preparation the image is fitted to.
    Raises:
        DataError: empty, animated, too large, damaged, or no image.
        ConfigError: the library that reads it is not installed.
    """
    if not data:
        raise DataError(f"image {name}: is empty; choose another file")
    _check_header(data, name)
    channels, size, _ = model.image_shape
    given = model.config.input
    suffix = next((known for known in _SUFFIXES if name.lower().endswith(known)), "")
    with tempfile.TemporaryDirectory(prefix="diffae-studio-") as folder:
        path = Path(folder) / f"upload{suffix}"
        path.write_bytes(data)
        try:
            x = as_batch(path, size, channels, crop=given.crop, background=given.background, window=given.window)
        except DiffaeError as error:
            raise type(error)(str(error).replace(str(path), name)) from None
        return x, metadata_of(path)


def _check_header(data: bytes, name: str) -> None:
    """Refuse animations and declared sizes beyond the limit before anything is decoded."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP", "GIF", "BMP")) as image:
            width, height, animated = image.width, image.height, getattr(image, "is_animated", False)
    except Image.DecompressionBombError:
        check_limit(float("inf"), "pixels")
        raise
    except Exception:  # another format, or damaged: the reader says which
        return
    if animated and image.format != "JPEG":  # some phones' JPEG files hold a second, smaller image
        raise DataError(f"image {name}: is an animation; save the frame that you want as a PNG")
    if width * height > MOST_PIXELS:
        raise DataError(f"image {name}: has {width} x {height} pixels, the limit is {MOST_PIXELS:,}; make it smaller")


def write_like(
    x: Float[Tensor, "1 c h w"], model: DiffusionAutoencoder, metadata: ImageMetadata | None
) -> tuple[bytes, str]:
    """A decoded image as a file with the sample type and metadata of the visitor's file, and the file's suffix."""
    given = model.config.input
    dtype = metadata.dtype if metadata else given.dtype
    suffix = suffix_for(model.image_shape[0], dtype, metadata)
    fitted = metadata and metadata.fitted(given.box, model.image_shape[1])
    with tempfile.TemporaryDirectory(prefix="diffae-studio-") as folder:
        path = Path(folder) / f"edited{suffix}"
        save_image(path, to_samples(x, given, dtype)[0], fitted)
        return path.read_bytes(), suffix


def png(pixels: np.ndarray) -> bytes:
    """uint8 (h, w, 3) as a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def rgb(x: Float[Tensor, "b c h w"]) -> np.ndarray:
    """Images in [-1, 1] as they are shown: uint8 (b, h, w, 3)."""
    return to_rgb(to_uint8(x))


def data_urls(x: Float[Tensor, "b c h w"]) -> list[str]:
    """Images in [-1, 1] as PNG data URLs."""
    return [f"data:image/png;base64,{base64.b64encode(png(pixels)).decode()}" for pixels in rgb(x)]


def heat_url(values: Float[Tensor, "h w"]) -> str:
    """Values in [0, 1] as a data URL, from black over red to white."""
    from diffae.plotting import heat_tile

    return f"data:image/png;base64,{base64.b64encode(png(heat_tile(values).pixels)).decode()}"


def contact_sheet(x: Float[Tensor, "b c h w"], most: int = 64) -> bytes:
    """Images side by side in one PNG, each scaled to at most `most` pixels."""
    side = x.shape[-1]
    if side > most:
        x = torch.nn.functional.interpolate(x, size=most, mode="area")
    return png(np.concatenate(list(rgb(x)), axis=1))
