"""Images in LMDB files: any that hold encoded images, LSUN's, and those of the published repository."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from diffae.data.formats.base import library
from diffae.data.sources.base import Item, Source, encoded, failed, stamp
from diffae.errors import DataError

_NUMBERED = re.compile(rb"(None|\d+)-(\d+)")  # resolution ("None": the original's) and number, with leading zeros
_LENGTH = b"length"
_NOT_IMAGES = (_LENGTH, b"num-samples", b"__len__", b"__keys__")
_MAPPED = 4096  # entries read before the file is reopened: touched pages of its map count as this process's memory

_READ_ALL = """
import lmdb, sys
with lmdb.open(sys.argv[1], subdir=sys.argv[2] == "True", readonly=True, lock=False) as environment:
    with environment.begin(buffers=True) as transaction:
        for _, value in transaction.cursor():
            bytes(value[-1:])
"""
"""A program that touches the end of every entry, and is killed by the system where the file is cut short."""


def find(path: Path, channels: int) -> LmdbSource | None:
    """The images of an LMDB: a folder with data.mdb, or a file with the suffix .lmdb or .mdb."""
    return open_lmdb(path) if is_lmdb(path) else None


def is_lmdb(path: Path) -> bool:
    """Whether a folder holds an LMDB, or a file has the suffix of one."""
    return (path / "data.mdb").is_file() or (path.suffix.lower() in (".lmdb", ".mdb") and path.is_file())


def open_lmdb(path: Path, size: int | None = None) -> LmdbSource:
    """Open an LMDB whose values are image files, with any keys.

    The published repository uses keys `RESOLUTION-NUMBER`, as in "256-00000", and stores the count under "length". If
    there are several resolutions, the smallest that has `size` pixels is read, or else the largest.

    Raises:
        DataError: not an LMDB, damaged, or without entries.
        ConfigError: the library lmdb is not installed.
    """
    with _reading(path) as transaction:
        length = transaction.get(_LENGTH)
        entries = transaction.stat()["entries"]
        count = entries - sum(transaction.get(key) is not None for key in _NOT_IMAGES)
        found = _resolutions(transaction) if length is not None else {}
    if count < 1:
        raise DataError(f"images {path}: the LMDB holds no images; check the path")
    if not found:
        return LmdbSource(path, count)
    if length is None or not length.isdigit():
        raise DataError(f"images {path}: its length is {length!r}, it must be a number; make the LMDB again")
    enough = [side for side in found if side >= (size or 0)]
    resolution = min(enough) if size and enough else max(found)
    return NumberedLmdb(path, int(length), *found[resolution])


class LmdbSource(Source):
    """Entries of an LMDB in the order of their keys, which are the names; in hexadecimal if not printable."""

    def __init__(self, path: Path, count: int) -> None:
        self.path, self.count = path, count

    def items(self, start: int = 0) -> Iterator[Item]:
        last, to_skip = None, start
        while True:
            with _reading(self.path) as transaction:
                cursor = transaction.cursor()
                if not (cursor.first() if last is None else cursor.set_range(last + b"\0")):
                    return
                for key in islice(cursor.iternext(values=False), _MAPPED):
                    last = key
                    if key in _NOT_IMAGES:
                        continue
                    if to_skip:
                        to_skip -= 1
                    else:
                        yield encoded(cursor.value(), _printable(key))

    def fingerprint(self) -> Iterator[tuple]:
        """Name, size and modification time of the file."""
        yield self.path.name, *stamp(_file(self.path))


class NumberedLmdb(LmdbSource):
    """An LMDB of the published repository.

    Args:
        path: folder or file.
        count: number of images that it states.
        prefix: what precedes the number in a key, for instance b"256-".
        digits: of the number.
    """

    def __init__(self, path: Path, count: int, prefix: bytes, digits: int) -> None:
        super().__init__(path, count)
        self.prefix, self.digits = prefix, digits
        self.name: Callable[[int], str] = lambda number: self._key(number).decode()
        """The name of an image by its number; its key unless the data set is known."""

    def _key(self, number: int) -> bytes:
        return self.prefix + str(number).zfill(self.digits).encode()

    def items(self, start: int = 0) -> Iterator[Item]:
        assert self.count is not None
        for first in range(start, self.count, _MAPPED):
            with _reading(self.path) as transaction:
                for number in range(first, min(first + _MAPPED, self.count)):
                    key, name = self._key(number), self.name(number)
                    data = transaction.get(key)
                    missing = f"image {name}: is missing from the LMDB (key {key.decode()}); get the whole file"
                    yield failed(name, missing) if data is None else encoded(data, name)


def _resolutions(transaction: Any) -> dict[int, tuple[bytes, int]]:
    """Prefix and digits of the numbered keys by resolution, 0 for the original; empty if there are other keys."""
    found: dict[int, tuple[bytes, int]] = {}
    cursor = transaction.cursor()
    more = cursor.first()
    while more:
        key = cursor.key()
        if key == _LENGTH:
            more = cursor.next()
        elif parts := _NUMBERED.fullmatch(key):
            resolution, number = parts.groups()
            found[int(resolution) if resolution != b"None" else 0] = (resolution + b"-", len(number))
            more = cursor.set_range(resolution + b".")  # "." follows "-": the first key after this resolution
        else:
            return {}
    return found


def _printable(key: bytes) -> str:
    text = key.decode("ascii", "replace")
    return text if text.isascii() and text.isprintable() else key.hex()


def _file(path: Path) -> Path:
    return path / "data.mdb" if path.is_dir() else path


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    """Open an LMDB for a transaction that reads it."""
    lmdb = library("lmdb", "lmdb", f"images {path}")
    options = {"subdir": path.is_dir(), "readonly": True, "lock": False, "readahead": False, "max_readers": 1}
    try:
        with lmdb.open(str(path), **options) as environment:
            page, pages = environment.stat()["psize"], environment.info()["last_pgno"] + 1
            size, time = stamp(_file(path))
            # the last pages need not be in the file: some are taken and given back without being written
            if size < pages * page and not _can_be_read(path, size, time):
                have = f"it has {size // page} of {pages} pages"
                raise DataError(f"images {path}: is not a complete LMDB ({have}); get it again")
            with environment.begin() as transaction:
                yield transaction
    except lmdb.Error as error:
        raise DataError(f"images {path}: is not a complete LMDB ({error}); get it again") from None


@lru_cache
def _can_be_read(path: Path, size: int, time: int) -> bool:
    """Whether another process reads all entries; touching a page beyond the end of the file kills it."""
    command = [sys.executable, "-c", _READ_ALL, str(path), str(path.is_dir())]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
