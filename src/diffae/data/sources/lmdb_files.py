"""Images in LMDB files: any that hold encoded images, LSUN's, and those of the published repository."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from diffae.data.formats.stacks import library
from diffae.data.sources.items import Item, encoded, failed
from diffae.errors import DataError

_NUMBERED = re.compile(rb"(None|\d+)-(\d+)")  # resolution ("None": the original's) and number, with leading zeros
_LENGTH = b"length"
_NOT_IMAGES = (_LENGTH, b"num-samples", b"__len__", b"__keys__")
_HEADER, _BRANCH, _BIG = 16, 1, 1  # of a page: bytes of its header, flag of its kind; flag of a long value
_MAPPED = 4096  # entries read before the file is opened anew: touched pages of its map count as this process's memory


def is_lmdb(path: Path) -> bool:
    """Whether a folder holds an LMDB, or a file is called one."""
    return (path / "data.mdb").is_file() or (path.suffix.lower() in (".lmdb", ".mdb") and path.is_file())


def open_lmdb(path: Path, size: int | None = None) -> LmdbStream:
    """The images of an LMDB, whose values are image files, whatever the keys.

    The published repository's have keys `RESOLUTION-NUMBER`, as in "256-00000", and their count under "length". Where
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
        return LmdbStream(path, count)
    if length is None or not length.isdigit():
        raise DataError(f"images {path}: its length is {length!r}, it must be a number; make the LMDB again")
    enough = [side for side in found if side >= (size or 0)]
    resolution = min(enough) if size and enough else max(found)
    return NumberedLmdb(path, int(length), *found[resolution])


class LmdbStream:
    """Entries of an LMDB in the order of their keys."""

    columns: tuple[str, ...] = ()

    def __init__(self, path: Path, count: int) -> None:
        self.path = path
        self.count: int | None = count

    def items(self, start: int = 0) -> Iterator[Item]:
        """See Stream. Names are the keys, in hexadecimal digits where a key is not printable."""
        last, before = None, start
        while True:
            with _reading(self.path) as transaction:
                cursor = transaction.cursor()
                if not (cursor.first() if last is None else cursor.set_range(last + b"\0")):
                    return
                for key in islice(cursor.iternext(values=False), _MAPPED):
                    last = key
                    if key in _NOT_IMAGES:
                        continue
                    if before:
                        before -= 1
                    else:
                        yield encoded(cursor.value(), _printable(key))

    def fingerprint(self) -> Iterator[tuple]:
        """Size and modification time in nanoseconds of the file."""
        file = self.path / "data.mdb" if self.path.is_dir() else self.path
        facts = file.stat()
        yield self.path.name, facts.st_size, facts.st_mtime_ns


class NumberedLmdb(LmdbStream):
    """An LMDB of the published repository.

    Args:
        path: folder or file.
        count: how many images it says it has.
        prefix: what stands before the number in a key, for instance b"256-".
        digits: how many the number has.
    """

    def __init__(self, path: Path, count: int, prefix: bytes, digits: int) -> None:
        super().__init__(path, count)
        self.prefix, self.digits = prefix, digits
        self.name: Callable[[int], str] = lambda number: self._key(number).decode()
        """The name of an image by its number; its key, where the data set is not known."""

    def _key(self, number: int) -> bytes:
        return self.prefix + str(number).zfill(self.digits).encode()

    def items(self, start: int = 0) -> Iterator[Item]:
        """See Stream."""
        assert self.count is not None
        for first in range(start, self.count, _MAPPED):
            with _reading(self.path) as transaction:
                for number in range(first, min(first + _MAPPED, self.count)):
                    key = self._key(number)
                    data = transaction.get(key)
                    if data is None:
                        yield failed(self.name(number), f"is missing from the LMDB (key {key.decode()}); get it whole")
                    else:
                        yield encoded(data, self.name(number))


def _resolutions(transaction: Any) -> dict[int, tuple[bytes, int]]:
    """Prefix and digits of the numbered keys by resolution, the original's being 0; nothing where others are among."""
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
            more = cursor.set_range(resolution + b".")  # "." follows "-": the first key after this resolution's
        else:
            return {}
    return found


def _printable(key: bytes) -> str:
    text = key.decode("ascii", "replace")
    return text if text.isascii() and text.isprintable() else key.hex()


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    """A transaction that reads an LMDB, which is open only meanwhile."""
    lmdb = library("lmdb", "lmdb", f"images {path}")
    try:
        environment = lmdb.open(
            str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False, max_readers=1
        )
        with environment:
            _check_length(environment, path)
            with environment.begin() as transaction:
                yield transaction
    except lmdb.Error as error:
        raise DataError(f"images {path}: is not a whole LMDB ({error}); get it again") from None


def _check_length(environment: Any, path: Path) -> None:
    """Raise `DataError` where pages in use lie beyond the end of the file: touching one would end the process."""
    file = path / "data.mdb" if path.is_dir() else path
    page, pages = environment.stat()["psize"], environment.info()["last_pgno"] + 1
    there = file.stat().st_size // page
    if there >= pages:
        return
    try:  # pages that were taken and given back at once are never written
        whole = sum(number >= there for number in _free_pages(file, page)) == pages - there
    except (EOFError, struct.error):
        whole = False
    if not whole:
        raise DataError(f"images {path}: is not a whole LMDB (it has {there} of {pages} pages); get it again")


def _free_pages(file: Path, size: int) -> Iterator[int]:
    """Numbers of the pages that an LMDB does not use: the values of a tree of its own, which LMDB shows to nobody.

    Args:
        file: the data file.
        size: bytes of a page.
    Raises:
        EOFError: the tree is not all in the file.
    """
    with file.open("rb") as data:

        def read(number: int, length: int = size) -> bytes:
            data.seek(number * size)
            found = data.read(length)
            if len(found) < length:
                raise EOFError
            return found

        newest = max(read(0), read(1), key=lambda meta: struct.unpack_from("=Q", meta, 144))  # by transaction
        (root,) = struct.unpack_from("=Q", newest, 80)
        trees = [root] if root != 2**64 - 1 else []
        while trees:
            page = read(trees.pop())
            flags, lower = struct.unpack_from("=HH", page, 10)
            for at in struct.unpack_from(f"={(lower - _HEADER) // 2}H", page, _HEADER):
                low, high, kind, key = struct.unpack_from("=4H", page, at)
                if flags & _BRANCH:
                    trees.append(low | high << 16 | kind << 32)
                    continue
                value = page[at + 8 + key :]
                if kind & _BIG:  # on pages of its own, after their header
                    (number,) = struct.unpack_from("=Q", value)
                    value = read(number, _HEADER + (low | high << 16))[_HEADER:]
                (count,) = struct.unpack_from("=Q", value)
                yield from struct.unpack_from(f"={count}Q", value, 8)
