"""Fitting a decoded image to a model: cropping, scaling, matching channels, and applying a window of values.

The result is uint8 [0, 255] or uint16 [0, 65535]. Files may hold any other type of samples; then a window defines which
values become 0 and 65535.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Num, Real, UInt
from PIL import Image

from diffae.config import WHITE, Crop, InputConfig, ModelConfig, Window
from diffae.data.formats.base import Picture
from diffae.data.formats.metadata import centre_square
from diffae.data.formats.pictures import lanczos
from diffae.errors import DataError, require

_LUMA = np.array((0.299, 0.587, 0.114), dtype=np.float32)  # ITU-R BT.601, as Pillow and JPEG define gray
_TOP = 65535  # of uint16
_STRIP = 2**22  # samples


@dataclass(frozen=True)
class ImageSpec:
    """What every image of a set is made into.

    Raises:
        ConfigError: a value its rule forbids.
    """

    channels: int = 3
    """1 gray, 3 RGB, or any other number, which the files must then have (alpha counts)."""
    size: int | None = None
    """Side of the square in pixels: the largest centred square, scaled. None keeps the image's own size and shape."""
    crop: Crop | None = None
    """What to cut out first, see `diffae.config.InputConfig`."""
    background: tuple[int, int, int] = WHITE
    """RGB 0..255, seen through transparent pixels."""
    window: Window | None = None
    """Values of each channel that become 0 and 65535, see `diffae.config.InputConfig`."""
    measured: bool = False
    """Keep the samples and their type, to find a window among them."""

    def __post_init__(self) -> None:
        require(self.channels >= 1, "channels", self.channels, "must be at least 1; use 1 for gray or 3 for RGB")
        require(self.size is None or self.size >= 1, "size", self.size, "must be at least 1 pixel; use for instance 64")
        InputConfig(self.crop, self.background, self.window)  # checks them
        rule = f"must have a low and a high value for each of {self.channels} channels; state them or change channels"
        require(self.window is None or len(self.window) == self.channels, "window", self.window, rule)

    @classmethod
    def of_model(cls, config: ModelConfig) -> ImageSpec:
        """The images that a model expects."""
        given = config.input
        return cls(config.image_channels, config.image_size, given.crop, given.background, given.window)

    def facts(self) -> dict[str, Any]:
        """What distinguishes packs, as JSON has it; an unused window is left out, so the keys of older packs hold."""
        window = {} if self.window is None else {"window": self.window}
        return {"channels": self.channels, "size": self.size, "crop": self.box, "background": self.background, **window}

    @property
    def box(self) -> tuple[int, int, int, int] | None:
        """The crop as numbers."""
        return InputConfig(self.crop, self.background).box


def fit_picture(picture: Picture, name: str, spec: ImageSpec) -> Real[np.ndarray, "h w c"]:
    """Crop, blend with the background, scale, and convert to the wanted channels and to uint8 or uint16.

    Raises:
        DataError: a crop that reaches outside the image, channels that cannot be converted, or samples that are not
            uint8 or uint16 where no window is stated.
    """
    pixels, bands = picture
    if spec.window is None and not spec.measured and pixels.dtype not in (np.uint8, np.uint16):
        rule = "pixels must be uint8 or uint16 where no window of values is stated"
        remedy = "give --window auto, or scale them to 0..255 or 0..65535 and convert"
        raise DataError(f"image {name}: samples are {pixels.dtype}, {rule}; {remedy}")
    if spec.box is not None:
        left, top, right, bottom = spec.box
        height, width = pixels.shape[:2]
        if right > width or bottom > height:
            rule = f"the crop {spec.box} must lie inside"
            raise DataError(f"image {name}: is {width}x{height}, {rule}; change or drop the crop")
        pixels = pixels[top:bottom, left:right]
    if spec.size is not None:
        top, left, side = centre_square(*pixels.shape[:2])
        pixels = pixels[top : top + side, left : left + side]
    if bands in ("LA", "RGBA") and pixels.shape[2] != spec.channels:
        pixels, bands = _in_strips(lambda rows: _flatten(rows, spec.background), pixels), bands[:-1]
    if (window := spec.window) is not None:
        pixels = _match_channels(pixels, bands, name, spec.channels)
        pixels = _in_strips(lambda rows: apply_window(rows, window, name), pixels)
    if spec.size is not None:
        pixels = _resize(pixels, spec.size)
    return np.ascontiguousarray(_match_channels(pixels, bands, name, spec.channels))


