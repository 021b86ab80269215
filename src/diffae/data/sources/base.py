"""What a source of images is, and what sources share."""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Real

from diffae.data.images import ImageSpec, decode_image
from diffae.data.label_frames import check_columns
from diffae.data.labels import LabelTable
from diffae.errors import DataError

_log = logging.getLogger(__name__)


class Item(NamedTuple):
    """One image of a source, which may not be decoded yet."""

    name: str
    read: Callable[[ImageSpec], Real[np.ndarray, "h w c"]]
    """Makes the image to a specification, on any thread. Raises DataError if it is damaged or cannot be made so."""
    labels: tuple[str, ...] = ()
    """Its labels as the cells of a CSV under the source's columns, "" if unknown."""


@runtime_checkable
class Source(Protocol):
    """Images in a fixed order, read from any position on.

    To add a kind of source, write a module with such a class and a function `find(path, channels)` that returns one, or
    None for a path of another kind, and name it in `diffae.data.sources.KINDS`.
    """

    path: Path
    """Where the images are: error messages name it, and its stem names the pack."""
    count: int | None = None
    """Number of images, if it is known."""
    columns: tuple[str, ...] = ()
    """Names of the labels of each image."""

    def items(self, start: int = 0) -> Iterator[Item]:
        """The images from number `start` on."""
        ...

    def fingerprint(self) -> Iterator[tuple]:
        """Facts that change when the content changes, as JSON has them: one entry per image, file or archive."""
        ...


class ListedSource(Source):
    """Base of sources that know all names and read images in any order. Can be pickled and used by several threads.

    Args:
        path: see Source.
        names: paths relative to the source, with forward slashes, sorted; for arrays the index as eight digits.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path, self.names, self.count = path, names, len(names)

    def read(self, index: int, spec: ImageSpec) -> Real[np.ndarray, "h w c"]:
        """Make the image called names[index] to the specification.

        Raises:
            DataError: it is damaged or cannot be made so.
        """
        raise NotImplementedError

    def items(self, start: int = 0) -> Iterator[Item]:
        return (Item(self.names[index], partial(self.read, index)) for index in range(start, len(self.names)))


class Labelled(Source):
    """A source whose labels come from a table; labels of its own are dropped.

    Args:
        images: the source.
        table: found by the names of the images, as `LabelTable.finder` does.
    """

    def __init__(self, images: Source, table: LabelTable) -> None:
        self.path, self.count, self.columns = images.path, images.count, table.columns
        self.images, self._table = images, table

    def items(self, start: int = 0) -> Iterator[Item]:
        row_of = self._table.finder()
        unknown = ("",) * len(self.columns)
        for item in self.images.items(start):
            row = row_of(item.name)
            yield item._replace(labels=unknown if row is None else self._table.cells(self._table.values[row].tolist()))

    def fingerprint(self) -> Iterator[tuple]:
        """Columns and digests of the table, then the fingerprint of the images."""
        values = hashlib.sha256(np.ascontiguousarray(self._table.values).tobytes())
        yield self.columns, hashlib.sha256("\n".join(self._table.names).encode()).hexdigest(), values.hexdigest()
        yield from self.images.fingerprint()


class LabelCells:
    """Turns the labels of items into cells under fixed columns.

    Args:
        path: of the source, for messages.
        first: the labels of the first items; their keys become the columns. Later keys are dropped, with one warning.
    """

    def __init__(self, path: Path, first: Iterable[Mapping[str, str]]) -> None:
        first = list(first)
        self._path, self._looked_at = path, len(first)
        self._columns = columns_of(dict.fromkeys(key for labels in first for key in labels))
        self.columns = tuple(self._columns.values())
        self._warned = False

    def of(self, name: str, labels: Mapping[str, str]) -> tuple[str, ...]:
        """The cells of the item called `name`; "" for labels it does not have."""
        unknown = [key for key in labels if key not in self._columns]
        if unknown and not self._warned:
            what = f"label {unknown[0]!r}, which none of the first {self._looked_at} samples has"
            _log.warning("images %s: %s has the %s; such labels are left out", self._path, name, what)
            self._warned = True
        return tuple(labels.get(key, "") for key in self._columns)


def columns_of(keys: Iterable[str]) -> dict[str, str]:
    """The column of a CSV for each key: white space and separators become spaces, repeated names get a number.

    Raises:
        DataError: too many of them.
    """
    columns: dict[str, str] = {}
    taken: Counter[str] = Counter()
    for key in keys:
        name = column = " ".join(re.split(r"[\s,;]+", _encodable(key))).strip()
        while taken[column]:
            taken[name] += 1
            column = f"{name} {taken[name]}"
        taken[column] = 1
        columns[key] = column
    check_columns(len(columns))
    return columns


def _encodable(text: str) -> str:
    """Text without lone surrogates, which JSON can state and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def cell_of(value: float | str | None) -> str:
    """A word, number or truth value as a cell of a CSV; "" for None and numbers that are not finite."""
    if isinstance(value, str):
        return " ".join(_encodable(value).split())
    text = str(int(value) if isinstance(value, bool) else value)
    return text if value is not None and math.isfinite(float(text)) else ""


def encoded(data: bytes, name: str, labels: tuple[str, ...] = ()) -> Item:
    """An item from the bytes of an image file."""
    return Item(name, partial(decode_image, data, name), labels)


def failed(name: str, error: str) -> Item:
    """An item whose `read` raises a DataError."""

    def read(_: ImageSpec) -> np.ndarray:
        raise DataError(error)

    return Item(name, read)


def stamp(file: Path) -> tuple[int, int]:
    """Size in bytes and modification time in nanoseconds."""
    facts = file.stat()
    return facts.st_size, facts.st_mtime_ns
