"""Images that come one after another: entries of an LMDB, members of tar archives, rows of a published data set.

What cannot be listed cheaply, or reached in any order, is read in its own order, from any place in it on; so neither
the names nor the images of a large collection are ever in memory together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from diffae.data.formats.stacks import is_stack
from diffae.data.labels import LabelTable
from diffae.data.pack import Pack
from diffae.data.sources import hub, lmdb_files, webdataset
from diffae.data.sources.files import Source, is_pack, open_source
from diffae.data.sources.items import Item
from diffae.errors import DataError


@runtime_checkable
class Stream(Protocol):
    """Images in an order of their own."""

    path: Path
    count: int | None
    """How many there are, where that is known."""
    columns: tuple[str, ...]
    """What is known about each image."""

    def items(self, start: int = 0) -> Iterator[Item]:
        """The images from number `start` on."""
        ...

    def fingerprint(self) -> Iterator[tuple]:
        """What changes when the content changes, as of a Source."""
        ...


def open_images(path: str | Path, channels: int = 3) -> Source | Stream:
    """Whatever holds images: see `files.open_source` for what can be listed, and below for the rest.

    An LMDB (its folder, or a single file), WebDataset shards (a .tar, a folder of them, or a pattern like
    shard-{0000..0099}.tar), `hf://owner/name` (see `diffae.data.sources.hub`), or a pack with labels.

    Raises:
        DataError: nothing there, something else, or no images in it.
        ConfigError: a library that reads it is not installed.
    """
    path = Path(path)
    if is_pack(path) and (table := Pack.open(path).labels) is not None:
        return Labelled(open_source(path), table)
    return _open_stream(path) or open_source(path, channels)


def open_listed(path: str | Path, channels: int = 3) -> Source:
    """As `diffae.data.sources.files.open_source`, with a remedy for images that can only be read in their own order."""
    if _open_stream(Path(path)):
        remedy = f"make a pack of it first: diffae data prepare images {path} --size N --out PACK"
        raise DataError(f"images {path}: can only be read one after another, here they must be listed; {remedy}")
    return open_source(path, channels)


def is_there(path: Path) -> bool:
    """Whether a path that `open_images` takes names anything; what is on the Hub is not looked for."""
    if path.exists() or hub.is_address(path) or any(map(is_stack, path.parents)):  # FILE/ARRAY
        return True
    try:
        return bool(webdataset.find_shards(path))
    except DataError:
        return False


def _open_stream(path: Path) -> Stream | None:
    if hub.is_address(path):
        return hub.HubStream(path)
    if lmdb_files.is_lmdb(path):
        return lmdb_files.open_lmdb(path)
    shards = webdataset.find_shards(path)
    return webdataset.TarStream(path, shards) if shards else None


def items_of(images: Source | Stream, start: int = 0) -> Iterator[Item]:
    """The images from number `start` on, of either kind."""
    if isinstance(images, Stream):
        return images.items(start)
    names = images.names
    return (Item(names[index], partial(images.read, index)) for index in range(start, len(names)))


def count_of(images: Source | Stream) -> int | None:
    """How many images there are, where that is known."""
    return images.count if isinstance(images, Stream) else len(images.names)


class Labelled:
    """Images with what a table knows about them.

    Args:
        images: where they come from.
        table: its names are those of the images.
        key: what of a name of either must agree.
    """

    def __init__(self, images: Source | Stream, table: LabelTable, key: Callable[[str], str] = str) -> None:
        self.path = images.path
        self.count: int | None = count_of(images)
        self.columns: tuple[str, ...] = table.columns
        self._images, self._table, self._key = images, table, key
        self._rows = {key(name): row for row, name in enumerate(table.names)}

    def items(self, start: int = 0) -> Iterator[Item]:
        """See Stream; labels that a stream has itself give way."""
        unknown = ("",) * len(self.columns)
        for item in items_of(self._images, start):
            row = self._rows.get(self._key(item.name))
            yield item._replace(labels=unknown if row is None else self._table.cells(self._table.values[row].tolist()))

    def fingerprint(self) -> Iterator[tuple]:
        """The images', after the table's."""
        values = hashlib.sha256(np.ascontiguousarray(self._table.values).tobytes())
        yield self.columns, hashlib.sha256("\n".join(self._table.names).encode()).hexdigest(), values.hexdigest()
        yield from self._images.fingerprint()