def _in_strips(change: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray) -> np.ndarray:
    """change(pixels), some rows at a time: what it computes on the way is several times as large."""
    step = max(_STRIP // pixels[0].size, 1)
    first = change(pixels[:step])
    if len(pixels) <= step:
        return first
    whole = np.empty((len(pixels), *first.shape[1:]), first.dtype)
    whole[:step] = first
    for top in range(step, len(pixels), step):
        whole[top : top + step] = change(pixels[top : top + step])
    return whole


def _flatten(pixels: np.ndarray, background: tuple[int, int, int]) -> np.ndarray:
    """Blend (h, w, c + alpha) with the background => (h, w, c)."""
    top = np.iinfo(pixels.dtype).max
    colours = pixels[..., :-1]
    if pixels[..., -1].min() == top:
        return colours
    behind = np.array(background, dtype=np.float32) * (top / 255)  # uint8 [0, 255] => the range of these pixels
    behind = behind if colours.shape[2] == 3 else behind @ _LUMA
    alpha = pixels[..., -1:].astype(np.float32) / top
    return np.rint(colours * alpha + behind * (1 - alpha)).astype(pixels.dtype)


def _match_channels(pixels: np.ndarray, bands: str, name: str, channels: int) -> np.ndarray:
    have = pixels.shape[2]
    if have == channels:
        return pixels
    if bands == "L" and channels == 3:
        return np.repeat(pixels, 3, axis=2)
    if bands == "RGB" and channels == 1:
        return _in_strips(lambda rows: as_type(rows @ _LUMA, pixels.dtype.name)[..., None], pixels)
    raise DataError(f"image {name}: has {have} channels, {channels} are wanted; set channels to {have} or convert it")


def _resize(pixels: np.ndarray, size: int) -> np.ndarray:
    """A square to (size, size, c) by Lanczos, antialiased; 16-bit samples go through float32 and keep their depth."""
    if pixels.shape[0] == size:
        return pixels
    if pixels.dtype == np.uint8 and pixels.shape[2] == 3:
        return np.asarray(lanczos(Image.fromarray(np.ascontiguousarray(pixels)), size))
    dtype = np.uint8 if pixels.dtype == np.uint8 else np.float32
    planes = (np.ascontiguousarray(plane, dtype) for plane in np.moveaxis(pixels, 2, 0))
    scaled = [np.asarray(lanczos(Image.fromarray(plane), size)) for plane in planes]
    return as_type(np.stack(scaled, axis=2), pixels.dtype.name)


def apply_window(pixels: Num[np.ndarray, "*n c"], window: Window, name: str) -> UInt[np.ndarray, "*n c"]:
    """Values of any type => uint16 [0, 65535], low to 0 and high to 65535; what lies outside is clipped.

    Raises:
        DataError: values that are not finite.
    """
    low, high = np.array(window, np.float64).T
    values = pixels.astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError(f"image {name}: has values that are not finite; replace them, for instance by the lowest")
    return np.rint((values - low).clip(0, high - low) / (high - low) * _TOP).astype(np.uint16)


def restore_window(pixels: Num[np.ndarray, "*n c"], window: Window, dtype: str) -> Num[np.ndarray, "*n c"]:
    """[0, 65535] => [low, high] in a type of samples; the inverse of `apply_window`."""
    low, high = np.array(window, np.float64).T
    return as_type(low + pixels.astype(np.float64) / _TOP * (high - low), dtype)


def as_type(values: Num[np.ndarray, "*n"], dtype: str) -> Num[np.ndarray, "*n"]:
    """Numbers in a type of samples; integers are rounded, and clipped to the range of the type."""
    if np.dtype(dtype).kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.rint(values).clip(limits.min, limits.max).astype(dtype)
