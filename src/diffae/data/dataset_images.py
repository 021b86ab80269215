"""A torch Dataset as training data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from jaxtyping import Integer, UInt
from PIL import Image
from torch import Tensor

from diffae.data.arrays import RowNames
from diffae.data.formats.pictures import from_pillow
from diffae.data.image_set import ImageSet
from diffae.errors import DataError

_KEYED = 8  # images whose content is part of the key
_OUTSIDE = 1e-3  # how far beyond [-1, 1] a float image may lie: rounding of lower precisions
_RULE = (
    "must be a Pillow image, a uint8 or uint16 array (h, w) or (h, w, c), or a float tensor (c, h, w) in [-1, 1], "
    'alone, first in a tuple, or under "image" in a dict; convert it in the dataset'
)


class DatasetImages(ImageSet):
    """The images of a map-style `torch.utils.data.Dataset`, as training takes them (see `ImageSet`).

    All images must be square, of one size, number of channels and type. Nothing is scaled or cropped. Float images are
    stored as uint16, which represents 8-bit images exactly. Training is reproducible only as far as the dataset is: an
    item that draws random numbers makes every epoch different. Build a pack instead (`diffae.data.build_pack`) if
    decoding is slower than training.

    Args:
        dataset: has `__len__` and `__getitem__`. An item is an image, or a tuple or list with the image first, or a
            dict with it under "image": a Pillow image, a uint8 or uint16 array (h, w) or (h, w, c), or a float tensor
            (c, h, w) in [-1, 1].
        names: one for each image, by which the validation images are chosen; by default the index as eight digits.
        key: identifies the content; by default a hash of the length and of a few images.
        workers: threads that read items; 0 reads in the caller's thread, for datasets that are not thread-safe.
    Raises:
        DataError: an empty dataset, a wrong number of names, or a first image of a wrong type or shape. `fetch` raises
            it for other images.
    """

    def __init__(
        self, dataset: Any, names: Sequence[str] | None = None, key: str | None = None, workers: int = 0
    ) -> None:
        kind = type(dataset).__name__
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise DataError(f"dataset is a {kind}, it must have a length and items by index; use a map-style Dataset")
        if not len(dataset):
            raise DataError(f"dataset {kind} is empty, at least one image is needed; check where its files are")
        if names is not None and len(names) != len(dataset):
            raise DataError(f"got {len(names)} names for {len(dataset)} images; give one for each")
        self.dataset = dataset
        self.names: Sequence[str] = names if names is not None else RowNames(range(len(dataset)))
        self._workers = workers
        self._expected: tuple[tuple[int, ...], np.dtype] | None = None  # shape and type of an image
        first = self._read(0)
        if first.shape[0] != first.shape[1]:
            raise DataError(f"dataset image 0 has shape {first.shape}, it must be square; crop it in the dataset")
        self._expected = first.shape, first.dtype
        self.index: Mapping[str, Any] = {"key": key or self._hash(), "source": kind, "skipped": []}

    @property
    def shape(self) -> tuple[int, ...]:
        assert self._expected is not None
        return len(self.names), *self._expected[0]

    @property
    def dtype(self) -> np.dtype:
        assert self._expected is not None
        return self._expected[1]

    def fetch(self, indices: Integer[np.ndarray, " k"]) -> UInt[np.ndarray, "k h w c"]:
        """Read the images at these indices, 0..len - 1, into a new array.

        Raises:
            IndexError: an index outside this range.
            DataError: an image that differs from the first in size, channels or type.
        """
        if len(indices) and (indices.min() < 0 or indices.max() >= len(self)):
            raise IndexError(f"indices must lie in 0..{len(self) - 1}, got {indices.min()}..{indices.max()}")
        if not self._workers:
            images = [self._read(index) for index in indices.tolist()]
        else:
            with ThreadPoolExecutor(self._workers) as pool:
                images = list(pool.map(self._read, indices.tolist()))
        return np.stack(images) if images else np.empty((0, *self.shape[1:]), self.dtype)

    def _read(self, index: int) -> UInt[np.ndarray, "h w c"]:
        """One image, checked against the first."""
        try:
            pixels = _pixels(_image_of(self.dataset[index]))
        except DataError as error:
            raise DataError(f"dataset image {index} {error}") from None
        except OSError as error:
            raise DataError(f"dataset image {index} cannot be read ({error}); check the dataset's files") from None
        if self._expected not in (None, (pixels.shape, pixels.dtype)):
            first = f"the first is {self.dtype} of shape {self.shape[1:]}"
            what = f"is {pixels.dtype} of shape {pixels.shape}"
            raise DataError(f"dataset image {index} {what}, {first} and all must be alike; convert it in the dataset")
        return pixels

    def _hash(self) -> str:
        digest = hashlib.sha256(f"{self.shape} {self.dtype}".encode())
        digest.update("\n".join(self.names).encode("utf-8", "surrogateescape"))
        for index in np.unique(np.linspace(0, len(self) - 1, _KEYED).astype(int)).tolist():
            digest.update(self._read(index).tobytes())
        return digest.hexdigest()


def _image_of(item: Any) -> Any:
    if isinstance(item, (tuple, list)) and item:
        return item[0]
    if isinstance(item, Mapping):
        if "image" not in item:
            raise DataError(f'is a dict with the keys {", ".join(map(str, item))}, it must have "image"; name it so')
        return item["image"]
    return item


def _pixels(image: Any) -> UInt[np.ndarray, "h w c"]:
    """An image of any of the accepted types as uint8 or uint16 (h, w, c)."""
    if isinstance(image, Image.Image):
        pixels = np.asarray(from_pillow(image).pixels)
    elif isinstance(image, Tensor):
        pixels = _from_tensor(image)
    elif isinstance(image, np.ndarray):
        pixels = image[..., None] if image.ndim == 2 else image
    else:
        raise DataError(f"is a {type(image).__name__}, it {_RULE}")
    if pixels.dtype not in ("uint8", "uint16") or pixels.ndim != 3 or 0 in pixels.shape:
        raise DataError(f"is {pixels.dtype} of shape {pixels.shape}, it {_RULE}")
    return pixels


def _from_tensor(image: Tensor) -> np.ndarray:
    """float (c, h, w) in [-1, 1] => uint16 (h, w, c) in [0, 65535]; 8-bit values k / 127.5 - 1 become exactly 257 k."""
    if not image.is_floating_point() or image.ndim != 3:
        raise DataError(f"is a {image.dtype} tensor of shape {tuple(image.shape)}, it {_RULE}")
    low, high = image.detach().aminmax()
    if not (low >= -1 - _OUTSIDE and high <= 1 + _OUTSIDE):  # also false for NaN
        span = f"{low.item():.4g}..{high.item():.4g}"
        raise DataError(f"spans {span}, a float tensor must lie in [-1, 1]; normalise it in the dataset")
    unit = (image.detach().cpu().double().clamp(-1, 1) + 1) / 2
    return (unit * 65535).round().to(torch.int32).permute(1, 2, 0).cpu().numpy().astype(np.uint16)
