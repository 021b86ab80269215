"""The one place for value ranges, and for making an image what a model takes.

An image is uint8 [0, 255] or uint16 [0, 65535] in files and arrays, (h, w, c), and float32 [-1, 1] in tensors,
(b, c, h, w).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt
from PIL import Image
from torch import Tensor

from diffae.config import WHITE, Crop, InputConfig
from diffae.errors import ConfigError, DataError
from diffae.image_files import SUFFIXES, Picture, from_array, from_pillow, read_picture, write_image

__all__ = [
    "SUFFIXES", "WHITE", "Crop", "ImageLike", "ImageSpec", "as_batch", "decode_image", "fit_picture", "grid",
    "load_image", "read_ready", "save_image", "to_float", "to_tensor", "to_uint8", "to_uint16", "to_unit",
]  # fmt: skip

ImageLike = Image.Image | str | Path | np.ndarray | Tensor

_OUTSIDE = 1e-3  # how far beyond [-1, 1] a float image may lie: rounding of lower precisions
_LUMA = np.array((0.299, 0.587, 0.114), dtype=np.float32)  # ITU-R BT.601, as Pillow and JPEG define gray

save_image = write_image


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

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise ConfigError(f"channels is {self.channels}, it must be at least 1; use 1 for gray or 3 for RGB")
        if self.size is not None and self.size < 1:
            raise ConfigError(f"size is {self.size}, it must be at least 1 pixel; use for instance 64")
        InputConfig(self.crop, self.background)  # has their rules

    @property
    def box(self) -> tuple[int, int, int, int] | None:
        """The crop as numbers."""
        return InputConfig(self.crop, self.background).box


def load_image(
    path: str | Path,
    channels: int = 3,
    size: int | None = None,
    *,
    crop: Crop | None = None,
    background: tuple[int, int, int] = WHITE,
) -> UInt[np.ndarray, "h w c"]:
    """Read one image file upright, as uint8 or (from 16-bit files) uint16; the arguments are those of ImageSpec.

    Raises:
        DataError: a file that is missing, damaged, not an image, too large, of other channels, or outside the crop.
        ConfigError: an argument its rule forbids.
    """
    return _load(path, ImageSpec(channels, size, crop, background))


def _load(path: str | Path, spec: ImageSpec) -> UInt[np.ndarray, "h w c"]:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"image {path}: cannot be opened ({error.strerror}); check the path") from None
    return decode_image(data, str(path), spec)


def decode_image(data: bytes, name: str, spec: ImageSpec) -> UInt[np.ndarray, "h w c"]:
    """As `load_image`, from the bytes of a file that error messages call `name`."""
    smallest = spec.size if spec.crop is None else None  # a crop is in pixels of the full image
    return fit_picture(read_picture(data, name, spec.channels, smallest), name, spec)


def fit_picture(picture: Picture, name: str, spec: ImageSpec) -> UInt[np.ndarray, "h w c"]:
    """Crop, put over the background, scale and convert to the wanted channels.

    Raises:
        DataError: a crop that reaches outside the image, or channels that cannot become the wanted ones.
    """
    pixels, bands = picture
    if spec.box is not None:
        pixels = _cut(pixels, spec.box, name)
    if spec.size is not None:
        pixels = _centre_square(pixels)
    if bands in ("LA", "RGBA") and pixels.shape[2] != spec.channels:
        pixels, bands = _flatten(pixels, spec.background), bands[:-1]
    if spec.size is not None:
        pixels = _resize(pixels, spec.size)
    return np.ascontiguousarray(_match_channels(pixels, bands, name, spec.channels))


def _cut(pixels: np.ndarray, box: tuple[int, int, int, int], name: str) -> np.ndarray:
    left, top, right, bottom = box
    height, width = pixels.shape[:2]
    if right > width or bottom > height:
        raise DataError(f"image {name}: is {width}x{height}, the crop {box} must lie inside; change or drop the crop")
    return pixels[top:bottom, left:right]


def _centre_square(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def _flatten(pixels: np.ndarray, background: tuple[int, int, int]) -> np.ndarray:
    """(h, w, c + alpha) over the background => (h, w, c)."""
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
        return np.rint(pixels @ _LUMA).astype(pixels.dtype)[..., None]
    raise DataError(f"image {name}: has {have} channels, {channels} are wanted; set channels to {have} or convert it")


def _resize(pixels: np.ndarray, size: int) -> np.ndarray:
    """A square to (size, size, c) by Lanczos, antialiased; 16-bit samples go through float32 and keep their depth."""
    if pixels.shape[0] == size:
        return pixels
    depth = np.iinfo(pixels.dtype)
    if pixels.dtype == np.uint8 and pixels.shape[2] == 3:
        return np.asarray(_lanczos(pixels, size))
    planes = [pixels[..., channel] for channel in range(pixels.shape[2])]
    if pixels.dtype == np.uint16:
        planes = [plane.astype(np.float32) for plane in planes]
    scaled = np.stack([np.asarray(_lanczos(plane, size)) for plane in planes], axis=2)
    return np.rint(scaled).clip(depth.min, depth.max).astype(pixels.dtype)


def _lanczos(plane: np.ndarray, size: int) -> Image.Image:
    # reducing_gap: large images are first averaged over whole boxes, to no less than 3 times the wanted size
    image = Image.fromarray(np.ascontiguousarray(plane))
    return image.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0)


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
    rows = np.stack([from_array(image).pixels for image in images])
    return to_float(torch.from_numpy(np.ascontiguousarray(rows.transpose(0, 3, 1, 2))))


def to_unit(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """float [-1, 1] => float [0, 1], clamped: the range in which errors are measured."""
    return ((x + 1) / 2).clamp(0, 1)


def to_uint8(x: Float[Tensor, "b c h w"]) -> UInt[np.ndarray, "b h w c"]:
    """float [-1, 1] => uint8 [0, 255], clamped and rounded."""
    return (to_unit(x.detach().float()) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def to_uint16(x: Float[Tensor, "b c h w"]) -> UInt[np.ndarray, "b h w c"]:
    """float [-1, 1] => uint16 [0, 65535], clamped and rounded."""
    return (to_unit(x.detach().float()) * 65535).round().to(torch.uint16).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def read_ready(read: Callable[[ImageSpec], np.ndarray], spec: ImageSpec) -> UInt[np.ndarray, "h w c"]:
    """An image for a model, by a function that makes it to a specification.

    One too small for the crop that has the model's size already is taken as it is: it has been cropped before.
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
) -> Float[Tensor, "b c h w"]:
    """Whatever a user holds, as a batch in [-1, 1] for a model of that size and number of channels.

    Args:
        images: a Pillow image, a path, a uint8 or uint16 array (h, w), (h, w, c) or (b, h, w, c), a float tensor
            (c, h, w) or (b, c, h, w) in [-1, 1], or a list of these. All but tensors are cropped, then
            centre-cropped and scaled, gray and RGB converted into each other, transparency put over the background.
        size: side of the square in pixels.
        channels: the model's channels.
        crop, background: see ImageSpec; an image of the model's size that is too small for the crop is taken as it is.
    Returns:
        (b, channels, size, size) float32; tensors stay on their device, all else is on the CPU.
    Raises:
        DataError: an image that cannot be used, a tensor of another shape, type or range, or an empty list.
    """
    if isinstance(images, (list, tuple)):
        if not images:
            raise DataError("the list of images is empty, at least one is needed; pass an image")
        batches = [as_batch(image, size, channels, crop=crop, background=background) for image in images]
        return torch.cat([batch.to(batches[0].device) for batch in batches])
    if isinstance(images, Tensor):
        return _check_tensor(images, size, channels)
    spec = ImageSpec(channels, size, crop, background)
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
    except OSError as error:  # a file that Pillow opened and reads only now
        raise DataError(f"image given: is damaged or truncated ({error}); replace it") from None
    return read_ready(lambda wanted: fit_picture(picture, "given", wanted), spec)


