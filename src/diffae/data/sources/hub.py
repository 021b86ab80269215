"""Images of data sets on the Hugging Face Hub: hf://owner/name, read through the datasets library.

    hf://owner/name?config=CONFIG&split=SPLIT&image=COLUMN

By default the split is "train" or the only one, and the images are the first column of images.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import parse_qsl

import numpy as np
from jaxtyping import UInt

from diffae.data.formats.base import library
from diffae.data.images import ImageSpec, decode_image
from diffae.data.sources.base import Item, Source, cell_of, columns_of
from diffae.errors import DataError

_ADDRESS = re.compile(r"hf:[/\\]{1,2}([^/\\?]+(?:[/\\][^/\\?]+)?)(?:\?(.*))?")  # a Path folds or turns the slashes
_OPTIONS = {"config", "split", "image"}
_MOST_CACHED = 4 * 10**9  # bytes; larger data sets, and those of unknown size, are streamed


def find(path: Path, channels: int) -> HubSource | None:
    """The data set that hf://... names."""
    return HubSource(path) if is_address(path) else None


def is_address(path: Path) -> bool:
    """Whether a path is meant as hf://..."""
    return str(path).startswith("hf:")


class HubSource(Source):
    """Rows of one split of a data set.

    Data sets of up to 4 GB are downloaded into the cache of the datasets library; larger ones, and those of unknown
    size, are streamed and never stored. No code of a data set is run. Names are the row numbers as eight digits.
    Columns of classes, numbers and truth values are labels.

    Raises:
        DataError: an invalid address, nothing there, or no column of images.
        ConfigError: the library datasets is not installed.
    """

    def __init__(self, path: Path) -> None:
        self._datasets = library("datasets", "datasets", f"images {path}")
        name, options = _parse(path)
        self.path = path
        with _explained(path):
            self._datasets.disable_progress_bars()
            self._builder = self._datasets.load_dataset_builder(name, options.get("config"))
            self._rows = self._open(options.get("split"))
        features = self._rows.features or {}
        self._image = _image_column(features, self._datasets.Image, options.get("image"), path)
        self._kinds = {key: kind for key, kind in features.items() if key != "file" and _is_label(kind, self._datasets)}
        self.columns = tuple(columns_of(self._kinds).values())

    def _open(self, split: str | None) -> Any:
        builder = self._builder
        if (builder.info.dataset_size or _MOST_CACHED + 1) > _MOST_CACHED:
            splits = builder.as_streaming_dataset()
        else:
            builder.download_and_prepare()
            splits = builder.as_dataset()
        split = split or ("train" if "train" in splits or len(splits) > 1 else next(iter(splits)))
        if split not in splits:
            raise DataError(f"images {self.path}: has no split {split!r}; add ?split= one of {', '.join(splits)}")
        stated = (builder.info.splits or {}).get(split)
        self.count = stated.num_examples if stated else None
        self._split = split
        return splits[split]

    def items(self, start: int = 0) -> Iterator[Item]:
        with _explained(self.path):
            rows = self._rows.cast_column(self._image, self._datasets.Image(decode=False)).skip(start)
            for number, row in enumerate(rows, start):
                labels = tuple(_cell(row[key], kind) for key, kind in self._kinds.items())
                name = f"{number:08d}"
                yield Item(name, partial(_read, row[self._image], name), labels)

    def fingerprint(self) -> Iterator[tuple]:
        """Name and hash of the data set (the hash depends on its revision), the split and the column of images."""
        yield self._builder.repo_id or str(self._builder.base_path), self._builder.hash, self._split, self._image


def _parse(path: Path) -> tuple[str, dict[str, str]]:
    parts = _ADDRESS.fullmatch(str(path))
    options = dict(parse_qsl(parts[2] or "", keep_blank_values=True)) if parts else {}
    if not parts or not set(options) <= _OPTIONS:
        rule = "must be hf://owner/name, with ?config=...&split=...&image=... if needed"
        raise DataError(f"images {path}: {rule}; correct it")
    return parts[1].replace("\\", "/"), options


def _image_column(features: Any, image: type, wanted: str | None, path: Path) -> str:
    names = [name for name, kind in features.items() if isinstance(kind, image)]
    wanted = wanted or next(iter(names), None)
    if wanted not in names:
        missing = f"no column {wanted!r} of images" if wanted else "no column of images"
        raise DataError(f"images {path}: has {missing}, its columns are {', '.join(features)}; choose another data set")
    return str(wanted)


def _is_label(kind: Any, datasets: Any) -> bool:
    number = isinstance(kind, datasets.Value) and kind.dtype.startswith(("int", "uint", "float", "bool"))
    return number or isinstance(kind, datasets.ClassLabel)


def _cell(value: Any, kind: Any) -> str:
    names = getattr(kind, "names", None)
    if value is None or (names and value < 0):  # -1 is an unknown class
        return ""
    return names[value] if names else cell_of(value)


def _read(stored: dict[str, Any] | None, name: str, spec: ImageSpec) -> UInt[np.ndarray, "h w c"]:
    """Decode the content of a row: the bytes of an image file, or its path."""
    if stored is None:
        raise DataError(f"image {name}: the row holds no image; remove it")
    data = stored["bytes"]
    if data is None:
        import fsspec

        try:
            with fsspec.open(stored["path"], "rb") as file:
                data = cast(IO[bytes], file).read()
        except OSError as error:
            raise DataError(f"image {name}: cannot be read ({error}); try again") from None
    return decode_image(data, name, spec)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn errors of the datasets library, the network and the files into one line."""
    try:
        yield
    except (DataError, GeneratorExit):
        raise
    except Exception as error:  # of many kinds, and many lines
        reason = " ".join(str(error).split())
        raise DataError(f"images {path}: cannot be read ({reason}); check the name, the network and access") from None
