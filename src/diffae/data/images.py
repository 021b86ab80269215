"""Images between files, arrays and tensors: the one place for value ranges.

An image is uint8 [0, 255] or uint16 [0, 65535] in arrays, (h, w, c), and float32 [-1, 1] in tensors, (b, c, h, w).
Files may hold values of other types and ranges; a window of values defines what becomes -1 and 1 (see
`diffae.config.InputConfig`).
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Sequence
from colorsys import hsv_to_rgb
from dataclasses import replace
from pathlib import Path
from stat import S_ISREG
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Real, UInt
from PIL import Image
from torch import Tensor

from diffae.config import WHITE, Crop, InputConfig, Window
from diffae.data.fitting import ImageSpec, as_type, fit_picture, restore_window
from diffae.data.formats.base import from_array
from diffae.data.formats.files import SUFFIXES, metadata_of, read_picture, suffix_for, write_image
from diffae.data.formats.metadata import ImageMetadata
from diffae.data.formats.pictures import from_pillow
from diffae.data.formats.stacks import TIFF, find_stack
from diffae.errors import DataError, require_choice

__all__ = [
    "SUFFIXES", "WHITE", "Crop", "ImageLike", "ImageMetadata", "ImageSpec", "OutputType", "as_batch", "as_output",
    "decode_image", "fit_picture", "load_image", "metadata_of", "read_ready", "save_image", "suffix_for", "to_float",
    "to_pil", "to_rgb", "to_samples", "to_tensor", "to_uint8", "to_unit",
]  # fmt: skip

_log = logging.getLogger(__name__)

ImageLike = Image.Image | str | Path | np.ndarray | Tensor

_COLOURS = {1: [(1, 1, 1)], 2: [(1, 0, 1), (0, 1, 0)]}
_OUTSIDE = 1e-3  # how far a float image may lie outside [-1, 1]: rounding in lower precisions
_RENAMED = {"Origin": "ImageMetadata", "origin_of": "metadata_of"}

save_image = write_image


def __getattr__(name: str) -> Any:
    if name not in _RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    new = _RENAMED[name]
    warnings.warn(f"{name} is now {new}; the old name will be removed in 0.3", DeprecationWarning, stacklevel=2)
    return globals()[new]


def load_image(
    path: str | Path,
    channels: int = 3,
    size: int | None = None,
    *,
    crop: Crop | None = None,
    background: tuple[int, int, int] = WHITE,
    window: Window | None = None,
) -> UInt[np.ndarray, "h w c"]:
    """Read one image file upright, as uint8 or (from 16-bit files, or by a window) uint16.

    Args:
        path: an image file; in a file of many images FILE/k with k from 0.
        channels, size, crop, background, window: see `ImageSpec`.
    Raises:
        DataError: a file that is missing, damaged, not an image, too large, of other channels, or outside the crop.
        ConfigError: an invalid argument, or a library that the file needs and is not installed.
    """
    return _load(path, ImageSpec(channels, size, crop, background, window))


def _load(path: str | Path, spec: ImageSpec) -> UInt[np.ndarray, "h w c"]:
    if found := find_stack(path, spec.channels):
        stack, index = found
        tiff = stack.file.name.lower().endswith(TIFF)
        if index is None and len(stack) > 1:
            which = f"name one of them, {path}/0 to {path}/{len(stack) - 1}"
            which += f", or set channels to {len(stack)} if that is what its pages are" if tiff else ""
            raise DataError(f"image {path}: holds {len(stack)} images; {which}")
        if index is not None or not tiff:  # Pillow knows more compressions of TIFF
            return fit_picture(stack.picture(index or 0), str(path), spec)
    try:
        if not S_ISREG(os.stat(path).st_mode):  # a pipe would wait, a device might never end
            raise DataError(f"image {path}: is not a regular file; save it as one")
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"image {path}: cannot be opened ({error.strerror}); check the path") from None
    return decode_image(data, str(path), spec)


def decode_image(data: bytes, name: str, spec: ImageSpec) -> Real[np.ndarray, "h w c"]:
    """Like `load_image`, from the bytes of a file that error messages call `name`."""
    whole = spec.crop is not None or spec.window is not None  # these apply to the full image, before scaling
    return fit_picture(read_picture(data, name, spec.channels, None if whole else spec.size), name, spec)


def to_float(pixels: UInt[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Integer pixels of any shape as float32 in [-1, 1], on their own device."""
    # uint8 [0, 255] => float32 [-1, 1];  uint16 [0, 65535] => float32 [-1, 1]
    return pixels.to(torch.float32).div_(torch.iinfo(pixels.dtype).max / 2).sub_(1)