def _check_tensor(x: Tensor, size: int, channels: int) -> Float[Tensor, "b c h w"]:
    shape = tuple(x.shape)
    x = x[None] if x.ndim == 3 else x
    if tuple(x.shape[1:]) != (channels, size, size) or len(x) == 0:
        rule = f"must have shape (b, {channels}, {size}, {size})"
        raise DataError(f"image tensor of shape {shape} {rule}; resize it, or pass a uint8 array to have that done")
    if not x.is_floating_point():
        raise DataError(f"image tensor is {x.dtype}, it must be float in [-1, 1]; use diffae.images.to_float")
    low, high = x.detach().aminmax()
    if not (low >= -1 - _OUTSIDE and high <= 1 + _OUTSIDE):  # also false for NaN
        span = f"{low.item():.4g}..{high.item():.4g}"
        remedy = "scale it, or where it is only just outside, as decoded images may be, use .clamp(-1, 1)"
        raise DataError(f"image tensor spans {span}, it must lie in [-1, 1]; {remedy}")
    return x.to(torch.float32)


def grid(images: UInt[np.ndarray, "n h w c"], columns: int, gap: int = 2) -> UInt[np.ndarray, "h2 w2 c"]:
    """Images of one size as one picture, row by row, `gap` white pixels apart; empty places stay white."""
    n, h, w, c = images.shape
    rows = -(-n // columns)
    white = np.iinfo(images.dtype).max
    page = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, c), white, images.dtype)
    for i, image in enumerate(images):
        top, left = i // columns * (h + gap), i % columns * (w + gap)
        page[top : top + h, left : left + w] = image
    return page
