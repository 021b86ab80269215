"""Images of an object of the user's own: `build_pack(MySource(), ...)`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Real
from PIL import Image

from diffae.data.formats.base import from_array
from diffae.data.formats.pictures import from_pillow
from diffae.data.images import ImageSpec, decode_image, fit_picture
from diffae.data.sources.base import Item, LabelCells, Source, cell_of
from diffae.errors import DataError


class KeyedImages(Protocol):
    """The smallest source: an iterable of (name, image) or (name, image, labels), iterated anew for each pass.

    An image is a Pillow image, an array (h, w) or (h, w, c), the bytes of an image file, or its path. Labels map names
    to numbers, truth values, words or None; the names are those of the first item. `len` gives the number of images if
    it is known, and an attribute `name` the name of the pack.
    """

    key: str
    """Changes when the images change."""

    def __iter__(self) -> Iterator[tuple[Any, ...]]: ...


class ObjectSource(Source):
    """The images of a KeyedImages.

    Raises:
        DataError: no string `key`, not an iterable, or a first item of another form.
    """

    def __init__(self, images: KeyedImages) -> None:
        kind = type(images).__name__
        if not isinstance(getattr(images, "key", None), str) or not isinstance(images, Iterable):
            rule = "must be a path or an object with a string `key` that yields (name, image, labels)"
            raise DataError(f"images are a {kind}, they {rule}; add what is missing")
        self.path = Path(str(getattr(images, "name", kind)))
        self.count = len(images) if hasattr(images, "__len__") else None  # type: ignore[arg-type]
        self._images: Any = images
        self._cells = LabelCells(self.path, (labels for *_, labels in self._entries(0, 1)))
        self.columns = self._cells.columns

    def items(self, start: int = 0) -> Iterator[Item]:
        for name, image, labels in self._entries(start, None):
            yield Item(name, partial(_read, image, name), self._cells.of(name, labels))

    def fingerprint(self) -> Iterator[tuple]:
        """The object's key."""
        yield (self._images.key,)

    def _entries(self, start: int, stop: int | None) -> Iterator[tuple[str, Any, dict[str, str]]]:
        for number, entry in enumerate(islice(self._images, start, stop), start):
            name, image, labels = (*entry, {})[:3] if isinstance(entry, tuple) and len(entry) in (2, 3) else (None,) * 3
            if not isinstance(name, str) or not isinstance(labels, Mapping):
                what = f"item {number} is a {type(entry).__name__}"
                raise DataError(f"images {self.path}: {what}, it must be (name, image) or (name, image, labels)")
            yield name, image, {str(key): _cell(value, key, name) for key, value in labels.items()}


def _cell(value: Any, key: str, name: str) -> str:
    if value is not None and not isinstance(value, (bool, int, float, str, np.number, np.bool_)):
        rule = "must be a number, a truth value, a word or None"
        raise DataError(f"label {key!r} of {name} is a {type(value).__name__}, it {rule}; convert it")
    return cell_of(value.item() if isinstance(value, np.generic) else value)


def _read(image: Any, name: str, spec: ImageSpec) -> Real[np.ndarray, "h w c"]:
    picture = None
    try:
        if isinstance(image, (str, Path)):
            image = Path(image).read_bytes()
        elif isinstance(image, Image.Image):
            picture = from_pillow(image)
        elif isinstance(image, np.ndarray):
            picture = from_array(image)
    except OSError as error:
        raise DataError(f"image {name}: cannot be opened ({error}); repair or remove it") from None
    except DataError as error:
        raise DataError(f"image {name}: {error}") from None
    if picture is not None:
        return fit_picture(picture, name, spec)
    if isinstance(image, bytes):
        return decode_image(image, name, spec)
    rule = "must be a Pillow image, an array, the bytes of an image file or its path"
    raise DataError(f"image {name}: is a {type(image).__name__}, it {rule}; convert it")