def to_tensor(pixels: UInt[np.ndarray, "*shape"]) -> Float[Tensor, "b c h w"]:
    """uint8 or uint16 of shape (h, w), (h, w, c) or (b, h, w, c) as a float32 batch in [-1, 1].

    Raises:
        DataError: another type or number of dimensions.
    """
    images = pixels if pixels.ndim == 4 else pixels[None]
    rows = np.stack([fit_picture(from_array(image), "given", ImageSpec(image[0, 0].size)) for image in images])
    return to_float(torch.from_numpy(np.ascontiguousarray(rows.transpose(0, 3, 1, 2))))


def to_unit(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """float [-1, 1] => float [0, 1], clamped: the range in which errors are measured."""
    return ((x + 1) / 2).clamp(0, 1)


def to_uint8(x: Float[Tensor, "b c h w"]) -> UInt[np.ndarray, "b h w c"]:
    """float [-1, 1] => uint8 [0, 255], clamped and rounded."""
    return (to_unit(x.detach().float()) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def to_pil(x: Float[Tensor, "*batch c h w"]) -> list[Image.Image]:
    """float [-1, 1] => 8-bit Pillow images, one for each of a batch.

    Raises:
        DataError: neither 1 nor 3 channels.
    """
    pixels = to_uint8(x if x.dim() == 4 else x[None])
    if (channels := pixels.shape[3]) not in (1, 3):
        raise DataError(f"images have {channels} channels: Pillow shows 1 or 3; take output_type='np', or show()")
    return [Image.fromarray(image[:, :, 0] if channels == 1 else image) for image in pixels]


OutputType = Literal["pt", "np", "pil"]


def as_output(x: Float[Tensor, "b c h w"], output_type: OutputType) -> Tensor | np.ndarray | list[Image.Image]:
    """Images in [-1, 1] as they are ("pt"), as an array (b, h, w, c) in [0, 1] ("np"), or as Pillow images ("pil").

    Raises:
        ConfigError: another type.
    """
    require_choice("output_type", output_type, OutputType)
    if output_type == "pt":
        return x
    return to_pil(x) if output_type == "pil" else to_unit(x).permute(0, 2, 3, 1).cpu().numpy()


def to_samples(
    x: Float[Tensor, "b c h w"], given: InputConfig, dtype: str | None = None
) -> Real[np.ndarray, "b h w c"]:
    """float [-1, 1] => samples in the type and range that a model was trained on.

    Args:
        x: images; clamped.
        given: how the model's training images were prepared.
        dtype: another type of samples; without a window the range is that of the type, uint8 or uint16.
    """
    unit = to_unit(x.detach().cpu().double()).permute(0, 2, 3, 1).numpy()
    dtype = dtype or given.dtype
    if given.window is not None:
        return restore_window(unit * 65535, given.window, dtype)
    return as_type(unit * np.iinfo(dtype).max, dtype)


def read_ready(read: Callable[[ImageSpec], np.ndarray], spec: ImageSpec) -> UInt[np.ndarray, "h w c"]:
    """Read an image for a model, by a function that fits it to a specification.

    An image of the model's size that is too small for the crop is used unchanged: it has been cropped before.
    """
    try:
        return read(spec)
    except DataError:
        if spec.crop is None or (whole := read(replace(spec, size=None, crop=None))).shape[:2] != (spec.size,) * 2:
            raise
        return whole


def as_batch(
    images: ImageLike | Sequence[ImageLike],
    size: int,
    channels: int,
    *,
    crop: Crop | None = None,
    background: tuple[int, int, int] = WHITE,
    window: Window | None = None,
) -> Float[Tensor, "b c h w"]:
    """Convert images of any kind to a batch in [-1, 1] for a model.

    All but tensors are cropped, centre-cropped and scaled; gray and RGB are converted into each other, transparency is
    blended with the background, and values are read by the window.

    Args:
        images: a Pillow image, a path, a uint8 or uint16 array (h, w), (h, w, c) or (b, h, w, c) (with a window: of
            any type), a float tensor (c, h, w) or (b, c, h, w) in [-1, 1], or a list of these.
        size: side of the square in pixels.
        channels: number of channels of the model.
        crop, background, window: see `ImageSpec`; an image of the model's size that is too small for the crop is used
            unchanged.
    Returns:
        (b, channels, size, size) float32; tensors stay on their device, all else is on the CPU.
    Raises:
        DataError: an image that cannot be used, a tensor of another shape, type or range, or an empty list.
    """
    if isinstance(images, (list, tuple)):
        if not images:
            raise DataError("the list of images is empty, at least one is needed; pass an image")
        given = {"crop": crop, "background": background, "window": window}
        batches = [as_batch(image, size, channels, **given) for image in images]
        return torch.cat([batch.to(batches[0].device) for batch in batches])
    if isinstance(images, Tensor):
        return _check_tensor(images, size, channels)
    spec = ImageSpec(channels, size, crop, background, window)
    if isinstance(images, (str, Path)):
        path = images
        return to_tensor(read_ready(lambda wanted: _load(path, wanted), spec))
    if isinstance(images, Image.Image):
        return to_tensor(_fit_given(images, spec))
    if isinstance(images, np.ndarray) and len(images):
        rows = images if images.ndim == 4 else images[None]
        return to_tensor(np.stack([_fit_given(row, spec) for row in rows]))
    kinds = "a Pillow image, path, uint8 or uint16 array, float tensor or a list of these"
    what = f"array of shape {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
    raise DataError(f"image is a {what}, it must be {kinds}; convert it")


def _fit_given(image: Image.Image | np.ndarray, spec: ImageSpec) -> UInt[np.ndarray, "h w c"]:
    try:
        picture = from_pillow(image) if isinstance(image, Image.Image) else from_array(image)
    except DataError as error:
        raise DataError(f"image given: {error}") from None
    except OSError as error:  # a file that Pillow opened before, and reads only now
        raise DataError(f"image given: is damaged or truncated ({error}); replace it") from None
    return read_ready(lambda wanted: fit_picture(picture, "given", wanted), spec)


def _check_tensor(x: Tensor, size: int, channels: int) -> Float[Tensor, "b c h w"]:
    shape = tuple(x.shape)
    x = x[None] if x.ndim == 3 else x
    if tuple(x.shape[1:]) != (channels, size, size) or len(x) == 0:
        rule = f"must have shape (b, {channels}, {size}, {size})"
        raise DataError(f"image tensor of shape {shape} {rule}; resize it, or pass a uint8 array to have that done")
    if x.dtype in (torch.uint8, torch.uint16):
        return to_float(x)
    if not x.is_floating_point():
        raise DataError(f"image tensor is {x.dtype}, it must be uint8, uint16, or float in [-1, 1]; convert it")
    low, high = x.detach().aminmax()
    if 0 <= low < high <= 1 and high > 0.5:
        _log.warning("the image tensor lies in [0, 1], but is read as [-1, 1]: if 0 is black, pass 2 * x - 1")
    if not (low >= -1 - _OUTSIDE and high <= 1 + _OUTSIDE):  # also false for NaN
        span = f"{low.item():.4g}..{high.item():.4g}"
        remedy = "scale it, or where it is only just outside, as decoded images may be, use .clamp(-1, 1)"
        raise DataError(f"image tensor spans {span}, it must lie in [-1, 1]; {remedy}")
    return x.to(torch.float32)


def to_rgb(pixels: UInt[np.ndarray, "n h w c"]) -> UInt[np.ndarray, "n h w 3"]:
    """Show images of any number of channels as RGB, black where all channels are low.

    Every channel gets a colour, and the colours are added like lights: one channel is white, two are magenta and green,
    three are red, green and blue (RGB is returned unchanged), more get evenly spaced hues.
    """
    channels = pixels.shape[3]
    if channels == 3:
        return pixels
    colours = np.array(_COLOURS.get(channels) or [hsv_to_rgb(k / channels, 1, 1) for k in range(channels)])
    top = np.iinfo(pixels.dtype).max
    dark = np.ones((*pixels.shape[:3], 3), np.float32)
    for channel, colour in enumerate(colours.astype(np.float32)):  # screen: 1 - product of (1 - light)
        dark *= 1 - pixels[..., channel, None] / np.float32(top) * colour
    return np.rint((1 - dark) * top).astype(pixels.dtype)
